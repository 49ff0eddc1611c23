"""Sends prompts and says what came of them. The study asks a `Meter`; `LiveMeter` is one that runs `profile` against the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from aiperf.metrics import Floats
from aiperf.studies.bench import Bench
from aiperf.studies.cache.prompts import Prompts, write_trace
from aiperf.studies.measured import Measured

__all__ = ["LiveMeter", "Load", "Meter", "Point"]


@dataclass(frozen=True, kw_only=True)
class Load:
    """`name`: of the run's folder. `warm`: sent before, in a run of its own with one request at a time, so that the measured requests
    meet a cache that holds them. `concurrency` None: the study's own load. `fresh`: reset the server's cache first, where that is known
    to work. `values`: further options of the measured run. `may_fail`: that no request succeeds is as meant.
    """

    name: str
    measured: Prompts
    warm: Prompts | None = None
    concurrency: int | None = None
    fresh: bool = True
    values: Mapping[str, object] = field(default_factory=dict)
    label: str = ""
    may_fail: bool = False


@dataclass(frozen=True, kw_only=True)
class Point:
    """What came of a load. Arrays: (requests,) successful requests in the order of sending; `row`: the request's place in
    `load.measured`. `hit_tokens`: by `usage`, NaN where it does not say.

    `counter_hits`, `counter_queries`, `external_hits`: of the server's counters during the run, tokens; None if it has none.
    `kv_idle`: KV blocks in use when the run began, %, None if the server does not say.
    """

    load: Load
    row: Floats
    hit_tokens: Floats
    prompt_tokens: Floats
    ttft_ms: Floats
    latency_ms: Floats
    failed: int = 0
    duration_s: float = 0.0
    counter_hits: float | None = None
    counter_queries: float | None = None
    external_hits: float | None = None
    kv_idle: float | None = None
    measured: Measured | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        return len(self.row)

    @property
    def total_prompt(self) -> float:
        return float(np.nansum(self.prompt_tokens))

    @property
    def has_usage(self) -> bool:
        return bool(np.isfinite(self.hit_tokens).any())

    @property
    def usage_hits(self) -> float | None:
        """Σ hit tokens by `usage`; None if no request says so."""
        return float(np.nansum(self.hit_tokens)) if self.has_usage else None

    @property
    def hits(self) -> float | None:
        """Σ hit tokens: by `usage`, else by the server's counters; None if neither says."""
        found = self.usage_hits
        if found is not None:
            return found
        if self.counter_hits is None:
            return None
        return self.counter_hits + (self.external_hits or 0.0)

    @property
    def usage_rate(self) -> float | None:
        """0 to 1."""
        found, total = self.usage_hits, self.total_prompt
        return None if found is None or not total else found / total

    @property
    def counter_rate(self) -> float | None:
        """0 to 1, hits ÷ queries."""
        return (
            None if self.counter_hits is None or not self.counter_queries else self.counter_hits / self.counter_queries
        )

    @property
    def rate(self) -> float | None:
        """Hit tokens ÷ prompt tokens by the better source, 0 to 1."""
        found = self.usage_rate
        return self.counter_rate if found is None else found

    @property
    def source(self) -> str:
        return "usage" if self.has_usage else "server metrics" if self.counter_hits is not None else "unknown"

    @property
    def times_ms(self) -> Floats:
        """TTFT, or the request latency where nothing was streamed."""
        return self.ttft_ms if np.isfinite(self.ttft_ms).any() else self.latency_ms

    @property
    def mean_ms(self) -> float:
        return float(np.nanmean(self.times_ms)) if self.count else float("nan")

    @property
    def mean_error_ms(self) -> float:
        """Standard error of the mean; requests in flight together are not independent, so it is a lower bound there."""
        known = self.times_ms[np.isfinite(self.times_ms)]
        return float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")


class Meter(Protocol):
    """Sends a load; None if no request succeeded."""

    def __call__(self, load: Load) -> Point | None: ...


class LiveMeter:
    """Against the server of the bench. `can_reset`: its prefix cache can be reset, and is before each fresh load."""

    def __init__(self, bench: Bench, *, can_reset: bool) -> None:
        self.can_reset = can_reset
        self._bench = bench

    def __call__(self, load: Load) -> Point | None:
        reset = {"endpoint.reset_kv_cache": True} if self.can_reset and load.fresh else {}
        if load.warm is not None:
            warm_name = f"{load.name}-warm"
            # Not run again for a point that is done: only for one that is still to be measured.
            if not self._bench.is_done(load.name):
                one = {"load.concurrency": 1, "load.request_rate": None}
                self._send(warm_name, load.warm, {**one, **reset}, f"{load.label}: filling the cache")
            reset = {}
        values = dict(load.values)
        if load.concurrency is not None:
            values |= {"load.concurrency": load.concurrency, "load.request_rate": None}
        elif not self._bench.config.is_set("load.request_rate"):
            # Said again: of an input file's own pace the concurrency would be none of the study's.
            values["load.concurrency"] = self._bench.config.load.concurrency or 1
        found = self._send(load.name, load.measured, {**values, **reset}, load.label, may_fail=load.may_fail)
        return None if found is None else point_of(load, found)

    def _send(
        self, name: str, prompts: Prompts, values: Mapping[str, object], label: str, *, may_fail: bool = False
    ) -> Measured | None:
        path = self._bench.folder / "workloads" / f"{name}.jsonl"
        if not self._bench.is_done(name):
            write_trace(prompts, path)
        given = {
            "input.input_file": path,
            "input.custom_dataset_type": "mooncake_trace",
            "input.isl_block_size": prompts.block,
            "input.public_dataset": None,
            "input.num_dataset_entries": None,
            "load.request_count": prompts.count,
            "load.benchmark_duration": None,
            "warmup.request_count": None,
            "warmup.duration": None,
            **values,
        }
        return self._bench.measure(name, given, label=label, may_fail=may_fail)


def point_of(load: Load, measured: Measured) -> Point:
    """`Measured` of a run of `load.measured`."""
    row = measured.session.copy()
    if (load.measured.session >= 0).any():
        row = _rows_of_sessions(load.measured, measured)
    return Point(
        load=load,
        row=row,
        hit_tokens=measured.cached_tokens,
        prompt_tokens=measured.prompt_tokens,
        ttft_ms=measured.ttft_ms,
        latency_ms=measured.latency_ms,
        failed=measured.failed,
        duration_s=measured.duration_s,
        counter_hits=measured.counters.get("prefix_cache_hits"),
        counter_queries=measured.counter_queries,
        external_hits=measured.counters.get("external_cache_hits"),
        kv_idle=measured.kv_idle,
        measured=measured,
    )


def _rows_of_sessions(prompts: Prompts, measured: Measured) -> Floats:
    """(requests,) rows of requests that are turns of named sessions, in the file's order within each."""
    order: dict[int, list[int]] = {}
    for row, session in enumerate(prompts.session.tolist()):
        order.setdefault(session, []).append(row)
    sessions = list(order.values())
    return np.array(
        [sessions[int(s)][int(t)] for s, t in zip(measured.session.tolist(), measured.turn.tolist(), strict=True)],
        dtype=float,
    )

"""A run as studies look at it: values per successful request of the measured phase, and what the server counted meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aiperf.metrics import Floats, load_all
from aiperf.metrics.context import MetricContext
from aiperf.metrics.server import ServerView
from aiperf.metrics.summary import phase_mask
from aiperf.run.options import server_view
from aiperf.run.run import Run

__all__ = ["Measured", "measured_of"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Arrays: (requests,) successful requests in the order they were sent, NaN where absent. Times in ms, `start_s` since the first start.

    `session`, `turn`: the request's place in the plan. `prompt_tokens`: the server's count, else the planned one; `cached_tokens`: what
    `usage` says was in the prefix cache. `counters`: growth of the server's counters during the load, by our name (`prefix_cache_hits`,
    `prefix_cache_queries`, `external_cache_hits`, `preemptions`, …); empty without `/metrics`. `failed`: requests that failed.
    `kv_idle`: KV cache in use at the last scrape before the load, %; None if the server does not say.
    """

    name: str
    session: Floats
    turn: Floats
    prompt_tokens: Floats
    cached_tokens: Floats
    output_tokens: Floats
    ttft_ms: Floats
    latency_ms: Floats
    start_s: Floats
    end_s: Floats
    failed: int = 0
    counters: Mapping[str, float] = field(default_factory=dict)
    server: ServerView | None = field(default=None, repr=False)
    kv_idle: float | None = None
    duration_s: float = 0.0
    verdict: str | None = None
    run: Run | None = field(default=None, repr=False, compare=False)

    @property
    def num_requests(self) -> int:
        return len(self.session)

    @property
    def has_usage(self) -> bool:
        """The server says per request how many prompt tokens were cached."""
        return bool(np.isfinite(self.cached_tokens).any())

    @property
    def usage_hit_rate(self) -> float | None:
        """Σ cached ÷ Σ prompt tokens by `usage`, 0 to 1, over the requests that say both; None if none does."""
        known = np.isfinite(self.cached_tokens) & np.isfinite(self.prompt_tokens)
        total = float(self.prompt_tokens[known].sum())
        return float(self.cached_tokens[known].sum()) / total if total else None

    @property
    def counter_queries(self) -> float | None:
        """Prompt tokens the server looked up: its counter, else hits + computed tokens; None if it counts neither."""
        asked = self.counters.get("prefix_cache_queries")
        hits, computed = self.counters.get("prefix_cache_hits"), self.counters.get("computed_prompt_tokens")
        if asked is None and hits is not None and computed is not None:
            return hits + computed
        return asked

    @property
    def counter_hit_rate(self) -> float | None:
        """Hits ÷ queries of the prefix cache by the server's counters, 0 to 1; None if it does not count both, or nothing was asked."""
        hits, queries = self.counters.get("prefix_cache_hits"), self.counter_queries
        return hits / queries if hits is not None and queries else None


def measured_of(run: Run, name: str = "") -> Measured:
    """Of a finished run."""
    load_all()
    columns = run.columns
    mask = phase_mask(columns, run.phases, "profiling")
    context = MetricContext(columns if mask.all() else columns.select(mask), run.options.metrics)
    rows = np.flatnonzero(context.ok)
    rows = rows[np.argsort(context.start[rows], kind="stable")]
    first = float(np.nanmin(context.start[rows])) if len(rows) else 0.0
    counted, planned = context.column("usage_prompt")[rows], context.column("isl")[rows]
    certificate = run.summary().certificate
    return Measured(
        name=name or run.dir.name,
        session=context.column("session")[rows],
        turn=context.column("turn")[rows],
        prompt_tokens=np.where(np.isnan(counted), planned, counted),
        cached_tokens=context.column("usage_cached")[rows],
        output_tokens=context.value("output_sequence_length")[rows],
        ttft_ms=context.value("time_to_first_token")[rows] / 1e6,
        latency_ms=context.value("request_latency")[rows] / 1e6,
        start_s=(context.start[rows] - first) / 1e9,
        end_s=(context.finish[rows] - first) / 1e9,
        failed=int(np.count_nonzero(context.failed)),
        counters=_counters(run),
        server=server_view(run.json.server_metrics),
        kv_idle=_kv_idle(run),
        duration_s=0.0 if np.isnan(context.duration_s) else context.duration_s,
        verdict=None if certificate is None else certificate.verdict,
        run=run,
    )


def _counters(run: Run) -> dict[str, float]:
    told = run.json.server_metrics
    found: dict[str, Any] = (told.model_extra or {}).get("counters") or {} if told is not None else {}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _kv_idle(run: Run) -> float | None:
    gauges = () if run.json.server_metrics is None else run.json.server_metrics.gauges
    gauge = next((g for g in gauges if g.name == "kv_cache_usage" and g.levels), None)
    if gauge is None or run.outcome is None or not run.outcome.phases:
        return None
    before = [
        level for at, level in zip(gauge.times_ns, gauge.levels, strict=True) if at <= run.outcome.phases[0].start_ns
    ]
    return 100 * (before[-1] if before else gauge.levels[0])

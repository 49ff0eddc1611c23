"""One run of the memory test and what it says: tokens held, blocks in use, requests that lost their place, refusals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.metrics import Floats
from aiperf.studies.bench import Bench
from aiperf.studies.kv.levels import Levels, read_levels, watching
from aiperf.studies.kv.pauses import Pauses, find_pauses
from aiperf.studies.kv.plan import Load
from aiperf.studies.kv.streams import Streams, in_blocks, streams_of
from aiperf.studies.measured import Measured

__all__ = ["Fill", "Step", "fill_of", "measure"]

_MOMENTS: Final = 400
_CLEAN: Final = 0.03
"""A scrape counts for the fill of blocks if at most this share of the tokens belongs to prompts that may be half computed."""
_LEAST_USE: Final = 0.02
_FULL: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Tokens in flight ÷ tokens of the blocks in use, over `scrapes`; with the 95 % interval of the mean. `expected`: from rounding each
    request up to whole blocks alone. `tokens_per_use`: tokens in flight ÷ share of the cache in use: what a full cache would hold.
    """

    measured: float | None = None
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    tokens_per_use: float | None = None
    scrapes: int = 0


@dataclass(frozen=True, kw_only=True)
class Step:
    """`measured` None: no request succeeded. `peak`: most tokens held at a moment, by the client's records; `held`: (requests,) then."""

    load: Load
    measured: Measured | None
    levels: Levels
    streams: Streams | None = field(default=None, repr=False)
    pauses: Pauses | None = field(default=None, repr=False)
    peak: float | None = None
    held: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    refused: int = 0
    lost: int = 0
    """Requests without a connection or cut off: a server that went away."""

    @property
    def preemptions(self) -> float | None:
        """The server's count; None if it does not count them."""
        return self.levels.preemptions

    @property
    def usage(self) -> float | None:
        return self.levels.highest("kv_cache_usage")

    @property
    def victims(self) -> int:
        return (
            0
            if self.pauses is None or self.streams is None
            else int(self.pauses.victims(len(self.streams.start)).sum())
        )

    @property
    def is_full(self) -> bool:
        return self.usage is not None and self.usage >= _FULL

    @property
    def is_at_the_edge(self) -> bool:
        """Preemption, refusal, or a cache in full use with requests that wait."""
        waits = (self.levels.highest("requests_waiting") or 0.0) > 0
        return (
            bool(self.preemptions) or self.victims > 0 or self.refused > 0 or self.lost > 0 or (self.is_full and waits)
        )


def measure(bench: Bench, load: Load, settle_s: float, engines: int) -> Step:
    """The run with everything that is read beside it; from disk if it is done."""
    path = bench.folder / f"kv_{load.name}_levels.json"
    if bench.is_done(load.name):
        return _step_of(
            load, bench.measure(load.name, load.values, label=load.label), read_levels(path), bench.folder, engines
        )
    with watching(bench.config, path, settle_s) as watch:
        found = bench.measure(load.name, load.values, label=load.label)
    return _step_of(load, found, watch.levels, bench.folder, engines)


def _step_of(load: Load, measured: Measured | None, levels: Levels, folder: Path, engines: int) -> Step:
    from aiperf.run.run import Run

    run = measured.run if measured is not None and measured.run is not None else Run.open(folder / load.name)
    kinds = Counter(int(k) for k in run.columns.scalar("error_kind"))
    status = run.columns.scalar("status")
    failed = run.columns.scalar("error_kind") == ErrorKind.HTTP_STATUS
    refused = int(np.count_nonzero(failed & np.isin(status, (400, 413, 422, 429, 503))))
    lost = kinds[ErrorKind.CONNECT] + kinds[ErrorKind.CUT] + int(np.count_nonzero(failed & (status == 500)))
    if measured is None:
        return Step(load=load, measured=None, levels=levels, refused=refused, lost=lost)
    streams = streams_of(run)
    pauses = find_pauses(streams, levels.preemptions, engines)
    held = _at_peak(streams, pauses)
    return Step(
        load=load,
        measured=measured,
        levels=levels,
        streams=streams,
        pauses=pauses,
        peak=float(held.sum()) if len(streams.times) else None,
        held=held,
        refused=refused,
        lost=lost,
    )


def _at_peak(streams: Streams, pauses: Pauses) -> Floats:
    """(requests,) tokens held at the moment with most of them."""
    if not len(streams.times):
        return np.zeros(streams.num_requests)
    at = np.linspace(streams.times.min(), streams.times.max(), _MOMENTS)
    held = pauses.without(streams.held(at), at)
    return np.asarray(held[:, int(np.argmax(held.sum(axis=0)))])


def fill_of(step: Step, block_size: int | None, num_blocks: int | None) -> Fill:
    """Of the scrapes in which next to no prompt was under computation."""
    streams, usage = step.streams, step.levels.usage
    if streams is None or step.pauses is None or usage is None or not len(streams.times):
        return Fill()
    at = step.levels.times
    inside = (at > streams.times.min()) & (at < streams.times.max()) & np.isfinite(usage) & (usage > _LEAST_USE)
    at, usage = at[inside], usage[inside]
    at, usage = at[:: max(1, len(at) // _MOMENTS)], usage[:: max(1, len(usage) // _MOMENTS)]
    held = step.pauses.without(streams.held(at), at)
    total = held.sum(axis=0)
    clean = (total > 0) & (streams.unseen(at) <= _CLEAN * total)
    if not clean.any():
        return Fill()
    total, usage, held = total[clean], usage[clean], held[:, clean]
    ratio = float(total.sum() / usage.sum())
    measured = low = high = expected = None
    if block_size is not None:
        expected = float(total.sum() / in_blocks(held, block_size).sum())
        if num_blocks is not None:
            measured = ratio / (block_size * num_blocks)
            half = _half_interval(total / usage) / (block_size * num_blocks)
            low, high = measured - half, measured + half
    return Fill(
        measured=measured, low=low, high=high, expected=expected, tokens_per_use=ratio, scrapes=int(clean.sum())
    )


def _half_interval(values: Floats) -> float:
    """95 %, of the mean; 0 for a single value, whose error nobody knows."""
    return 0.0 if len(values) < 2 else float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))

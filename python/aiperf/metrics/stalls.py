"""Stalls: pauses in a stream that a reader notices, and the distribution of gaps between chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics.chunks import GapPool
from aiperf.metrics.context import MetricContext

__all__ = ["GapBin", "Stalls", "find_stalls"]

_EDGES_MS: Final = (0.0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, float("inf"))


@dataclass(frozen=True, slots=True)
class GapBin:
    """`count` gaps of at least `low_ms` and less than `high_ms`."""

    low_ms: float
    high_ms: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """Gaps above `threshold_ms`. `requests` had at least one (of `streams` with two chunks or more), `gaps` in all.

    `longest_ms` began at `longest_at_s` (run time) in row `longest_row`. `bins`: the distribution of all gaps.
    """

    threshold_ms: float
    streams: int
    requests: int
    gaps: int
    longest_ms: float
    longest_at_s: float
    longest_row: int
    bins: tuple[GapBin, ...]

    @property
    def share(self) -> float:
        return self.requests / self.streams


def gap_bins(pool: GapPool) -> tuple[GapBin, ...]:
    """The pool's gaps in a 1-2-5 scale, empty bins at either end left out."""
    counts = pool.counts_between([e * 1e6 for e in _EDGES_MS])
    used = [i for i, c in enumerate(counts) if c]
    if not used:
        return ()
    return tuple(GapBin(_EDGES_MS[i], _EDGES_MS[i + 1], counts[i]) for i in range(used[0], used[-1] + 1))


def find_stalls(context: MetricContext, threshold_ns: int) -> Stalls | None:
    """Stalls of successful streams; None without chunks."""
    if context.chunks is None or (worst := context.chunks.rows.longest) is None:
        return None
    gaps = context.chunks.rows.longest_gap
    return Stalls(
        threshold_ms=threshold_ns / 1e6,
        streams=int(np.count_nonzero(~np.isnan(gaps))),
        requests=int(np.count_nonzero(gaps > threshold_ns)),
        gaps=context.chunks.gaps.over_threshold,
        longest_ms=worst.gap / 1e6,
        longest_at_s=worst.begin / 1e9,
        longest_row=worst.row,
        bins=gap_bins(context.chunks.gaps),
    )

"""Arithmetic of the engine's histograms: differences in time, percentiles, means. Bins are at most 1 % wide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from aiperf.outcome import Spread

__all__ = ["Distribution"]

_HALF_BINS = 128
"""Values up to twice this many µs have a bin each; above, each octave has this many."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """`upper_us`: (bins,) int64, ascending upper ends; `counts`: (bins,) int64; `sum_ms`: of all values."""

    upper_us: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    sum_ms: float = 0.0

    @classmethod
    def of(cls, spread: Spread | None) -> Self:
        if spread is None:
            return cls()
        return cls(np.array(spread.upper_us, np.int64), np.array(spread.counts, np.int64), spread.sum_ns / 1e6)

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def mean_ms(self) -> float | None:
        return self.sum_ms / self.count if self.count else None

    def since(self, earlier: Distribution) -> Distribution:
        """What came after an earlier state of the same histogram."""
        counts = self.counts.copy()
        if len(earlier.upper_us):
            counts[np.searchsorted(self.upper_us, earlier.upper_us)] -= earlier.counts
        return Distribution(self.upper_us, counts, self.sum_ms - earlier.sum_ms)

    def percentiles_ms(self, *shares: float) -> tuple[float, ...] | None:
        """Middle of the bin at each share (0 to 1); None without values."""
        total = self.count
        if not total:
            return None
        ranks = np.ceil(np.array(shares) * total).clip(1, total)
        places = np.searchsorted(np.cumsum(self.counts), ranks)
        upper = self.upper_us[places].astype(np.float64)
        width = np.exp2(np.floor(np.log2(np.maximum(upper, 1.0) / _HALF_BINS)))
        return tuple(((upper - np.where(width > 1, width / 2, 0.0)) / 1e3).tolist())

    def below_ms(self, edges_ms: NDArray[np.float64]) -> NDArray[np.int64]:
        """(edges,) values up to each edge."""
        totals = np.concatenate([[0], np.cumsum(self.counts)])
        found: NDArray[np.int64] = totals[np.searchsorted(self.upper_us, edges_ms * 1e3, side="right")]
        return found

    def bars(self, number: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(edges in ms (number + 1,), counts (number,)): log-spaced from the smallest to the largest value. Empty without values."""
        used = np.flatnonzero(self.counts)
        if not len(used):
            return np.zeros(0), np.zeros(0, np.int64)
        low, high = float(self.upper_us[used[0]]) / 1e3, float(self.upper_us[used[-1]]) / 1e3
        # At least a factor of two: all in one bin would be a bar without a shape.
        if high < 2 * low:
            middle = (low * high) ** 0.5
            low, high = middle / 2**0.5, middle * 2**0.5
        edges = np.geomspace(low * 0.999, high * 1.001, number + 1)
        return edges, np.diff(self.below_ms(edges))

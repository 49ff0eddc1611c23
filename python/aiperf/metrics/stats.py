"""Statistics of one metric: mean, extremes, deviation, percentiles; in the unit users see.

Percentiles interpolate linearly between order statistics exactly as `numpy.percentile` does (to the last bit), std is the
population's (ddof 0): both as AIPerf. Percentiles need some twenty values of a column, which are found without sorting it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aiperf._core import order_statistics
from aiperf.metrics import Bools, Floats
from aiperf.number_text import exact

__all__ = [
    "STANDARD_PERCENTILES",
    "TAIL_PERCENTILES",
    "WEIGHTED_PERCENTILES",
    "Stats",
    "compute_stats",
    "highest",
    "in_order",
    "inner",
    "interpolated",
    "lowest",
    "nearest_rank_stats",
    "needed_count",
    "percentile_name",
    "percentiles_of_sorted",
    "scalar_stats",
    "weighted_stats",
]

STANDARD_PERCENTILES: Final = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0)
TAIL_PERCENTILES: Final = (99.9, 99.99)
WEIGHTED_PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0)
_BEYOND: Final = 10
"""A tail percentile is supported when at least this many values lie beyond it (p99.9: 10,000 values)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """None: does not exist (never 0 or NaN). `percentiles`: by percentile; None where the count does not support it.

    `error`: relative error bound of the percentiles (0 when exact). `count`, `sum`: only for per-request and chunk metrics.
    """

    avg: float | None = None
    min: float | None = None
    max: float | None = None
    std: float | None = None
    sum: float | None = None
    count: int | None = None
    percentiles: Mapping[float, float | None] = field(default_factory=dict)
    error: float = 0.0

    def get(self, name: str) -> float | None:
        """A statistic by its key: `avg`, `min`, `max`, `std`, `sum`, `count`, `p99`, `p99.9`."""
        if name.startswith("p") and name[1:2].isdigit():
            return self.percentiles.get(float(name[1:]))
        return {
            "avg": self.avg,
            "mean": self.avg,
            "min": self.min,
            "max": self.max,
            "std": self.std,
            "sum": self.sum,
            "count": None if self.count is None else float(self.count),
        }.get(name)

    @property
    def p50(self) -> float | None:
        return self.percentiles.get(50.0)

    @property
    def p90(self) -> float | None:
        return self.percentiles.get(90.0)

    @property
    def p95(self) -> float | None:
        return self.percentiles.get(95.0)

    @property
    def p99(self) -> float | None:
        return self.percentiles.get(99.0)


def inner(a: Floats, b: Floats) -> float:
    """Σ a·b without BLAS: its threads spin for milliseconds when other processes want the cores."""
    return float(np.einsum("i,i->", a, b))


def lowest(values: Floats, mask: Bools) -> float:
    """Smallest value where `mask` is true, without a copy of those; NaN if there is none."""
    found = float(np.fmin.reduce(values, where=mask, initial=np.inf))
    return found if math.isfinite(found) else float("nan")


def highest(values: Floats, mask: Bools) -> float:
    """Largest value where `mask` is true; NaN if there is none."""
    found = float(np.fmax.reduce(values, where=mask, initial=-np.inf))
    return found if math.isfinite(found) else float("nan")


def in_order(values: Floats) -> Floats:
    """The values that are no NaN, ascending."""
    kept = values[~np.isnan(values)]
    kept.sort()
    return kept


def percentile_name(percentile: float) -> str:
    """99.0 → `p99`, 99.9 → `p99.9`."""
    return f"p{exact(percentile)}"


def needed_count(percentile: float) -> int:
    """Values needed for a percentile above p99, else 1: at least ten beyond it."""
    return 1 if percentile <= 99 else math.ceil(round(_BEYOND / (1 - percentile / 100), 6))


def interpolated(count: int, percentiles: Sequence[float], order: Callable[[list[int]], Floats]) -> list[float]:
    """Linear interpolation as `numpy.percentile` does of `count` finite values; `order` gives the values at some ranks."""
    if not percentiles:
        return []
    virtual = np.asarray(percentiles, dtype=np.float64) / 100 * (count - 1)
    low = np.floor(virtual).astype(np.int64)
    high = np.minimum(low + 1, count - 1)
    found = order([*low.tolist(), *high.tolist()])
    a, b, t = found[: len(low)], found[len(low) :], virtual - low
    # numpy's lerp: from the nearer end, so that t = 1 gives b exactly.
    result = np.where(t >= 0.5, b - (b - a) * (1 - t), a + (b - a) * t)
    return [float(v) for v in result]


def percentiles_of_sorted(ordered: Floats, percentiles: Sequence[float]) -> list[float]:
    """As `interpolated`; `ordered` ascending, not empty, finite."""
    return interpolated(len(ordered), percentiles, lambda ranks: ordered[ranks])


def compute_stats(
    values: Floats, percentiles: Sequence[float] = STANDARD_PERCENTILES, divisor: float = 1.0
) -> Stats | None:
    """Statistics of the finite values, in the unit of `values` / `divisor`; None if there are none."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return None
    if divisor != 1:
        kept /= divisor
    mean, std, total = float(kept.mean()), float(kept.std()), float(kept.sum())
    smallest, largest = float(kept.min()), float(kept.max())
    count = len(kept)
    asked = [p for p in percentiles if count >= needed_count(p)]
    found: dict[float, float | None] = dict.fromkeys(percentiles)
    found.update(zip(asked, interpolated(count, asked, lambda ranks: order_statistics(kept, ranks)), strict=True))
    # The mean of equal values may differ from them in the last bit; it must not leave [min, max].
    mean = min(max(mean, smallest), largest)
    return Stats(avg=mean, min=smallest, max=largest, std=std, sum=total, count=count, percentiles=found)


def nearest_rank_stats(
    values: Floats, percentiles: Sequence[float] = STANDARD_PERCENTILES, divisor: float = 1.0
) -> Stats | None:
    """Nearest-rank percentiles of values that may be +inf, in the unit of `values` / `divisor`; what is infinite is None.

    None if there are no values.
    """
    kept = values[~np.isnan(values)]
    if not len(kept):
        return None
    if divisor != 1:
        kept /= divisor
    kept.sort()
    count = len(kept)
    by_percentile: dict[float, float | None] = {}
    for p in percentiles:
        value = float(kept[max(0, math.ceil(round(p / 100 * count, 9)) - 1)])
        by_percentile[p] = value if math.isfinite(value) and count >= needed_count(p) else None
    finite = bool(np.isfinite(kept[-1]))
    return Stats(
        avg=float(kept.mean()) if finite else None,
        min=float(kept[0]) if math.isfinite(kept[0]) else None,
        max=float(kept[-1]) if finite else None,
        std=float(kept.std()) if finite else None,
        count=count,
        percentiles=by_percentile,
    )


def scalar_stats(value: float) -> Stats | None:
    return Stats(avg=float(value)) if math.isfinite(value) else None


def weighted_stats(
    values: Floats, widths: Floats, percentiles: Sequence[float] = WEIGHTED_PERCENTILES, *, equal: bool = False
) -> Stats | None:
    """Time-weighted statistics of a step function: `values[i]` holds for `widths[i]`; NaN values do not count.

    `equal`: all widths but the first and last are the same; percentiles then take them all for equal.

    A percentile q is the smallest value v such that the function is ≤ v for at least q % of the time.
    """
    use = (widths > 0) & ~np.isnan(values)
    if not use.any():
        return None
    kept, kept_widths = (values, widths) if use.all() else (values[use], widths[use])
    total = float(kept_widths.sum())
    mean = float(inner(kept, kept_widths) / total)
    std = math.sqrt(max(0.0, float(inner((kept - mean) ** 2, kept_widths) / total)))
    wanted = np.asarray(percentiles) / 100 - 1e-12
    if equal:
        # Cells of one width: sorting values alone is ten times as fast as sorting pairs.
        kept = np.sort(kept)
        index = np.minimum((wanted * len(kept)).astype(np.int64), len(kept) - 1)
    else:
        order = np.argsort(kept)
        kept, kept_widths = kept[order], kept_widths[order]
        index = np.minimum(np.searchsorted(np.cumsum(kept_widths) / total, wanted), len(kept) - 1)
    found: dict[float, float | None] = {p: float(kept[i]) for p, i in zip(percentiles, index, strict=True)}
    return Stats(avg=mean, min=float(kept[0]), max=float(kept[-1]), std=std, percentiles=found)

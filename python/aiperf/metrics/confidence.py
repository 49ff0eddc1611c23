"""How sure a figure is: intervals for means, percentiles and rates of one run, and the effective number of values.

Requests of a run are not independent (they share queues and batches), so the usual s/√n is too narrow. The long-run
variance is estimated by batch means on a series prewhitened with an AR(1) filter (Andrews & Monahan 1992; batches of √n
values), which stays close under the strong positive correlation of queueing systems:

    e_t = x_t − φ x_{t−1},   V_e = b · var(means of batches of b),   V = V_e / (1 − φ)²,   mean ± t · √(V / n)

A percentile q is bounded through the indicator x ≤ q: its long-run variance gives an interval for the share p, whose ends are
mapped back through the order statistics (no density has to be estimated). Rates: `aiperf.metrics.rates`.
Coverage is checked by simulation in the tests (nominal 95 %, AR(1) and queueing service times: 90–99 %).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import METRICS, Bools, Floats
from aiperf.metrics.context import MetricContext
from aiperf.metrics.goodput import good_mask
from aiperf.metrics.rates import rate_interval
from aiperf.metrics.stats import percentiles_of_sorted
from aiperf.metrics.variance import LEVEL, long_run_variance, t_quantile

__all__ = [
    "LEVEL",
    "Interval",
    "estimate",
    "estimate_all",
    "long_run_variance",
    "mean_interval",
    "percentile_interval",
    "t_quantile",
]

_FEWEST: Final = 20
"""Values needed for an interval at all."""
_REQUEST_TAGS: Final = ("time_to_first_token", "inter_token_latency", "request_latency")
_REQUEST_STATS: Final = ("avg", "p50", "p90", "p99")
_RATE_TAGS: Final = ("request_throughput", "output_token_throughput", "goodput", "good_request_fraction")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """`value` with its interval at `level`, in the shown unit; an end is None where the data cannot bound it.

    `count`: values; `effective`: as many independent values would be as informative.
    """

    tag: str
    stat: str
    value: float
    low: float | None
    high: float | None
    count: int
    effective: float
    level: float = LEVEL

    @property
    def relative_half_width(self) -> float | None:
        """Half the interval as a share of the value; None if it is not bounded or the value is 0."""
        if self.low is None or self.high is None or self.value == 0:
            return None
        return (self.high - self.low) / 2 / abs(self.value)


def mean_interval(values: Floats, level: float = LEVEL) -> tuple[float, float | None, float | None, float]:
    """(mean, low, high, effective count) of values in order of time; ends None with fewer than 20 values."""
    count = len(values)
    mean = float(values.mean())
    if count < _FEWEST:
        return mean, None, None, float(count)
    variance, df = long_run_variance(values)
    half = t_quantile((1 + level) / 2, df) * math.sqrt(variance / count)
    effective = count if variance == 0 else min(float(count), count * float(values.var()) / variance)
    return mean, mean - half, mean + half, effective


def percentile_interval(
    values: Floats, percentile: float, level: float = LEVEL, ordered: Floats | None = None
) -> tuple[float, float | None, float | None, float]:
    """(percentile, low, high, effective count) of values in order of time; `ordered`: the same, sorted, if at hand."""
    count = len(values)
    share_below = percentile / 100
    ranked = np.sort(values) if ordered is None else ordered
    value = percentiles_of_sorted(ranked, [percentile])[0]
    if count < _FEWEST:
        return value, None, None, float(count)
    variance, df = long_run_variance(values <= value)
    # Never narrower than for independent values: the estimate is poor when few values lie beyond the percentile.
    variance = max(variance, share_below * (1 - share_below))
    half = t_quantile((1 + level) / 2, df) * math.sqrt(variance / count)
    # Ranks half a value further out: the share of values below is discrete.
    ranks = (share_below - half - 0.5 / count, share_below + half + 0.5 / count)
    low, high = (percentiles_of_sorted(ranked, [100 * k])[0] if 0 <= k <= 1 else None for k in ranks)
    return value, low, high, min(float(count), count * share_below * (1 - share_below) / variance)


def _series(context: MetricContext, tag: str) -> Floats:
    """A request metric's values in the shown unit, in the order the requests were sent."""
    values = context.value(tag)[np.argsort(context.start, kind="stable")]
    values /= METRICS[tag].unit.divisor
    return values[np.isfinite(values)]


def estimate(context: MetricContext, tag: str, stat: str = "avg", level: float = LEVEL) -> Interval | None:
    """The interval of one figure: a request metric's avg or percentile, a throughput, goodput or its fraction.

    None if the figure does not exist or is of another kind.
    """
    if tag in _RATE_TAGS:
        return _estimate_rate(context, tag, level)
    found = METRICS.get(tag)
    if found is None or found.kind != "request":
        return None
    values = _series(context, tag)
    return _estimate_values(tag, stat, values, None, level) if len(values) else None


def _estimate_values(tag: str, stat: str, values: Floats, ordered: Floats | None, level: float) -> Interval | None:
    if stat in ("avg", "mean"):
        mean, low, high, effective = mean_interval(values, level)
        return Interval(
            tag=tag, stat="avg", value=mean, low=low, high=high, count=len(values), effective=effective, level=level
        )
    if stat.startswith("p"):
        value, low, high, effective = percentile_interval(values, float(stat[1:]), level, ordered)
        return Interval(
            tag=tag, stat=stat, value=value, low=low, high=high, count=len(values), effective=effective, level=level
        )
    return None


def _estimate_rate(context: MetricContext, tag: str, level: float) -> Interval | None:
    if tag == "good_request_fraction":
        if not context.options.slos or not context.attempted.any():
            return None
        order = np.argsort(context.start[context.attempted], kind="stable")
        good = good_mask(context, context.options.slos)[context.attempted][order].astype(np.float64)
        mean, low, high, effective = mean_interval(good, level)
        low, high = (None if low is None else max(low, 0.0)), (None if high is None else min(high, 1.0))
        return Interval(
            tag=tag, stat="avg", value=mean, low=low, high=high, count=len(good), effective=effective, level=level
        )
    amounts: Floats | Bools = context.ok
    if tag == "output_token_throughput":
        amounts = context.value("output_sequence_length")
    elif tag == "goodput":
        if not context.options.slos:
            return None
        amounts = good_mask(context, context.options.slos)
    mask = context.ok & np.isfinite(amounts) & np.isfinite(context.finish)
    if not mask.any() or not context.duration_s > 0:
        return None
    times, used = context.finish[mask], np.asarray(amounts[mask], dtype=np.float64)
    rate = float(used.sum()) / context.duration_s
    low, high, effective = rate_interval(context.start[mask], times, used, rate, level)
    return Interval(
        tag=tag,
        stat="avg",
        value=rate,
        low=None if low is None else max(low, 0.0),
        high=high,
        count=len(times),
        effective=effective,
        level=level,
    )


def estimate_all(context: MetricContext, level: float = LEVEL) -> tuple[Interval, ...]:
    """Intervals of the headline figures: latencies (avg, p50, p90, p99) and rates."""
    of_requests = [i for tag in _REQUEST_TAGS for i in _estimate_metric(context, tag, level)]
    of_rates = [i for tag in _RATE_TAGS if (i := _estimate_rate(context, tag, level)) is not None]
    return (*of_requests, *of_rates)


def _estimate_metric(context: MetricContext, tag: str, level: float) -> list[Interval]:
    """A request metric's avg and percentiles; the values are ordered once for all."""
    if METRICS[tag].needs_streaming and not context.options.streaming:
        return []
    values = _series(context, tag)
    if not len(values):
        return []
    ordered = np.sort(values)
    found = (_estimate_values(tag, stat, values, ordered, level) for stat in _REQUEST_STATS)
    return [i for i in found if i is not None]

"""How sure a rate is: the interval of a throughput of one run, also where requests come and go in waves.

In a closed loop requests that started together end together, again and again: counts of completions per window of time then
swing between none and all, though the server's throughput hardly varies. So where the load is constant (the same number in
flight all the time) each request is spread evenly over its own lifetime: the sums per window are those of the work done in
it, the total is the same, and waves leave no trace. Windows are at least a mean latency wide, so that neighbours share little.
Where the number in flight varies (open loop), completions are counted as before.

Only the part between the filling and the draining of the server is looked at, since both are no chance. The interval reaches
from the rate as measured to that of this part, with the uncertainty on both sides: it holds the rate that a longer run
approaches, too. Fewer than eight windows: no interval. Coverage is checked by simulation in the tests (nominal 95 %; waves,
drifting phases, Poisson arrivals, queues: 90–99 %).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from aiperf.metrics import Floats
from aiperf.metrics.blocks import blocks
from aiperf.metrics.stats import inner, percentiles_of_sorted
from aiperf.metrics.variance import LEVEL, long_run_variance, t_quantile

__all__ = ["count_interval", "rate_interval"]

_FEWEST: Final = 20
"""Requests needed for an interval at all."""
_FEWEST_WINDOWS: Final = 8
_MOST_WINDOWS: Final = 400
_CONSTANT: Final = 0.05
"""Largest relative deviation of the number in flight, window by window, of a load that is called constant."""


def rate_interval(
    begins: Floats, ends: Floats, amounts: Floats, rate: float, level: float = LEVEL
) -> tuple[float | None, float | None, float]:
    """(low, high, effective count) of a rate per second: (requests,) start and end, ns, and what each adds to the total.

    Ends None, where the run is too short for one: fewer than 20 requests or eight mean latencies.
    """
    count = len(begins)
    none = (None, None, float(count))
    total = float(amounts.sum())
    if count < _FEWEST or not total > 0:
        return none
    first, last = float(begins.min()), float(ends.max())
    lifetimes = ends - begins
    latency = inner(lifetimes, amounts) / total
    longest = percentiles_of_sorted(np.sort(lifetimes), [95])[0]
    # Behind it requests that have not ended yet are missing: those in flight, if the run still goes on.
    end = min(float(begins.max()), last - longest)
    sums, begin = None, first
    for begin in (first, first + latency):
        windows = _windows(count, end - begin, latency)
        if windows < _FEWEST_WINDOWS:
            return none
        in_flight = _spread(begins, ends, lifetimes, begin, end, windows)
        if in_flight.std() <= _CONSTANT * in_flight.mean():
            sums = _spread(begins, ends, amounts, begin, end, windows)
            break
    if sums is None:
        inside = (ends >= begin) & (ends < end)
        if int(inside.sum()) < _FEWEST:
            return none
        sums = _counts(ends[inside], amounts[inside], begin, end)
    half, effective = _half_width(sums, end - begin, amounts, level)
    steady = float(sums.sum()) / (end - begin) * 1e9
    return min(rate, steady) - half, max(rate, steady) + half, effective


def count_interval(
    times: Floats, amounts: Floats, rate: float, level: float = LEVEL
) -> tuple[float | None, float | None, float]:
    """(low, high, effective count) of a rate per second: amounts at times (ns), over their own span in equal windows.

    For events without a length; too wide for those that come in waves.
    """
    n = len(times)
    begin, end = (float(times.min()), float(times.max())) if n else (0.0, 0.0)
    if n < _FEWEST or not end > begin:
        return None, None, float(n)
    half, effective = _half_width(_counts(times, amounts, begin, end), end - begin, amounts, level)
    return rate - half, rate + half, effective


def _windows(count: int, span: float, latency: float) -> int:
    most = min(max(count // 10, _FEWEST), _MOST_WINDOWS)
    if not span > 0:
        return 0
    return int(min(most, span / latency)) if latency > 0 else most


def _counts(times: Floats, amounts: Floats, begin: float, end: float) -> Floats:
    """(windows,) sums of the amounts whose times are in each of equal windows."""
    num = min(max(len(times) // 10, _FEWEST), _MOST_WINDOWS)
    sums = np.zeros(num)
    for rows in blocks(len(times)):
        index = np.minimum(((times[rows] - begin) / (end - begin) * num).astype(np.int64), num - 1)
        np.add.at(sums, index, amounts[rows])
    return sums


def _spread(begins: Floats, ends: Floats, amounts: Floats, begin: float, end: float, num: int) -> Floats:
    """(windows,) what is done in each of `num` equal windows of [begin, end], each amount spread evenly over its lifetime.

    The amount done until the border k is Σ d·(max(k − x₀, 0) − max(k − x₁, 0)), times in windows, d = amount / (x₁ − x₀):
    a cumulated sum over counts, linear in requests and windows.
    """
    slopes, offsets = np.zeros((2, num + 2)), np.zeros((2, num + 2))
    width = (end - begin) / num
    for rows in blocks(len(begins)):
        x0 = (begins[rows] - begin) / width
        x1 = np.maximum((ends[rows] - begin) / width, x0 + 1e-9)
        density = amounts[rows] / (x1 - x0)
        # Starts and ends apart: each sum has its order, however rows are cut into blocks.
        for side, x in enumerate((x0, x1)):
            index = np.clip(np.floor(x).astype(np.int64) + 1, 0, num + 1)
            np.add.at(slopes[side], index, density)
            np.add.at(offsets[side], index, density * x)
    borders = np.arange(num + 1)
    done = borders * np.cumsum(slopes[0] - slopes[1])[:-1] - np.cumsum(offsets[0] - offsets[1])[:-1]
    return np.asarray(np.diff(done))


def _half_width(sums: Floats, span: float, amounts: Floats, level: float) -> tuple[float, float]:
    """(half the interval per second, effective count)."""
    num = len(sums)
    variance, df = long_run_variance(sums)
    half = t_quantile((1 + level) / 2, df) * math.sqrt(variance * num) / span * 1e9
    n = len(amounts)
    poisson = inner(amounts, amounts) / num
    return half, float(n) if variance == 0 else min(float(n), n * poisson / variance)

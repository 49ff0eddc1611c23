"""What changed over the slices of a run: ranges, first against last, drift, the effect of load, cold against warm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import METRICS, Floats
from aiperf.metrics.confidence import t_quantile
from aiperf.metrics.slices import Slice
from aiperf.metrics.stats import inner

__all__ = ["ColdWarm", "Trend", "TrendLine", "build_cold_warm", "build_trend"]

_FEWEST: Final = 5
"""Slices needed for a slope or a correlation."""
_DRIFT_LEVEL: Final = 0.99
_DRIFT_EFFECT: Final = 0.05
_TAGS: Final = ("time_to_first_token", "request_latency", "output_token_throughput", "request_throughput", "goodput")
_RATES: Final = ("output_token_throughput", "request_throughput", "goodput")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendLine:
    """One metric over the slices (averages, shown unit); slope, correlation and all of a rate over the complete ones.

    `variation` = (max − min)/min. `slope_per_min` with its 95 % interval, None with fewer than five slices. `drifts`: the
    99 % interval excludes 0 and the change over the run is at least 5 % of the mean. `load_correlation`: Pearson's r with the
    requests started per slice; None where either is constant.
    """

    tag: str
    lowest: float
    highest: float
    variation: float | None
    first: float
    last: float
    slope_per_min: float | None
    slope_low: float | None
    slope_high: float | None
    drifts: bool
    load_correlation: float | None
    slices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdWarm:
    """`overall`, `cold`, `warm` in the shown unit; `cold_over_overall`, `penalty` (against warm) as shares: 0.41 is 41 % more.

    For rates, where larger is better, the penalty is what is missing: 0.2 is 20 % less.
    """

    tag: str
    overall: float | None
    cold: float | None
    warm: float | None
    cold_over_overall: float | None
    penalty: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """`too_few`: not enough complete slices for a slope. `warmed_up`: the first slice's TTFT is above all others' by 10 % or more."""

    lines: tuple[TrendLine, ...]
    cold_warm: tuple[ColdWarm, ...]
    cold_slices: tuple[int, ...]
    too_few: bool
    warmed_up: bool


def _slope(times: Floats, values: Floats, level: float) -> tuple[float, float]:
    """(slope, half width) of an ordinary least-squares line; at least five points.

    The residuals' lag-1 correlation widens the interval by √((1 + ρ)/(1 − ρ)).
    """
    count = len(times)
    tc = times - times.mean()
    square = inner(tc, tc)
    slope = inner(tc, values) / square
    rest = values - values.mean() - slope * tc
    power = inner(rest, rest)
    if power == 0:
        return slope, 0.0
    rho = min(max(inner(rest[1:], rest[:-1]) / power + 1 / count, 0.0), 0.9)
    error = math.sqrt(power / (count - 2) / square * (1 + rho) / (1 - rho))
    return slope, t_quantile((1 + level) / 2, count - 2) * error


def build_trend_line(tag: str, slices: Sequence[Slice]) -> TrendLine | None:
    """The metric's line over the slices that have it; None if fewer than two do."""
    every = [v for s in slices if (v := s.stat(tag)) is not None]
    points = [(s, v) for s in slices if s.is_complete and (v := s.stat(tag)) is not None]
    if tag in _RATES and len(points) > 1:
        # Of the slice that was cut at the end of the run the drain is a large part: no rate of the server's.
        every = [v for _, v in points]
    if len(every) < 2:
        return None
    values = np.array([v for _, v in points])
    minutes = np.array([(s.begin_ns + s.end_ns) / 2 / 60e9 for s, _ in points])
    load = np.array([float(s.sent) for s, _ in points])
    slope = low = high = correlation = None
    drifts = False
    if len(points) >= _FEWEST:
        slope, half = _slope(minutes, values, 0.95)
        low, high = slope - half, slope + half
        _, wide = _slope(minutes, values, _DRIFT_LEVEL)
        change = abs(slope) * float(minutes[-1] - minutes[0])
        drifts = abs(slope) > wide and change >= _DRIFT_EFFECT * abs(float(values.mean()))
        if np.ptp(load) > 0 and np.ptp(values) > 0:
            correlation = float(np.corrcoef(load, values)[0, 1])
    lowest, highest = min(every), max(every)
    return TrendLine(
        tag=tag,
        lowest=lowest,
        highest=highest,
        variation=(highest - lowest) / lowest if lowest > 0 else None,
        first=every[0],
        last=every[-1],
        slope_per_min=slope,
        slope_low=low,
        slope_high=high,
        drifts=drifts,
        load_correlation=correlation,
        slices=len(every),
    )


def _pooled(tag: str, slices: Sequence[Slice]) -> float | None:
    """The metric over several slices: mean over their requests, or amount per second of their time."""
    if METRICS[tag].kind == "request":
        found = [m.stats for s in slices if (m := s.metrics.get(tag)) is not None]
        count = sum(s.count or 0 for s in found)
        return sum((s.avg or 0.0) * (s.count or 0) for s in found) / count if count else None
    seconds = sum(s.seconds for s in slices)
    rates = [(v, s.seconds) for s in slices if (v := s.stat(tag)) is not None]
    return sum(v * w for v, w in rates) / seconds if rates and seconds else None


def build_cold_warm(slices: Sequence[Slice], cold: Sequence[int], tags: Sequence[str] = _TAGS) -> tuple[ColdWarm, ...]:
    """The demo's table: the slices numbered in `cold` against the rest, both against all."""
    chilled = [s for s in slices if s.index in cold]
    warm = [s for s in slices if s.index not in cold]
    if not chilled or not warm:
        return ()
    out: list[ColdWarm] = []
    for tag in tags:
        overall, in_cold, in_warm = _pooled(tag, slices), _pooled(tag, chilled), _pooled(tag, warm)
        if overall is None:
            continue
        sign = -1.0 if METRICS[tag].larger_is_better else 1.0
        out.append(
            ColdWarm(
                tag=tag,
                overall=overall,
                cold=in_cold,
                warm=in_warm,
                cold_over_overall=None if in_cold is None or not overall else in_cold / overall - 1,
                penalty=None if in_cold is None or not in_warm else sign * (in_cold / in_warm - 1),
            )
        )
    return tuple(out)


def build_trend(slices: Sequence[Slice], cold: Sequence[int] = ()) -> Trend | None:
    """The trend of the slices; `cold`: the slices to set against the rest, the first if none. None without slices."""
    if not slices:
        return None
    complete = [s for s in slices if s.is_complete]
    lines = tuple(line for tag in _TAGS if (line := build_trend_line(tag, slices)) is not None)
    chilled = tuple(cold) or (0,)
    warm = [v for s in complete if s.index not in chilled and (v := s.stat("time_to_first_token")) is not None]
    first = slices[0].stat("time_to_first_token")
    warmed_up = bool(first is not None and len(warm) >= 2 and first > max(warm) * 1.1)
    return Trend(
        lines=lines,
        cold_warm=build_cold_warm(slices, chilled),
        cold_slices=chilled,
        too_few=len(complete) < _FEWEST,
        warmed_up=warmed_up,
    )

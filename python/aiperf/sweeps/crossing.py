"""Where a waiting time meets its limit, told by all runs near it together, pure.

In a closed loop past saturation each further request in flight waits 1/X longer, X being the requests/s the server completes
(Little's law: X = in flight / mean latency). So every *request* of a run near the limit tells the value at which it would have
waited exactly the limit: w = value − (wait − limit) · X, and the limit of `p95 < 400 ms` is the 5 % quantile of all the w of all
runs near it. Pooling requests instead of percentiles matters: waits of neighbours are alike, so a short run holds few independent ones,
and the percentile of few is too low.

* Only runs that waited at least a third of the limit say anything: below, there may be no queue yet, and the law does not hold.
* The law's slope is corrected by what the runs themselves show (least squares with the law as prior, trusted to 50 %): close to the
  knee waits grow faster or slower than it says.
* The error is the scatter *between* the runs (Student's t), which also holds what changes from run to run; and half of the way that the
  slope has to bridge from the middle of the runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.config.conditions import Condition
from aiperf.metrics import Floats
from aiperf.metrics.confidence import t_quantile
from aiperf.sweeps.judge import Sample, judge, limit_of
from aiperf.sweeps.search import Crossing

__all__ = ["locate", "locate_first"]

_WAITS: Final = frozenset({"time_to_first_token", "request_latency"})
_FEWEST: Final = 20
_FIRST_LOOK: Final = 3
"""Runs judged at 95 %; more are judged at 99 %: looked at again and again, a server that varies would agree with itself by luck in the end."""
_NEAR: Final = 0.15
"""Runs count together within 16 % of where the limit is believed to be: further away the law is only a pointer."""
_QUEUED: Final = 3
"""Runs that wait less than this part of the limit may not queue at all."""
_LAW_ERROR: Final = 0.5
_SCATTER: Final = 0.1
"""Of the figure of one run, as a share of the limit: weighs the runs' own slope against the law's."""
_LEAST_SLOPE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """`waits` in ms, in order; `figure`: their mean or percentile; `slope`: ms per request in flight, by the law."""

    value: float
    waits: Floats
    figure: float
    slope: float
    is_settled: bool


def _statistic(values: Floats, share: float | None) -> float:
    return float(values.mean()) if share is None else float(np.quantile(values, share))


def locate(runs: Sequence[tuple[float, Sample]], condition: Condition) -> Crossing | None:
    """`runs`: (requests in flight, sample). None if the condition is not about a waiting time, or no run waited long enough to tell."""
    stat = condition.stat or "avg"
    if condition.tag not in _WAITS or condition.op not in {"<", "<="} or not (stat == "avg" or stat[1:2].isdigit()):
        return None
    limit = limit_of(condition, "ms")
    known = [r for value, sample in runs if (r := _measure(value, sample, condition.tag, stat)) is not None]
    waited = [r for r in known if r.figure >= limit / _QUEUED]
    if not waited:
        return None
    guess = _pointer(known, waited, limit)
    near = [r for r in waited if r.is_settled and guess > 0 and abs(math.log(r.value / guess)) < _NEAR]
    if len(near) < 2:
        return Crossing(guess, math.inf, len(near), near[0].value if near else 0.0)
    return _pool(near, limit, None if stat == "avg" else float(stat[1:]) / 100)


def _measure(value: float, sample: Sample, tag: str, stat: str) -> _Run | None:
    waits = sample.values.get(tag, np.zeros(0))
    waits = waits[np.isfinite(waits)]
    if len(waits) < _FEWEST or sample.full_latency_s is None:
        return None
    figure = float(waits.mean()) if stat == "avg" else float(np.percentile(waits, float(stat[1:])))
    return _Run(
        value=value, waits=waits, figure=figure, slope=1e3 * sample.full_latency_s / value, is_settled=sample.is_settled
    )


def _pointer(known: Sequence[_Run], waited: Sequence[_Run], limit: float) -> float:
    """From the runs next to the limit: on the line between them, or along the law from the one there is. Settled runs come first."""
    settled = [r for r in waited if r.is_settled]
    best = min(settled or waited, key=lambda r: abs(math.log(r.figure / limit)))
    runs = [r for r in known if r.is_settled] if settled else known
    below = max((r for r in runs if r.figure < limit), key=lambda r: r.value, default=None)
    above = min((r for r in runs if r.figure >= limit), key=lambda r: r.value, default=None)
    if below is None or above is None or above.value <= below.value:
        return best.value - (best.figure - limit) / best.slope
    share = (limit - below.figure) / (above.figure - below.figure)
    return below.value + share * (above.value - below.value)


def _pool(near: Sequence[_Run], limit: float, share: float | None) -> Crossing:
    values, figures = np.array([r.value for r in near]), np.array([r.figure for r in near])
    law = float(np.mean([r.slope for r in near]))
    away = values - values.mean()
    prior = (_SCATTER * limit / (_LAW_ERROR * law)) ** 2
    slope = max(
        (float(away @ (figures - figures.mean())) + prior * law) / (float(away @ away) + prior), _LEAST_SLOPE * law
    )
    wanted = None if share is None else 1 - share
    told = [r.value - (r.waits - limit) / slope for r in near]
    pooled = np.concatenate(told)
    value, centre = _statistic(pooled, wanted), float(values.mean())
    singly, weights = (
        np.array([_statistic(w, wanted) for w in told]),
        np.array([len(w) for w in told], dtype=np.float64),
    )
    weights /= weights.sum()
    spread = float(weights @ (singly - weights @ singly) ** 2)
    level = 0.975 if len(near) <= _FIRST_LOOK else 0.995
    chance = t_quantile(level, len(near) - 1) * math.sqrt(spread / (len(near) - 1))
    return Crossing(value, math.hypot(chance, _LAW_ERROR * (value - centre)), len(near), centre)


def locate_first(runs: Sequence[tuple[float, Sample]], conditions: Sequence[Condition]) -> Crossing | None:
    """Of several conditions the one that is missed first; None if that may be one which cannot be located."""
    located = [(c, locate(runs, c)) for c in conditions]
    crossings = [x for _, x in located if x is not None]
    if not crossings:
        return None
    first = min(crossings, key=lambda x: x.value)
    others = [c for c, x in located if x is None]
    below = max((v for v, _ in runs if v <= first.value), default=None)
    at = [s for v, s in runs if v == below]
    return first if all(at and judge(at, c).verdict == "pass" for c in others) else None

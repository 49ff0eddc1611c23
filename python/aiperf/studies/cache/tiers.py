"""Levels of the cache that are told apart: the GPU's, and slower ones behind it (CPU, disk, remote).

Two signs. The server counts hits outside the GPU by itself. And a request whose prefix comes from a slower level is served, but later: over
the reuse distance of the largest working set, the time to the first token of served requests steps up where a faster level ends. A step
counts if the medians on both sides differ by `STEP` or more and Mann and Whitney's test refuses chance at 1 %, and if it is at the same
place when the working set is measured once more: within a pass the distance grows with time, so a server that was slow for a moment
looks like a level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import erfc, sqrt
from typing import Final

import numpy as np

from aiperf.metrics import Floats
from aiperf.number_text import significant
from aiperf.studies.cache.capacity import Capacity, CapacityPoint
from aiperf.studies.metric import StudyFigure

__all__ = ["STEP", "Step", "Tiers", "find_steps", "find_tiers", "steps_of", "tier_figures"]

STEP: Final = 1.3
_LEVEL: Final = 0.01
_FEWEST: Final = 5
_SAME_PLACE: Final = 0.15
"""Share of the distance by which two passes may differ on where a step is."""
_SERVED: Final = 0.5
"""Share of the prefix from which on a request counts as served."""


@dataclass(frozen=True, slots=True)
class Step:
    """`distance`: tokens; medians of the served requests nearer and further away, ms; `p_value`: of the test."""

    distance: float
    near_ms: float
    far_ms: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Tiers:
    """`external`: hits outside the GPU ÷ all hits by the server's counters, 0 to 1; None if it has no such counter.

    `steps` None: the time of single served requests is not known, or steps were not looked for again.
    """

    external: float | None
    steps: tuple[Step, ...] | None

    @property
    def count(self) -> int | None:
        """Levels told apart; None if neither sign could be looked for."""
        if self.steps is None and self.external is None:
            return None
        by_steps = 1 + len(self.steps or ())
        return max(by_steps, 2 if self.external else 1)


def find_tiers(capacity: Capacity) -> Tiers:
    """From the largest working set."""
    external = [p.point.external_hits for p in capacity.points if p.point.external_hits is not None]
    hits = [p.point.counter_hits or 0.0 for p in capacity.points if p.point.external_hits is not None]
    share = sum(external) / (sum(external) + sum(hits)) if external and sum(external) + sum(hits) else None
    steps = steps_of(capacity)
    if steps and capacity.again is None:
        return Tiers(external=share, steps=None)
    if steps and capacity.again is not None:
        steps = list(_confirmed(steps, _steps(capacity.again)))
    return Tiers(external=share, steps=None if steps is None else tuple(steps))


def steps_of(capacity: Capacity) -> list[Step] | None:
    """Of the largest working set, not yet confirmed; None if the time of single served requests is not known."""
    known = [p for p in capacity.points if p.point.has_usage and np.isfinite(p.point.ttft_ms).any()]
    return _steps(known[-1]) if known else None


def _steps(point: CapacityPoint) -> list[Step]:
    distance, served, ms = point.by_distance
    there = np.isfinite(ms) & (served >= _SERVED)
    return list(find_steps(distance[there], ms[there]))


def _confirmed(first: Sequence[Step], second: Sequence[Step]) -> Iterator[Step]:
    """Steps of the first that are in the second too, at the mean of both places."""
    for step in first:
        near = min(second, key=lambda s: abs(s.distance - step.distance), default=None)
        if near is not None and abs(near.distance - step.distance) <= _SAME_PLACE * step.distance:
            yield replace(step, distance=(step.distance + near.distance) / 2)


def find_steps(distance: Floats, ms: Floats) -> Iterator[Step]:
    """Steps up, nearest first. `distance` ascending; the best cut of each piece is looked for in both of its halves again."""
    if len(ms) < 2 * _FEWEST:
        return
    cut, p_value = _best_cut(ms)
    near, far = float(np.median(ms[:cut])), float(np.median(ms[cut:]))
    if p_value > _LEVEL or far < STEP * near:
        return
    yield from find_steps(distance[:cut], ms[:cut])
    yield Step(float(distance[cut - 1] + distance[cut]) / 2, near, far, p_value)
    yield from find_steps(distance[cut:], ms[cut:])


def _best_cut(ms: Floats) -> tuple[int, float]:
    """The cut at which the ranks before and behind it differ most, and the test's p, times the cuts that were tried (Bonferroni)."""
    count = len(ms)
    ranks = np.empty(count)
    ranks[np.argsort(ms, kind="stable")] = np.arange(1, count + 1)
    cuts = np.arange(_FEWEST, count - _FEWEST + 1)
    sums = np.cumsum(ranks)[cuts - 1]
    u = sums - cuts * (cuts + 1) / 2
    z = (u - cuts * (count - cuts) / 2) / np.sqrt(cuts * (count - cuts) * (count + 1) / 12)
    best = int(np.argmin(z))
    return int(cuts[best]), min(1.0, erfc(abs(float(z[best])) / sqrt(2)) / 2 * len(cuts))


def tier_figures(tiers: Tiers) -> Iterator[StudyFigure]:
    """`tiers` and `fast_tier_tokens`."""
    reason = (
        "the server counts no hits outside the GPU, and `usage` does not show which requests were served from the cache"
    )
    signs = (
        []
        if tiers.steps is None
        else [
            f"{len(tiers.steps)} confirmed step{'s' if len(tiers.steps) != 1 else ''} of the TTFT over the reuse distance"
        ]
    )
    if tiers.external is not None:
        signs.append(f"{100 * tiers.external:.1f} % of the hits outside the GPU")
    yield StudyFigure(
        name="tiers",
        value=None if tiers.count is None else float(tiers.count),
        reason=reason,
        rests_on="; ".join(signs),
    )
    first = tiers.steps[0] if tiers.steps else None
    yield StudyFigure(
        name="fast_tier_tokens",
        value=None if first is None else first.distance,
        reason=reason if tiers.count is None else "the TTFT of served requests has no step over the reuse distance",
        rests_on=""
        if first is None
        else f"{significant(first.near_ms, 3)} ms before, {significant(first.far_ms, 3)} ms behind it (p {significant(first.p_value, 1)})",
    )

"""Capacity: more and more live prefixes, until they are not found again.

A working set of m prefixes is sent once (cold), then read again from the last to the first: the k-th of these requests comes back to text
that k − 1 other prefixes were sent after. A cache that lets go of the least recently used blocks serves exactly the first ones, as many
as it has room for: its size can be read from the hits of any working set that is too large. One request at a time, so that the
order is what it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import Floats
from aiperf.studies.cache.meter import Load, Meter, Point
from aiperf.studies.cache.prompts import joined, repeated
from aiperf.studies.cache.theory import Theory
from aiperf.studies.metric import StudyFigure
from aiperf.telemetry.kv_blocks import KvBlocks

__all__ = [
    "FULL",
    "Capacity",
    "CapacityPoint",
    "Shape",
    "Sweep",
    "capacity_figures",
    "load_of_set",
    "measure_set",
    "planned_sets",
    "sweep_sets",
]

FULL: Final = 0.98
"""Share of the hits of an unbounded cache from which on a working set counts as served whole."""
_FACTORS: Final = (0.5, 0.8, 0.95, 1.05, 1.25, 1.5)
"""Working sets around the reported capacity."""
_REFINED: Final = 4
"""Further points between the last working set that was served whole and the first that was not."""
_NARROW: Final = 1.05
_AGREES: Final = 0.1
"""Sizes of an LRU cache read from different working sets agree if they lie within this share of their median."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of the part's requests: `prefix` tokens of text that comes again, then one block of their own. `osl` 1: nothing but prefill."""

    prefix: int
    block: int
    osl: int = 1

    @property
    def footprint(self) -> int:
        """Tokens that a live prefix takes in the cache with its request's own block."""
        return -(-(self.prefix + self.block + self.osl - 1) // self.block) * self.block

    def prefixes_of(self, tokens: float) -> int:
        return max(2, round(tokens / self.footprint))


@dataclass(frozen=True, kw_only=True)
class CapacityPoint:
    """`tokens`: the working set, prefixes × footprint. `infinite`: hit tokens of an unbounded cache; `lru`: of one with the server's
    block count, None where it is not known; `lru_blocks`: size of the LRU cache that would have served what was measured.
    """

    tokens: int
    prefixes: int
    point: Point
    infinite: float
    lru: float | None
    lru_blocks: int | None

    @property
    def served(self) -> float | None:
        """Measured ÷ infinite, 0 to 1; None where hits are not known."""
        hits = self.point.hits
        return None if hits is None or not self.infinite else hits / self.infinite

    @property
    def is_whole(self) -> bool:
        return self.served is not None and self.served >= FULL

    @property
    def by_distance(self) -> tuple[Floats, Floats, Floats]:
        """(requests,) other tokens sent since the request's prefix was sent last, share of the prefix that was found, ms; by distance.

        Before the k-th request lie k − 1 other prefixes with the own blocks of both times they were sent.
        """
        point = self.point
        load = point.load.measured
        rows = point.row.astype(np.int64)
        distance = rows.astype(float) * (self.tokens / self.prefixes + load.block)
        share = point.hit_tokens / load.shared[rows]
        order = np.argsort(distance, kind="stable")
        return distance[order], share[order], point.times_ms[order]


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """`points`: by working set. `shape`: of the requests. `blocks`: what the server reports of its cache. `again`: the largest working set
    once more, with other text, measured if the times of the first one have steps.
    """

    points: tuple[CapacityPoint, ...]
    shape: Shape
    blocks: KvBlocks
    again: CapacityPoint | None = None

    @property
    def low(self) -> CapacityPoint | None:
        """The largest working set below the first that was not served whole, itself served whole."""
        high = self.high
        whole = [p for p in self.points if p.is_whole and (high is None or p.tokens < high.tokens)]
        return whole[-1] if whole else None

    @property
    def high(self) -> CapacityPoint | None:
        return next((p for p in self.points if p.served is not None and not p.is_whole), None)

    @property
    def lru_estimates(self) -> list[float]:
        """Tokens of the LRU cache, from each working set that was too large and still had hits."""
        behind = [p for p in self.points if p.served is not None and not p.is_whole]
        return [float(p.lru_blocks * self.shape.block) for p in behind if p.lru_blocks is not None]

    @property
    def lru_size(self) -> float | None:
        """Median of the estimates if they agree with each other and with the working sets that were served whole; else None."""
        found = self.lru_estimates
        if not found:
            return None
        middle = float(np.median(found))
        spread = max(abs(f - middle) for f in found) / middle if middle else 1.0
        low = 0 if self.low is None else self.low.tokens
        return middle if spread <= _AGREES and middle >= low * (1 - _AGREES) else None

    @property
    def knee(self) -> float | None:
        """Tokens; None where hits are not known, never fell, or were never whole."""
        if self.high is None or (self.low is None and self.lru_size is None):
            return None
        if self.lru_size is not None:
            return self.lru_size
        return None if self.low is None else float(np.sqrt(self.low.tokens * self.high.tokens))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What the sweep needs to know: `wanted`: working sets the user named, tokens; `largest`: bound; `base_of`: of a load's name its text."""

    shape: Shape
    blocks: KvBlocks
    wanted: Sequence[int]
    largest: int
    base_of: Callable[[str], int]

    @property
    def num_blocks(self) -> int | None:
        """Of `shape.block` tokens."""
        tokens = self.blocks.tokens
        return None if tokens is None else tokens // self.shape.block


def planned_sets(sweep: Sweep) -> list[int]:
    """Working sets in tokens that are sent in any case, ascending; of an unknown capacity the first of those that double."""
    sets = [float(w) for w in sweep.wanted]
    if not sets and sweep.blocks.tokens is not None:
        sets = [f * sweep.blocks.tokens for f in _FACTORS]
    if not sets:
        sets = [8.0 * sweep.shape.footprint]
    counts = {sweep.shape.prefixes_of(min(s, sweep.largest)) for s in sets}
    return [n * sweep.shape.footprint for n in sorted(counts)]


def load_of_set(sweep: Sweep, tokens: float, suffix: str = "") -> Load:
    """Sent once, then again from the last to the first."""
    count = sweep.shape.prefixes_of(tokens)
    name = f"capacity-{count * sweep.shape.footprint}{suffix}"
    base = sweep.base_of(name)
    shape = {
        "shared": sweep.shape.prefix,
        "tokens": sweep.shape.prefix + sweep.shape.block,
        "osl": sweep.shape.osl,
        "block": sweep.shape.block,
        "base": base,
    }
    order = np.arange(count, dtype=np.int64)
    warm = repeated(order, **shape)
    again = repeated(order[::-1].copy(), first_own=count, **shape)
    label = f"capacity, {count:,} live prefixes, {count * sweep.shape.footprint:,} tokens"
    return Load(name=name, measured=again, warm=warm, concurrency=1, label=label)


def measure_set(sweep: Sweep, meter: Meter, tokens: float, suffix: str = "") -> CapacityPoint | None:
    load = load_of_set(sweep, tokens, suffix)
    point = meter(load)
    if point is None or load.warm is None:
        return None
    theory = Theory(joined(load.warm, load.measured), load.warm.count)
    rows = point.row.astype(np.int64)
    blocks = sweep.num_blocks
    hits = point.hits
    return CapacityPoint(
        tokens=load.measured.count * sweep.shape.footprint,
        prefixes=load.measured.count,
        point=point,
        infinite=float(theory.infinite()[rows].sum()),
        lru=None if blocks is None else float(theory.lru(blocks)[rows].sum()),
        lru_blocks=None if hits is None else theory.lru_capacity(hits),
    )


def sweep_sets(sweep: Sweep, meter: Meter) -> Iterator[CapacityPoint]:
    """The planned working sets; then doubled until hits fall, where the capacity is not known; then finer around the knee."""
    points: list[CapacityPoint] = []
    for tokens in planned_sets(sweep):
        if (measured := measure_set(sweep, meter, tokens)) is not None:
            points.append(measured)
            yield measured
    if not points or any(p.served is None for p in points):
        return
    while not sweep.wanted and points[-1].is_whole and points[-1].tokens * 2 <= sweep.largest:
        measured = measure_set(sweep, meter, points[-1].tokens * 2)
        if measured is None:
            return
        points.append(measured)
        yield measured
    if sweep.wanted:
        return
    for _ in range(_REFINED):
        known = Capacity(points=tuple(sorted(points, key=lambda p: p.tokens)), shape=sweep.shape, blocks=sweep.blocks)
        low, high = known.low, known.high
        if low is None or high is None or high.tokens / low.tokens <= _NARROW:
            return
        middle = float(np.sqrt(low.tokens * high.tokens))
        if sweep.shape.prefixes_of(middle) in {low.prefixes, high.prefixes}:
            return
        measured = measure_set(sweep, meter, middle)
        if measured is None:
            return
        points.append(measured)
        yield measured


def capacity_figures(capacity: Capacity) -> Iterator[StudyFigure]:
    """All figures of the part but the tiers'; those that cannot be known say why."""
    points = capacity.points
    known = [p for p in points if p.served is not None]
    low, high, knee = capacity.low, capacity.high, capacity.knee
    reason = _why_no_knee(capacity, known)
    estimates = capacity.lru_estimates
    if knee is not None and capacity.lru_size is not None:
        rests = f"size of an LRU cache that explains {len(estimates)} working set{'s' if len(estimates) > 1 else ''}"
        yield StudyFigure(name="knee_tokens", value=knee, low=min(estimates), high=max(estimates), rests_on=rests)
    else:
        bounds = (
            (None, None) if knee is None or low is None or high is None else (float(low.tokens), float(high.tokens))
        )
        yield StudyFigure(
            name="knee_tokens", value=knee, low=bounds[0], high=bounds[1], reason=reason, rests_on="the two bounds"
        )
    for name, bound in (("knee_low", low), ("knee_high", high)):
        yield StudyFigure(
            name=name,
            value=None if bound is None else float(bound.tokens),
            reason=reason or "no working set of that kind was measured",
            rests_on="" if bound is None else f"{100 * (bound.served or 0):.1f} % of the possible hits",
        )
    reported = capacity.blocks.tokens
    no_count = "the server does not report the number and size of its KV blocks"
    yield StudyFigure(
        name="reported_tokens",
        value=None if reported is None else float(reported),
        reason=no_count,
        rests_on=capacity.blocks.source,
    )
    share = None if reported is None or knee is None else 100 * knee / reported
    yield StudyFigure(name="knee_share_of_reported", value=share, reason=no_count if reported is None else reason)


def _why_no_knee(capacity: Capacity, known: Sequence[CapacityPoint]) -> str:
    if not capacity.points:
        return "no working set was measured"
    if not known:
        return "the server reports neither `cached_tokens` in `usage` nor prefix-cache counters: hits cannot be known"
    if capacity.high is None:
        return f"hits never fell up to a working set of {known[-1].tokens:,} tokens (`--max-working-set` raises it)"
    if capacity.low is None:
        found = 100 * (known[0].served or 0.0)
        text = f"not even the smallest working set ({known[0].tokens:,} tokens) was served completely ({found:.1f} % of the possible hits)"
        slots = capacity.blocks.slots
        return text if slots is None else f"{text}; the server keeps the last prompt of each of its {slots} slots"
    return ""

"""Which eviction policy explains the hits: two orders of requests on which policies differ, each simulated under every policy.

| Order | LRU | first in, first out | least often used | random |
|---|---|---|---|---|
| hot: a small set read again before its blocks are the oldest, beside prompts sent once | all | lost once per turnover | all | few |
| past: a set that was read often and is not any more, then another that fits without it | all | all | none | few |

The policy whose simulation is nearest to what was measured on both is named if the next best is clearly worse (`CLEAR`); else none is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from aiperf.studies.cache.capacity import Sweep
from aiperf.studies.cache.meter import Load, Meter
from aiperf.studies.cache.prompts import Prompts, joined, repeated
from aiperf.studies.cache.theory import POLICIES, Policy, Theory

__all__ = ["NAMES", "OrderResult", "PolicyResult", "measure_policy", "policy_loads"]

NAMES: Final[Mapping[Policy, str]] = {
    "lru": "least recently used (LRU)",
    "fifo": "first in, first out",
    "lfu": "least often used",
    "random": "random",
}
Order = Literal["hot", "past"]
CLEAR: Final = 0.1
"""Least distance, in hits ÷ possible hits, by which the best policy must be better than the next."""
_FITS: Final = 0.15
"""Largest distance at which a policy explains what was measured."""
_PAST: Final = 0.5
_PAST_READS: Final = 4
_PRESENT: Final = 0.8
_HOT_SHARE: Final = 0.2
_HOT_DISTANCE: Final = 0.6
_TURNOVERS: Final = 2.0
"""Of the hot order: text sent once, in capacities."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class OrderResult:
    """`measured`: hits ÷ hits of an unbounded cache, of the requests that come again; `expected`: the same under each policy."""

    order: Order
    measured: float
    expected: Mapping[Policy, float]


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """`policy` None: the orders do not decide, and `why` says so. `distance`: root mean square over the orders, by policy."""

    orders: tuple[OrderResult, ...]
    policy: Policy | None
    distance: Mapping[Policy, float]
    why: str

    @property
    def ranked(self) -> list[Policy]:
        return sorted(self.distance, key=self.distance.__getitem__)


def policy_loads(sweep: Sweep, capacity: float) -> dict[Order, Load]:
    """`capacity`: tokens of the cache, as measured or reported."""
    return {"hot": _hot(sweep, capacity), "past": _past(sweep, capacity)}


def _prompts(sweep: Sweep, order: Ints, base: int, first_own: int = 0) -> Prompts:
    shape = sweep.shape
    return repeated(
        order,
        shared=shape.prefix,
        tokens=shape.prefix + shape.block,
        osl=shape.osl,
        block=shape.block,
        base=base,
        first_own=first_own,
    )


def _past(sweep: Sweep, capacity: float) -> Load:
    """Read often first: half of the capacity; then, twice, a set of four fifths of it: only a cache that forgets the first has room."""
    name = "policy-past"
    base = sweep.base_of(name)
    old, new = sweep.shape.prefixes_of(_PAST * capacity), sweep.shape.prefixes_of(_PRESENT * capacity)
    present = old + np.arange(new, dtype=np.int64)
    before = np.concatenate([np.tile(np.arange(old, dtype=np.int64), _PAST_READS), present])
    return Load(
        name=name,
        warm=_prompts(sweep, before, base),
        measured=_prompts(sweep, present, base, first_own=len(before)),
        concurrency=1,
        label="eviction policy, another set after one that was read often",
    )


def _hot(sweep: Sweep, capacity: float) -> Load:
    """Between two reads of a hot prefix lie the other hot ones and cold prompts, `_HOT_DISTANCE` of the capacity in all."""
    name = "policy-hot"
    base = sweep.base_of(name)
    hot = sweep.shape.prefixes_of(_HOT_SHARE * capacity)
    between = sweep.shape.prefixes_of(_HOT_DISTANCE * capacity)
    per_hot = max(1, round((between - hot) / hot))
    rounds = max(3, round(_TURNOVERS * capacity / sweep.shape.footprint / (per_hot * hot)))
    cold = hot + np.arange(rounds * hot * per_hot, dtype=np.int64).reshape(rounds * hot, per_hot)
    again = np.column_stack([np.tile(np.arange(hot, dtype=np.int64), rounds), cold]).reshape(-1)
    return Load(
        name=name,
        warm=_prompts(sweep, np.arange(hot, dtype=np.int64), base),
        measured=_prompts(sweep, again, base, first_own=hot),
        concurrency=1,
        label="eviction policy, a hot set beside prompts sent once",
    )


def measure_policy(sweep: Sweep, meter: Meter, capacity: float) -> Iterator[OrderResult | PolicyResult]:
    """Each order as soon as it is measured, then what they say together."""
    results: list[OrderResult] = []
    for order, load in policy_loads(sweep, capacity).items():
        point = meter(load)
        if point is None or point.hits is None or load.warm is None:
            continue
        theory = Theory(joined(load.warm, load.measured), load.warm.count)
        rows = point.row.astype(np.int64)
        possible = float(theory.infinite()[rows].sum())
        blocks = max(1, round(capacity / sweep.shape.block))
        result = OrderResult(
            order=order,
            measured=point.hits / possible,
            expected={p: float(theory.policy(p, blocks)[rows].sum()) / possible for p in POLICIES},
        )
        results.append(result)
        yield result
    yield decide(results)


def decide(results: list[OrderResult]) -> PolicyResult:
    """The policy that is nearest to both orders, if it is near and the next one is not."""
    if not results:
        return PolicyResult(orders=(), policy=None, distance={}, why="hits cannot be known")
    distance = {p: float(np.sqrt(np.mean([(r.measured - r.expected[p]) ** 2 for r in results]))) for p in POLICIES}
    ranked = sorted(distance, key=distance.__getitem__)
    best, second = ranked[0], ranked[1]
    told = ", ".join(
        f"{r.order}: {r.measured:.0%} of the possible hits, {best} {r.expected[best]:.0%}" for r in results
    )
    policy: Policy | None = best
    if distance[best] > _FITS:
        policy = None
        why = f"no policy explains what was measured (nearest: {NAMES[best]}; {told})"
    elif distance[second] - distance[best] < CLEAR:
        policy = None
        why = f"{NAMES[best]} and {NAMES[second]} explain it alike ({told})"
    else:
        why = f"decided by two orders of requests ({told}; next best: {NAMES[second]}, off by {distance[second]:.0%})"
    return PolicyResult(orders=tuple(results), policy=policy, distance=distance, why=why)

"""Isolation: what runs give away to each other, whether a reset helps, whether cancelled requests give their blocks back, and what routing does.

Contamination: prompts that an earlier run of the study has sent are sent again. Affinity: prompts that share a prefix, once as the turns of
one session (same session headers, same URL), once as sessions of their own. Leak: a working set that fits is read before and after a run
whose requests are all cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from aiperf.studies.cache.capacity import Shape
from aiperf.studies.cache.meter import Load, Meter, Point
from aiperf.studies.cache.prompts import Prompts, repeated
from aiperf.studies.metric import StudyFigure

__all__ = ["Isolation", "IsolationPlan", "isolation_figures", "measure_isolation", "plan_isolation"]

_REPEATS: Final = 4
"""Requests of each prefix in the affinity loads, the cold one included."""
_CANCELLED_OSL: Final = 512
_AFTER_CHUNKS: Final = 1


@dataclass(frozen=True, kw_only=True)
class IsolationPlan:
    """Loads in the order of sending. `reset` None: the server's cache cannot be reset."""

    first: Load
    again: Load
    reset: Load | None
    sticky: Load
    loose: Load
    before: Load
    cancelled: Load
    after: Load

    @property
    def loads(self) -> tuple[Load, ...]:
        all_of = (self.first, self.again, self.reset, self.sticky, self.loose, self.before, self.cancelled, self.after)
        return tuple(load for load in all_of if load is not None)


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """What came of the loads; None: not measured. `why_no_reset`: what the server said."""

    again: Point | None = None
    reset: Point | None = None
    sticky: Point | None = None
    loose: Point | None = None
    before: Point | None = None
    cancelled: Point | None = None
    after: Point | None = None
    why_no_reset: str = ""

    @property
    def lost(self) -> float | None:
        """Share of the hits below the knee that the cancelled run cost, 0 to 1."""
        before = None if self.before is None else self.before.hits
        after = None if self.after is None else self.after.hits
        return None if not before or after is None else max(0.0, 1 - after / before)

    @property
    def idle_growth(self) -> float | None:
        """Percentage points of the KV cache that were in use while nothing ran, after the cancelled run more than before."""
        before = None if self.before is None else self.before.kv_idle
        after = None if self.after is None else self.after.kv_idle
        return None if before is None or after is None else after - before


def plan_isolation(
    *,
    shape: Shape,
    tokens: int,
    count: int,
    room: float,
    can_reset: bool,
    base_of: Callable[[str], int],
) -> IsolationPlan:
    """`count`: requests of the contamination loads. `room`: tokens that surely fit into the cache; the leak is looked for with them."""
    base = base_of("isolation")
    order = np.arange(max(2, min(count, shape.prefixes_of(room) // 2)), dtype=np.int64)
    same = repeated(order, shared=0, tokens=tokens, osl=1, block=shape.block, base=base)
    first = Load(name="isolation-first", measured=same, label="isolation, prompts for the first time")
    again = Load(name="isolation-again", measured=same, fresh=False, label="isolation, the same prompts in another run")
    reset = None
    if can_reset:
        reset = Load(
            name="isolation-reset", measured=same, fresh=True, label="isolation, the same prompts after a reset"
        )
    sticky = _affinity("affinity-on", shape, room, base_of("affinity-on"), sessions=True)
    loose = _affinity("affinity-off", shape, room, base_of("affinity-off"), sessions=False)
    before = _read_twice("leak-before", shape, room, base_of("leak-before"), fresh=True)
    cancelled = _cancelled(shape, room, base_of("leak-cancelled"))
    after = _read_twice("leak-after", shape, room, base_of("leak-after"), fresh=True)
    return IsolationPlan(
        first=first,
        again=again,
        reset=reset,
        sticky=sticky,
        loose=loose,
        before=before,
        cancelled=cancelled,
        after=after,
    )


def _affinity(name: str, shape: Shape, room: float, base: int, *, sessions: bool) -> Load:
    prefixes = max(2, min(8, shape.prefixes_of(room) // _REPEATS))
    # In another order each time: servers that take turns would else get the same prefixes each time, by chance.
    rng = np.random.default_rng(base)
    order = np.concatenate([rng.permutation(prefixes) for _ in range(_REPEATS)])
    prompts = repeated(
        order,
        shared=shape.prefix,
        tokens=shape.prefix + shape.block,
        osl=shape.osl,
        block=shape.block,
        base=base,
    )
    if sessions:
        prompts = prompts.with_sessions()
    words = "one session per prefix" if sessions else "each request a session"
    # With one session each as many in flight as prefixes: their turns alternate as they do without.
    values = {"conversation.num_sessions": prefixes, "load.request_count": None} if sessions else {}
    return Load(
        name=name,
        measured=prompts,
        concurrency=prefixes if sessions else 1,
        values=values,
        label=f"routing, {words}",
    )


def _read_twice(name: str, shape: Shape, room: float, base: int, *, fresh: bool) -> Load:
    count = shape.prefixes_of(room)
    order = np.arange(count, dtype=np.int64)
    made = repeated(
        order, shared=shape.prefix, tokens=shape.prefix + shape.block, osl=shape.osl, block=shape.block, base=base
    )
    again = replace(made, own=made.own + count).slice(slice(None, None, -1))
    return Load(
        name=name, warm=made, measured=again, concurrency=1, fresh=fresh, label=f"leak, {name[5:]} the cancelled run"
    )


def _cancelled(shape: Shape, room: float, base: int) -> Load:
    count = max(4, shape.prefixes_of(room) // 2)
    order = np.arange(count, dtype=np.int64)
    made: Prompts = repeated(order, shared=0, tokens=shape.prefix, osl=_CANCELLED_OSL, block=shape.block, base=base)
    values = {"load.request_cancellation_rate": 100.0, "load.request_cancellation_after_chunks": _AFTER_CHUNKS}
    return Load(
        name="leak-cancelled",
        measured=made,
        concurrency=2,
        fresh=False,
        values=values,
        label="leak, all requests cancelled",
        may_fail=True,
    )


def measure_isolation(plan: IsolationPlan, meter: Meter, why_no_reset: str = "") -> Isolation:
    """In the plan's order; `Interrupted` goes through."""
    meter(plan.first)
    again = meter(plan.again)
    reset = None if plan.reset is None else meter(plan.reset)
    sticky, loose = meter(plan.sticky), meter(plan.loose)
    before = meter(plan.before)
    cancelled = meter(plan.cancelled)
    after = meter(plan.after)
    return Isolation(
        again=again,
        reset=reset,
        sticky=sticky,
        loose=loose,
        before=before,
        cancelled=cancelled,
        after=after,
        why_no_reset=why_no_reset,
    )


def isolation_figures(isolation: Isolation) -> tuple[StudyFigure, ...]:
    """Those that cannot be known say why."""
    unknown = "the server reports neither `cached_tokens` in `usage` nor prefix-cache counters: hits cannot be known"

    def rate(name: str, point: Point | None, why: str = "no request of this load succeeded") -> StudyFigure:
        value = None if point is None else point.rate
        reason = why if point is None else unknown
        return StudyFigure(
            name=name,
            value=None if value is None else 100 * value,
            reason=reason,
            rests_on="" if point is None else f"{point.count} requests, {point.source}",
        )

    lost = isolation.lost
    before = None if isolation.before is None else isolation.before.hits
    no_hits = "a working set that fits had no hits before the cancelled run" if before == 0 else unknown
    return (
        rate("contamination", isolation.again),
        rate("hit_rate_after_reset", isolation.reset, isolation.why_no_reset or "the cache was not reset"),
        rate("affinity_hit_rate", isolation.sticky),
        rate("no_affinity_hit_rate", isolation.loose),
        StudyFigure(
            name="leaked_share",
            value=None if lost is None else 100 * lost,
            reason=no_hits,
            rests_on="hits of a working set that fits, before and after",
        ),
    )

"""What each point of a sweep is good for, by rules anyone can check by hand.

Points are ordered by load. TPS stands for total output tokens per second (per GPU it is the same order).

* *peak*: the least load that reaches 98 % of the highest TPS.
* *over-saturated*: more load than the peak and at least 2 % fewer TPS; the *collapse* if at least 10 % fewer, or if TTFT grew by more
  than the load did.
* *saturated*: more load than the peak, TPS within 2 % of it: more users only wait longer.
* *best experience*: the least load up to the peak that reaches 98 % of the highest TPS/user.
* *balanced*: of the points strictly between those two, the one whose weaker side is strongest: TPS and TPS/user are each scaled to
  0 … 1 over the points up to the peak, and the smaller of the two is largest.
* *rising*: the rest up to the peak.
* *single*: the only point with a result: there is nothing to compare it with, and it wins nothing.

Winners: experience → best experience, balanced → balanced (the peak if there is no point between), cost → the highest TPS, that is the
lowest price per token (to within 2 %). With a TTFT limit, cost and balanced only win with at least 95 % of the requests within it, if any point has that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from aiperf.sweeps.points import RunPoint

__all__ = ["Goal", "Role", "Roles", "assign_roles"]

Role = Literal["best experience", "balanced", "peak", "saturated", "over-saturated", "rising", "single", "failed"]
Goal = Literal["experience", "balanced", "cost"]
_SAME: Final = 0.02
_COLLAPSE: Final = 0.10
_WITHIN: Final = 0.95


@dataclass(frozen=True, slots=True)
class Roles:
    """`roles`: per point. `winners`: goal → index. `collapse`: (index, sentence) of the point where throughput breaks down, or None.

    `limited`: the TTFT limit (ms) was given, but no point keeps it for 95 % of its requests.
    """

    roles: tuple[Role, ...]
    winners: tuple[tuple[Goal, int], ...]
    collapse: tuple[int, str] | None
    limited: bool = False


def _least(indices: Sequence[int], values: Mapping[int, float]) -> int:
    """The least load whose value is within 2 % of the highest."""
    top = max(values[i] for i in indices)
    return next(i for i in indices if values[i] >= (1 - _SAME) * top)


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [0.0 if high == low else (v - low) / (high - low) for v in values]


def assign_roles(points: Sequence[RunPoint], ttft_limit_ms: float | None = None) -> Roles:
    """`points` in the order of load; those without throughput are "failed"."""
    usable = [i for i, p in enumerate(points) if p.tps is not None]
    roles: list[Role] = ["failed"] * len(points)
    if len(usable) < 2:
        for index in usable:
            roles[index] = "single"
        return Roles(tuple(roles), (), None, limited=bool(usable) and not _kept(points, usable, ttft_limit_ms))
    tps = {i: points[i].tps or 0.0 for i in usable}
    user = {i: points[i].tps_per_user for i in usable}
    peak = _least(usable, tps)
    rising = [i for i in usable if i <= peak]
    for index in usable:
        roles[index] = (
            "rising"
            if index < peak
            else "peak"
            if index == peak
            else "over-saturated"
            if tps[index] <= (1 - _SAME) * tps[peak]
            else "saturated"
        )
    streamed = [i for i in rising if user[i] is not None]
    best = _least(streamed, {i: user[i] or 0.0 for i in streamed}) if streamed else rising[0]
    balanced: int | None = None
    between = [i for i in streamed if i not in {best, peak}]
    if between:
        weak = dict(
            zip(
                streamed,
                map(min, _scaled([tps[i] for i in streamed]), _scaled([user[i] or 0.0 for i in streamed])),
                strict=True,
            )
        )
        balanced = max(between, key=lambda i: weak[i])
        roles[balanced] = "balanced"
    if best != peak:
        roles[best] = "best experience"
    within = _kept(points, usable, ttft_limit_ms)
    kept = within or usable
    winners: list[tuple[Goal, int]] = [("experience", best)]
    middle = (
        balanced
        if balanced is not None and balanced in kept
        else max((i for i in kept if i <= peak), key=lambda i: tps[i], default=peak)
    )
    winners += [("balanced", middle), ("cost", _least(kept, tps))]
    return Roles(tuple(roles), tuple(winners), _collapse(points, usable, peak), limited=not within)


def _kept(points: Sequence[RunPoint], usable: Sequence[int], ttft_limit_ms: float | None) -> list[int]:
    """Those that keep the limit for 95 % of their requests; all without a limit."""
    if ttft_limit_ms is None:
        return list(usable)
    return [i for i in usable if (points[i].share_within(ttft_limit_ms) or 0.0) >= _WITHIN]


def _collapse(points: Sequence[RunPoint], usable: Sequence[int], peak: int) -> tuple[int, str] | None:
    """The first point past the peak that is more than saturated, in a sentence."""
    top = points[peak]
    for index in usable:
        if index <= peak or not top.tps:
            continue
        point = points[index]
        lost = 1 - (point.tps or 0.0) / top.tps
        waits = point.ttft / top.ttft if point.ttft and top.ttft else None
        more = point.load / top.load if point.load and top.load else None
        queued = waits is not None and more is not None and waits > more and lost > _SAME
        if lost < _COLLAPSE and not queued:
            continue
        parts = [f"at {point.label} throughput is {100 * lost:.0f}% below the peak at {top.label}"]
        if waits is not None and point.ttft is not None:
            parts.append(f"and TTFT {waits:.1f}× as long ({point.ttft:,.0f} ms)")
        return index, " ".join(parts) + ": requests queue, both sides lose"
    return None

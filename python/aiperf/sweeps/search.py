"""The highest load that still meets a condition: a monotone search over noisy answers, pure.

`search` asks a probe for a value (a concurrency, a rate) and spends as few requests as it can:

1. bracket: roughly, from the lowest value up by a factor of 8 (2 from 64 on, 1.6 from 128 on) until one fails, or is too close to call;
2. locate, where a law tells from the runs near the limit where it lies (`locate`, see `aiperf.sweeps.crossing`): values a little below and
   above are asked in settled runs, until three or more of them agree within `tolerance`. A verdict that contradicts them ends it;
3. narrow, without such a law: the figure's distance from its limit (`margin`, a logarithm) is interpolated between the best value that
   passes and the least that fails, and values a little below and above the crossing are asked, so that both ends close in; bisection in
   the logarithm where there is nothing to go by. Done when the ends are neighbours, or so close that their middle is within
   `tolerance` of both.

A probe may be *unresolved*: its interval holds the limit. It is asked for more requests, up to `patience` times; if it stays
unresolved, the value becomes part of the grey zone between the ends, and the search goes on around it. A grey zone wider than the
tolerance is reported as such: `unresolved`, never a guess dressed as an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from aiperf.number_text import exact, significant

__all__ = [
    "Ask",
    "Crossing",
    "Effort",
    "Locate",
    "Probe",
    "ProbeOutcome",
    "Range",
    "SearchOptions",
    "SearchResult",
    "maximise",
    "search",
]

Judgement = Literal["pass", "fail", "unresolved"]
Status = Literal["found", "unresolved", "all pass", "none pass", "exhausted"]
_STEPS: Final = ((64, 8.0), (128, 2.0), (math.inf, 1.6))
"""Of the bracket: below this value times so much. Finer further up, where a step too far costs the most requests."""
_FINE: Final = 2.0
_FEWEST_NEAR: Final = 3
_OFFSET: Final = 0.6
"""Values asked around the located limit lie this share of the tolerance to either side of it."""
_LOCATE_STEPS: Final = 12
_LONGER_FROM: Final = 8
_FLOOR: Final = 0.5
"""A located limit is claimed to this share of the tolerance at best: what all runs have in common, their start, no scatter shows."""
_WIDE: Final = 1.3
_SURE: Final = math.log(2)
"""A rough run begins in a server that is not yet as full as it will be: that it failed stands only where it is off by a factor of two, that it
passed not at all."""
_CLOSE: Final = math.log(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutcome:
    """What all requests sent at a value so far say.

    `margin`: ln(limit / figure), or ln(figure / limit) where larger is better: positive passes; None if there is no such number.
    `requests`: sent by this call alone. `is_hopeless`: over-saturated, the probe stopped early. `objective`: the goodput, for
    `maximise`, with its standard error. `figures`: what to show. `reason`: one line.
    """

    verdict: Judgement
    requests: int
    margin: float | None = None
    margin_low: float | None = None
    margin_high: float | None = None
    is_hopeless: bool = False
    objective: float | None = None
    objective_se: float = 0.0
    figures: tuple[tuple[str, float], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Crossing:
    """The limit lies at `value` ± `half` (95 %), by `runs` runs around `centre`. No runs, half inf: only a pointer from further away."""

    value: float
    half: float = math.inf
    runs: int = 0
    centre: float = 0.0


Effort = int
"""How long a value is asked: 0: roughly, to know where it lies; from 1 on settled, each time twice as long."""
Ask = Callable[[float, Effort], ProbeOutcome]
Locate = Callable[[], Crossing | None]
"""Where the limit lies by all that was asked so far; None where no law tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One value asked: its last outcome, `requests` over all calls, the longest `effort`."""

    value: float
    outcome: ProbeOutcome
    requests: int
    calls: int
    effort: Effort = 0

    @property
    def is_sure(self) -> bool:
        """Its verdict can be built on: from a settled run, or failed by far."""
        margin = self.outcome.margin
        return self.effort > 0 or self.outcome.is_hopeless or margin is None or margin <= -_SURE

    @property
    def is_above(self) -> bool:
        """The figure is on the wrong side of its limit, for sure or not."""
        return self.outcome.verdict == "fail" or (self.outcome.margin is not None and self.outcome.margin < 0)


@dataclass(frozen=True, slots=True)
class Range:
    """Values from `low` to `high`, whole numbers if `is_whole`."""

    low: float
    high: float
    is_whole: bool = True

    @property
    def least(self) -> float:
        """The smallest step that makes another value."""
        return 1.0 if self.is_whole else 0.0

    def snap(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        return float(round(value)) if self.is_whole else float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """`tolerance`: the estimate may be off by this share: the ends are (1 + tolerance)² apart at most. `patience`: how often an unresolved value is prolonged.

    `max_probes`: most values asked; the search then ends as "exhausted" with what it has.
    """

    tolerance: float = 0.05
    patience: int = 3
    max_probes: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """`value`: what can be relied on: the highest value that passed, or the lower end of the located limit; None if none did. The limit
    lies between `low` and `high` (None: not reached), most likely at `estimate`.

    found: [low, high] is within the tolerance. unresolved: the grey zone is wider. all pass: the end of the range passes. none pass:
    its beginning fails. exhausted: `max_probes` were used up. `requests`: spent in all. `objective`: of `maximise`, at `value`.
    """

    status: Status
    value: float | None
    low: float | None
    high: float | None
    probes: tuple[Probe, ...]
    requests: int
    estimate: float | None = None
    objective: float | None = None

    @property
    def text(self) -> str:
        spent = f"{len(self.probes)} values, {self.requests:,} requests"
        if self.objective is not None and self.value is not None:
            ends = [exact(v) for v in (self.low, self.high) if v is not None]
            doubt = ", not surely more than its neighbours" if self.status == "unresolved" else ""
            return f"{significant(self.objective)} at {exact(self.value)}{doubt} (next to it: {' and '.join(ends) or 'nothing'}); {spent}"
        match self.status:
            case "found":
                return f"{exact(self.value)} (the limit is about {exact(self.estimate)}, between {exact(self.low)} and {exact(self.high)}); {spent}"
            case "all pass":
                return f"at least {exact(self.value)}: the end of the range still passes; {spent}"
            case "none pass":
                return f"none: {exact(self.high)} already fails; {spent}"
            case "exhausted":
                bounds = (
                    f"between {exact(self.low)} and {exact(self.high)}"
                    if self.low is not None and self.high is not None
                    else "unknown"
                )
                return f"{bounds}: the number of runs was used up; {spent}"
            case _:
                low = "below" if self.low is None else f"between {exact(self.low)} and"
                high = "the end of the range" if self.high is None else exact(self.high)
                return f"unresolved, {low} {high}: the server varies too much to say more; {spent}"


class _Asked:
    """The values asked so far, and the three groups they fall in."""

    def __init__(self, ask: Ask, space: Range, options: SearchOptions) -> None:
        self._ask = ask
        self._options = options
        self.space = space
        self.probes: dict[float, Probe] = {}

    @property
    def is_exhausted(self) -> bool:
        return len(self.probes) >= self._options.max_probes

    def is_done(self, value: float) -> bool:
        """Decided, or asked as often as it may be."""
        probe = self.probes.get(value)
        return probe is not None and (probe.outcome.verdict != "unresolved" or probe.calls > self._options.patience)

    def ask(self, value: float, *, patience: int | None = None) -> Probe:
        """Ask, and prolong while it is unresolved, also what was asked before; what is decided is not asked again."""
        known = self.probes.get(self.space.snap(value))
        rounds = self._options.patience if patience is None else patience
        while known is None or (known.outcome.verdict == "unresolved" and known.calls <= rounds):
            known = self.ask_once(value)
        return known

    def ask_once(self, value: float, effort: Effort | None = None) -> Probe:
        """One more run at a value, decided or not; longer than those before unless `effort` says how long."""
        value = self.space.snap(value)
        known = self.probes.get(value)
        requests, calls, longest = (0, 0, 0) if known is None else (known.requests, known.calls, known.effort)
        effort = calls if effort is None else effort
        outcome = self._ask(value, effort)
        self.probes[value] = Probe(
            value=value,
            outcome=outcome,
            requests=requests + outcome.requests,
            calls=calls + 1,
            effort=max(effort, longest),
        )
        return self.probes[value]

    @property
    def low(self) -> Probe | None:
        """The highest value that passes and lies below every one that fails."""
        high = self.high
        passed = [
            p for p in self.probes.values() if p.outcome.verdict == "pass" and (high is None or p.value < high.value)
        ]
        return max(passed, key=lambda p: p.value, default=None)

    @property
    def high(self) -> Probe | None:
        failed = [p for p in self.probes.values() if p.outcome.verdict == "fail"]
        return min(failed, key=lambda p: p.value, default=None)

    @property
    def grey(self) -> list[float]:
        """Unresolved values between the ends."""
        low, high = self.low, self.high
        return sorted(
            p.value
            for p in self.probes.values()
            if p.outcome.verdict == "unresolved"
            and (low is None or p.value > low.value)
            and (high is None or p.value < high.value)
        )

    def result(self, status: Status) -> SearchResult:
        low, high = self.low, self.high
        probes = tuple(self.probes.values())
        value = None if low is None else low.value
        estimate = None
        if low is not None and high is not None:
            crossing = _crossing(self)
            middle = math.sqrt(low.value * high.value) if crossing is None else math.exp(crossing)
            estimate = float(f"{middle:.4g}")
        return SearchResult(
            status=status,
            value=value,
            low=value,
            high=None if high is None else high.value,
            probes=probes,
            requests=sum(p.requests for p in probes),
            estimate=estimate,
        )


def search(ask: Ask, space: Range, options: SearchOptions | None = None, locate: Locate | None = None) -> SearchResult:
    """The highest value in `space` whose condition holds, if holding is monotone: what fails stays failed further up."""
    settings = options or SearchOptions()
    asked = _Asked(ask, space, settings)
    _bracket(asked, locate)
    lowest = asked.probes[space.snap(space.low)]
    if lowest.outcome.verdict == "fail" and not lowest.is_sure:
        lowest = asked.ask_once(lowest.value, 1)
    while locate is not None and lowest.outcome.verdict != "fail":
        located = _locate(asked, settings, locate)
        if located is not None:
            return located
        if not _goes_on(asked):
            break
        _bracket(asked, locate)
    return _narrow(asked, settings)


def _goes_on(asked: _Asked) -> bool:
    """Nothing fails so far, and the range has more."""
    return asked.high is None and not asked.is_exhausted and max(asked.probes) < asked.space.high


def _narrow(asked: _Asked, options: SearchOptions) -> SearchResult:
    """By verdicts alone; rough ones that became an end are checked before they count."""
    while not asked.is_exhausted:
        if _goes_on(asked):
            _bracket(asked)
        value = _next(asked, options)
        if value is not None:
            asked.ask(value)
            continue
        doubtful = next((p for p in (asked.low, asked.high) if p is not None and not p.is_sure), None)
        if doubtful is not None:
            asked.ask_once(doubtful.value, 1)
        elif not _goes_on(asked):
            break
    return asked.result(_status(asked, options))


def _bracket(asked: _Asked, locate: Locate | None = None) -> None:
    """Up until a value fails; where the limit can be located, one that is too close to call is near enough."""
    space = asked.space
    while not asked.is_exhausted and asked.high is None:
        top = max(asked.probes, default=None)
        if top is not None and top >= space.high:
            return
        step = 1.0 if top is None else next(f for below, f in _STEPS if top < below)
        value = space.snap(max(space.low if top is None else top * step, 0.0 if top is None else top + space.least))
        # An unresolved value is not worth prolonging here: the next one up decides more cheaply.
        outcome = asked.ask(value, patience=0 if value < space.high else None).outcome
        is_close = outcome.margin is not None and abs(outcome.margin) < _CLOSE
        if outcome.verdict == "unresolved" and is_close and locate is not None and locate() is not None:
            return


def _locate(asked: _Asked, options: SearchOptions, locate: Locate) -> SearchResult | None:
    """By the law of `locate`; None if it knows none here, the range ends before the limit, or the verdicts contradict it."""
    crossing = locate()
    for step in range(_LOCATE_STEPS):
        if crossing is None or asked.is_exhausted:
            return None
        target = _target(asked, crossing, options, step)
        if target is None:
            return None
        value, effort = target
        probe = asked.ask_once(value, effort)
        if probe.value >= asked.space.high and probe.effort and probe.outcome.verdict == "pass":
            return None
        crossing = locate()
        if crossing is not None and crossing.runs >= _FEWEST_NEAR:
            half = max(crossing.half, _FLOOR * options.tolerance * crossing.value)
            if half <= options.tolerance * crossing.value and not _contradicted(asked, crossing, half):
                return _located(asked, crossing.value, half)
    if crossing is None or crossing.runs < _FEWEST_NEAR:
        return None
    # Asked often enough: what is left is the server's own scatter, which verdicts of single values would only hide.
    return _located(asked, crossing.value, crossing.half, "unresolved")


def _target(asked: _Asked, crossing: Crossing, options: SearchOptions, step: int) -> tuple[float, Effort] | None:
    """(value, effort) to ask next; None if there is nothing left to ask.

    Around the located limit, on either side in turn, so that an error of the law's slope cancels. Before two runs have located it: at the
    pointer, if it lies above what surely passes and below what surely fails; else half way between those.
    """
    space = asked.space
    effort = 1 if step < _LONGER_FROM else 2
    probes = asked.probes.values()
    ceiling = min((p.value for p in probes if p.outcome.verdict == "fail" and p.is_sure), default=math.inf)
    passed = (p.value for p in probes if p.outcome.verdict == "pass" and p.is_sure and p.value < ceiling)
    floor = max(passed, default=0.0)
    offset = (_OFFSET if crossing.centre < crossing.value else -_OFFSET) * options.tolerance
    for shift in (offset, -offset, 0.0) if crossing.runs >= _FEWEST_NEAR - 1 else (0.0,):
        value = space.snap(crossing.value * (1 + shift))
        if floor < value < ceiling:
            # What failed roughly and just above may not have: then this value would only repeat it.
            doubtful = (
                p.value for p in probes if not crossing.runs and p.is_above and not p.is_sure and p.value >= value
            )
            return min((v for v in doubtful if v <= value * (1 + options.tolerance)), default=value), effort
    if crossing.runs >= _FEWEST_NEAR - 1:
        return space.snap(crossing.value), effort
    upper = min((p for p in probes if p.value > floor and p.is_above), key=lambda p: p.value, default=None)
    if upper is None:
        value = space.snap(max(floor * _WIDE, floor + space.least))
        return (value, effort) if value > floor else None
    value = space.snap(math.sqrt(max(floor, space.low) * upper.value))
    if upper.effort == 0 and (upper.value <= floor * (1 + options.tolerance) or not floor < value < upper.value):
        return upper.value, effort
    if not floor < value < upper.value:
        return None
    return value, 0 if upper.value > max(floor, space.low) * _WIDE and value not in asked.probes else effort


def _contradicted(asked: _Asked, crossing: Crossing, half: float) -> bool:
    """A value clearly below the located limit failed, or one clearly above it passed, in a settled run."""
    slack = 1.5 * half + asked.space.least
    settled = [p for p in asked.probes.values() if p.effort > 0]
    return any(
        (p.outcome.verdict == "fail" and p.value < crossing.value - slack)
        or (p.outcome.verdict == "pass" and p.value > crossing.value + slack)
        for p in settled
    )


def _located(asked: _Asked, mean: float, width: float, status: Status = "found") -> SearchResult:
    space = asked.space
    low, high = mean - width, mean + width
    mean = min(max(mean, space.low), space.high)
    if space.is_whole:
        low, high = math.floor(low), math.ceil(high)
    if status == "unresolved":
        # What contradicts the pooled value belongs to the doubt.
        sure = [p for p in asked.probes.values() if p.is_sure]
        low = min([low, *(p.value for p in sure if p.outcome.verdict == "fail")])
        high = max([high, *(p.value for p in sure if p.outcome.verdict == "pass")])
    probes = tuple(asked.probes.values())
    bounds = (space.snap(low), space.snap(high))
    return SearchResult(
        status=status,
        value=bounds[0],
        low=bounds[0],
        high=bounds[1],
        probes=probes,
        requests=sum(p.requests for p in probes),
        estimate=float(f"{mean:.4g}"),
    )


def _is_close(low: float, high: float, asked: _Asked, options: SearchOptions) -> bool:
    if asked.space.is_whole and high - low <= 1:
        return True
    return low > 0 and high / low <= (1 + options.tolerance) ** 2 + 1e-9


def _status(asked: _Asked, options: SearchOptions) -> Status:
    low, high, space = asked.low, asked.high, asked.space
    if high is None:
        if low is not None and low.value >= space.high:
            return "all pass"
        return "exhausted" if asked.is_exhausted else "unresolved"
    if low is not None and _is_close(low.value, high.value, asked, options):
        return "found"
    if low is None and high.value <= space.low:
        return "none pass"
    return "unresolved" if asked.grey or not asked.is_exhausted else "exhausted"


def _next(asked: _Asked, options: SearchOptions) -> float | None:
    """The next value to ask, None when there is nothing to gain."""
    low, high, space = asked.low, asked.high, asked.space
    if high is None:
        return None
    bottom = low.value if low is not None else space.low
    if low is not None and _is_close(low.value, high.value, asked, options):
        return None
    left, right = math.log(bottom), math.log(high.value)
    crossing = _crossing(asked)
    if crossing is not None:
        # A little below and above the crossing, the end that is further away first: both ends then close in on it.
        half = math.log1p(options.tolerance) * 0.9
        targets = [space.snap(math.exp(crossing - half)), space.snap(math.exp(crossing + half))]
        for target in targets if crossing - left > right - crossing else reversed(targets):
            if bottom < target < high.value and not asked.is_done(target):
                return target
    grey = asked.grey
    if grey:
        # Close in on the grey zone from outside, the wider gap first.
        gaps = [(math.log(grey[0] / bottom), bottom, grey[0]), (math.log(high.value / grey[-1]), grey[-1], high.value)]
        for gap, inner, outer in sorted(gaps, reverse=True):
            middle = space.snap(math.sqrt(inner * outer))
            if gap > math.log1p(options.tolerance) / 2 and inner < middle < outer and not asked.is_done(middle):
                return middle
        return next((v for v in reversed(grey) if not asked.is_done(v)), None)
    candidate = space.snap(math.exp((left + right) / 2))
    if space.is_whole and not bottom < candidate < high.value:
        candidate = bottom + 1
    return candidate if bottom < candidate < high.value and not asked.is_done(candidate) else None


def _crossing(asked: _Asked) -> float | None:
    """Where the margin crosses 0, as a logarithm: a straight line between the ends; None if one is missing."""
    low, high = asked.low, asked.high
    if low is None or high is None:
        return None
    above, below = low.outcome.margin, high.outcome.margin
    if above is None or below is None or above <= 0 or below >= 0:
        return None
    # Far away from the limit the figure is not straight (a queue that has just formed): trust only what is near, at most e².
    above, below = min(above, 2.0), max(below, -2.0)
    share = above / (above - below)
    return math.log(low.value) + share * (math.log(high.value) - math.log(low.value))


def maximise(ask: Ask, space: Range, options: SearchOptions | None = None) -> SearchResult:
    """The value with the highest `objective` (goodput), which rises and then falls: doubling until it has fallen, then golden section.

    `low`, `high`: the neighbours asked last; status "unresolved" if they do not differ from the best by more than chance (2 standard
    errors) while being further away than the tolerance.
    """
    settings = options or SearchOptions()
    asked = _Asked(ask, space, settings)
    value = space.low
    best = asked.ask(value, patience=0)
    while value < space.high and not asked.is_exhausted:
        value = space.snap(value * _FINE)
        probe = asked.ask(value, patience=0)
        if _objective(probe) > _objective(best):
            best = probe
        elif probe.outcome.is_hopeless or _is_lower(probe, best):
            break
    while not asked.is_exhausted:
        left, right = _neighbours(asked, best)
        if (left is None or _is_close(left, best.value, asked, settings)) and (
            right is None or _is_close(best.value, right, asked, settings)
        ):
            break
        gaps = [
            (math.log(best.value / left), left) if left else (0.0, 0.0),
            (math.log(right / best.value), right) if right else (0.0, 0.0),
        ]
        gap, other = max(gaps)
        candidate = space.snap(math.exp(math.log(best.value) + (1 if other > best.value else -1) * 0.382 * gap))
        if gap == 0 or candidate in asked.probes:
            break
        probe = asked.ask(candidate, patience=0)
        if _objective(probe) > _objective(best):
            best = probe
    if not asked.is_exhausted:
        # The best of several noisy values looks better than it is: ask it once more for its figure.
        best = asked.ask_once(best.value)
    left, right = _neighbours(asked, best)
    probes = tuple(asked.probes.values())
    near = [p for p in probes if p.value in {left, right}]
    sure = all(
        _is_close(min(p.value, best.value), max(p.value, best.value), asked, settings) or _is_lower(p, best)
        for p in near
    )
    status: Status = "all pass" if best.value >= space.high else "found" if sure else "unresolved"
    return SearchResult(
        status=status,
        value=best.value,
        low=left,
        high=right,
        probes=probes,
        requests=sum(p.requests for p in probes),
        estimate=best.value,
        objective=best.outcome.objective,
    )


def _objective(probe: Probe) -> float:
    return -math.inf if probe.outcome.objective is None else probe.outcome.objective


def _is_lower(probe: Probe, best: Probe) -> bool:
    """Lower than the best by more than chance."""
    error = math.hypot(probe.outcome.objective_se, best.outcome.objective_se)
    return _objective(probe) < _objective(best) - 2 * error


def _neighbours(asked: _Asked, best: Probe) -> tuple[float | None, float | None]:
    below = [v for v in asked.probes if v < best.value]
    above = [v for v in asked.probes if v > best.value]
    return max(below, default=None), min(above, default=None)

"""The highest load that still meets a condition: a monotone search over noisy answers, pure.

`search` asks a probe for a value (a concurrency, a rate) and spends as few requests as it can:

1. bracket: from the lowest value up by a factor of 4 (of 2 above 32) until one fails;
2. locate, where the probe knows a law by which each answer tells where the limit lies (`suggestion`): values close to it are asked, and
   their suggestions pooled, until their 95 % interval is within `tolerance`. Suggestions that disagree by more than their errors
   widen the error (Birge), and a verdict that contradicts the pooled value ends it;
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

__all__ = ["Budget", "Probe", "ProbeOutcome", "Range", "SearchOptions", "SearchResult", "maximise", "search"]

Verdict = Literal["pass", "fail", "unresolved"]
Status = Literal["found", "unresolved", "all pass", "none pass", "exhausted"]
_FINE_FROM: Final = 32
_COARSE: Final = 4.0
_FINE: Final = 2.0
_NEAR: Final = 0.18
"""Suggestions count when they are within 20 % of the value they were made at: further away the law is only a pointer."""
_FEWEST_NEAR: Final = 4
_OFFSET: Final = 0.6
_LOCATE_STEPS: Final = 16


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """What all requests sent at a value so far say.

    `margin`: ln(limit / figure), or ln(figure / limit) where larger is better: positive passes; None if there is no such number.
    `requests`: sent by this call alone. `is_hopeless`: over-saturated, the probe stopped early. `objective`: the goodput, for
    `maximise`, with its standard error. `suggestion`: (value, standard error) where the probe itself expects the limit, by a law it knows.
    `figures`: what to show. `reason`: one line.
    """

    verdict: Verdict
    requests: int
    margin: float | None = None
    margin_low: float | None = None
    margin_high: float | None = None
    is_hopeless: bool = False
    objective: float | None = None
    objective_se: float = 0.0
    suggestion: tuple[float, float] | None = None
    figures: tuple[tuple[str, float], ...] = ()
    reason: str = ""


Budget = int
"""How often the value was asked already: 0 for the first time. The probe decides how many requests that is worth."""
Ask = Callable[[float, Budget], ProbeOutcome]


@dataclass(frozen=True, slots=True)
class Probe:
    """One value asked: its last outcome, `requests` over all calls."""

    value: float
    outcome: ProbeOutcome
    requests: int
    calls: int


@dataclass(frozen=True, slots=True)
class Range:
    """Values from `low` to `high`, whole numbers if `is_whole`."""

    low: float
    high: float
    is_whole: bool = True

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


@dataclass(frozen=True, slots=True)
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
            ends = [f"{v:g}" for v in (self.low, self.high) if v is not None]
            doubt = ", not surely more than its neighbours" if self.status == "unresolved" else ""
            return f"{self.objective:,.4g} at {self.value:g}{doubt} (next to it: {' and '.join(ends) or 'nothing'}); {spent}"
        match self.status:
            case "found":
                return f"{self.value:g} (the limit is about {self.estimate:g}, between {self.low:g} and {self.high:g}); {spent}"
            case "all pass":
                return f"at least {self.value:g}: the end of the range still passes; {spent}"
            case "none pass":
                return f"none: {self.high:g} already fails; {spent}"
            case "exhausted":
                bounds = (
                    f"between {self.low:g} and {self.high:g}"
                    if self.low is not None and self.high is not None
                    else "unknown"
                )
                return f"{bounds}: the number of runs was used up; {spent}"
            case _:
                low = "below" if self.low is None else f"between {self.low:g} and"
                high = "the end of the range" if self.high is None else f"{self.high:g}"
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
        value = self.space.snap(value)
        known = self.probes.get(value)
        requests, calls = (0, 0) if known is None else (known.requests, known.calls)
        rounds = self._options.patience if patience is None else patience
        while known is None or (known.outcome.verdict == "unresolved" and calls <= rounds):
            outcome = self._ask(value, calls)
            requests += outcome.requests
            calls += 1
            known = Probe(value, outcome, requests, calls)
        self.probes[value] = known
        return known

    def ask_more(self, value: float) -> Probe:
        """One more run at a value, decided or not."""
        value = self.space.snap(value)
        known = self.probes.get(value)
        requests, calls = (0, 0) if known is None else (known.requests, known.calls)
        outcome = self._ask(value, calls)
        self.probes[value] = Probe(value, outcome, requests + outcome.requests, calls + 1)
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
            status,
            value,
            value,
            None if high is None else high.value,
            probes,
            sum(p.requests for p in probes),
            estimate,
        )


def search(ask: Ask, space: Range, options: SearchOptions | None = None) -> SearchResult:
    """The highest value in `space` whose condition holds, if holding is monotone: what fails stays failed further up."""
    o = options or SearchOptions()
    asked = _Asked(ask, space, o)
    _bracket(asked)
    low, high = asked.low, asked.high
    if high is None:
        if low is not None and low.value >= space.high:
            return asked.result("all pass")
        return asked.result("exhausted" if asked.is_exhausted else "unresolved")
    if low is None and not asked.grey and high.value <= space.low:
        return asked.result("none pass")
    located = _locate(asked, o)
    if located is not None:
        return located
    while not asked.is_exhausted:
        value = _next(asked, o)
        if value is None:
            break
        asked.ask(value)
    return asked.result(_status(asked, o))


def _bracket(asked: _Asked) -> None:
    space = asked.space
    value = space.low
    while not asked.is_exhausted:
        # An unresolved value is not worth prolonging here: the next one up decides more cheaply.
        probe = asked.ask(value, patience=0 if value < space.high else None)
        if probe.outcome.verdict == "fail" or value >= space.high:
            return
        value = space.snap(value * (_COARSE if value < _FINE_FROM else _FINE))


def _pooled(asked: _Asked) -> tuple[float, float, int] | None:
    """(value, standard error, number of runs) of the suggestions made close to the value they suggest; None if there are none."""
    made = [(p.value, *p.outcome.suggestion) for p in asked.probes.values() if p.outcome.suggestion is not None]
    calls = sum(
        p.calls
        for p in asked.probes.values()
        if (s := p.outcome.suggestion) and s[0] > 0 and abs(math.log(p.value / s[0])) < _NEAR
    )
    near = [(s, max(e, 0.002 * v)) for v, s, e in made if s > 0 and abs(math.log(v / s)) < _NEAR]
    if not near:
        return None
    weights = [1 / e**2 for _, e in near]
    mean = sum(w * s for w, (s, _) in zip(weights, near, strict=True)) / sum(weights)
    spread = sum(w * (s - mean) ** 2 for w, (s, _) in zip(weights, near, strict=True))
    birge = max(1.0, spread / (len(near) - 1)) if len(near) > 1 else 1.0
    return mean, math.sqrt(birge / sum(weights)), calls


def _locate(asked: _Asked, options: SearchOptions) -> SearchResult | None:
    """By the probe's own law; None if it knows none, or the verdicts contradict it."""
    high = asked.high
    for step in range(_LOCATE_STEPS):
        if asked.is_exhausted:
            return None
        pooled = _pooled(asked)
        if pooled is None:
            if high is None or high.outcome.suggestion is None:
                return None
            guess = high.outcome.suggestion[0]
            if not asked.space.low < guess < high.value:
                return None
            value = asked.space.snap(guess)
            if value in asked.probes or (asked.low is not None and value <= asked.low.value):
                # The law pointed too low, where there is no queue yet: half way up to what fails.
                value = asked.space.snap(math.sqrt((asked.low.value if asked.low else value) * high.value))
                if value in asked.probes:
                    return None
        else:
            mean, error, count = pooled
            width = _width(count) * error
            if (
                count >= _FEWEST_NEAR
                and width <= options.tolerance * mean
                and not _contradicted(asked, mean, error, options)
            ):
                return _located(asked, mean, width)
            value = asked.space.snap(mean * (1 + (_OFFSET if step % 2 else -_OFFSET) * options.tolerance))
        known = asked.probes.get(value)
        if known is not None and known.calls > options.patience:
            break
        asked.ask_more(value)
        high = asked.high
    pooled = _pooled(asked)
    if pooled is None or pooled[2] < _FEWEST_NEAR:
        return None
    # Asked often enough: what is left is the server's own scatter, which verdicts of single values would only hide.
    return _located(asked, pooled[0], _width(pooled[2]) * pooled[1], "unresolved")


def _width(count: int) -> float:
    """Standard errors to each side for 95 %, with few values whose scatter is itself uncertain."""
    return 2 + 2 / (count - 1) if count > 1 else math.inf


def _contradicted(asked: _Asked, mean: float, error: float, options: SearchOptions) -> bool:
    """A value clearly below the pooled limit failed, or one clearly above it passed."""
    slack = max(3 * error, options.tolerance * mean) + 1
    return any(
        (p.outcome.verdict == "fail" and p.value < mean - slack)
        or (p.outcome.verdict == "pass" and p.value > mean + slack)
        for p in asked.probes.values()
    )


def _located(asked: _Asked, mean: float, width: float, status: Status = "found") -> SearchResult:
    space = asked.space
    low, high = mean - width, mean + width
    if space.is_whole:
        low, high = math.floor(low), math.ceil(high)
    if status == "found":
        passed = asked.low
        low = max(low, passed.value) if passed is not None and passed.value <= high else low
    else:
        # What contradicts the pooled value belongs to the doubt.
        low = min([low, *(p.value for p in asked.probes.values() if p.outcome.verdict == "fail")])
        high = max([high, *(p.value for p in asked.probes.values() if p.outcome.verdict == "pass")])
    probes = tuple(asked.probes.values())
    bounds = (space.snap(low), space.snap(high))
    return SearchResult(status, bounds[0], *bounds, probes, sum(p.requests for p in probes), float(f"{mean:.4g}"))


def _is_close(low: float, high: float, asked: _Asked, options: SearchOptions) -> bool:
    if asked.space.is_whole and high - low <= 1:
        return True
    return low > 0 and high / low <= (1 + options.tolerance) ** 2 + 1e-9


def _status(asked: _Asked, options: SearchOptions) -> Status:
    low, high = asked.low, asked.high
    if high is not None and low is not None and _is_close(low.value, high.value, asked, options):
        return "found"
    if high is not None and low is None and high.value <= asked.space.low:
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
    """Where the margin crosses 0, as a logarithm: the suggestion of the end that fails, or a straight line between the ends; None if
    there is neither.
    """
    low, high = asked.low, asked.high
    if high is None:
        return None
    bottom = low.value if low is not None else asked.space.low
    guess = None if high.outcome.suggestion is None else high.outcome.suggestion[0]
    above = None if low is None else low.outcome.margin
    below = high.outcome.margin
    if guess is not None and bottom < guess < high.value:
        return math.log(guess)
    if low is None or above is None or below is None or above <= 0 or below >= 0:
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
    o = options or SearchOptions()
    asked = _Asked(ask, space, o)
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
        if (left is None or _is_close(left, best.value, asked, o)) and (
            right is None or _is_close(best.value, right, asked, o)
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
        best = asked.ask_more(best.value)
    left, right = _neighbours(asked, best)
    probes = tuple(asked.probes.values())
    near = [p for p in probes if p.value in {left, right}]
    sure = all(
        _is_close(min(p.value, best.value), max(p.value, best.value), asked, o) or _is_lower(p, best) for p in near
    )
    status: Status = "all pass" if best.value >= space.high else "found" if sure else "unresolved"
    return SearchResult(
        status, best.value, left, right, probes, sum(p.requests for p in probes), best.value, best.outcome.objective
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

"""`--fail-on "time_to_first_token:p99 +5%"`: how much worse (or only how much higher or lower) a figure may become.

It fails when the measured change is beyond the limit and is no chance (the interval leaves out 0). If the change is beyond
the limit but may be chance, the result is *unsure*: a warning, not a failure; more requests or repeats decide it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from aiperf.compare.difference import CompareOptions, compare_figure
from aiperf.config.conditions import ALIASES
from aiperf.run.data import RunData

__all__ = ["FailOn", "FailOnResult", "check_fail_on", "parse_fail_on"]

_FAIL_ON: Final = re.compile(
    r"^\s*((?:server:)?[A-Za-z_][\w-]*)(?:\s*:\s*(avg|mean|min|max|median|p\d+(?:\.\d+)?))?\s*([+-])\s*(\d+(?:\.\d+)?)\s*(%|ms|s)?\s*$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailOn:
    """`limit`: share for "%" (signed: −0.05 fails when the figure falls by more than 5 %), else the figure's shown unit."""

    tag: str
    stat: str
    limit: float
    is_relative: bool
    text: str


@dataclass(frozen=True, slots=True)
class FailOnResult:
    """`state`: "passed", "failed", or "unsure"; "missing" if the figure does not exist, which counts as failed."""

    rule: FailOn
    run: str
    state: Literal["passed", "failed", "unsure", "missing"]
    text: str

    @property
    def is_failed(self) -> bool:
        return self.state in {"failed", "missing"}


def parse_fail_on(text: str) -> FailOn:
    """ValueError says what is wrong."""
    parts = _FAIL_ON.match(text)
    if parts is None:
        raise ValueError(f"`{text}` is not `metric[:stat] +N%`, as in `time_to_first_token:p99 +5%`")
    key = parts[1].replace("-", "_").lower()
    stat = {"mean": "avg", "median": "p50", None: "avg"}.get(parts[2], parts[2]) or "avg"
    value = float(parts[4]) * (1000 if parts[5] == "s" else 1) * (-1 if parts[3] == "-" else 1)
    relative = parts[5] == "%"
    return FailOn(
        tag=ALIASES.get(key, key),
        stat=stat,
        limit=value / 100 if relative else value,
        is_relative=relative,
        text=text.strip(),
    )


def check_fail_on(
    rules: Sequence[FailOn], baseline: Sequence[RunData], runs: Sequence[RunData], options: CompareOptions
) -> tuple[FailOnResult, ...]:
    """A side against the baseline: a run each, or its repeats."""
    name = runs[0].name
    out: list[FailOnResult] = []
    for rule in rules:
        difference = compare_figure(baseline, runs, rule.tag, rule.stat, options)
        label = f"{rule.tag}:{rule.stat}"
        if difference.a is None or difference.b is None or (rule.is_relative and difference.change is None):
            who = baseline[0].name if difference.a is None else name
            out.append(FailOnResult(rule, name, "missing", f"`{who}` has no {label}"))
            continue
        change = difference.change if rule.is_relative else difference.b - difference.a
        assert change is not None  # noqa: S101 - decided above; for the type checker
        beyond = change > rule.limit if rule.limit >= 0 else change < rule.limit
        sure = (
            difference.low is not None and difference.high is not None and (difference.low > 0 or difference.high < 0)
        )
        amount = f"{100 * change:+.1f}%" if rule.is_relative else f"{change:+,.2f} {difference.unit}"
        interval = (
            ""
            if difference.low is None or difference.high is None
            else f" [{100 * difference.low:+.1f}%, {100 * difference.high:+.1f}%]"
        )
        text = f"{label} {difference.a:,.2f} → {difference.b:,.2f} {difference.unit}: {amount}{interval}, limit {rule.text.rpartition(label)[2] or rule.text}"
        state: Literal["passed", "failed", "unsure"] = (
            "passed" if not beyond else "failed" if sure or difference.p_value is None else "unsure"
        )
        out.append(FailOnResult(rule, name, state, text))
    return tuple(out)

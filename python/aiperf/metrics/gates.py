"""Gates: conditions on figures of the summary (`--assert`), each passed or missed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Final

from aiperf.errors import Problem, did_you_mean
from aiperf.metrics import Metric, load_all
from aiperf.metrics.stats import needed_count
from aiperf.metrics.summary import ConditionLike, GateResult, Summary
from aiperf.units import threshold_in

__all__ = ["OPERATORS", "check_gates", "condition_problems", "resolve_condition"]

OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_ALIASES: Final = {"error_rate": "request_error_rate"}


def check_gates(summary: Summary, conditions: Sequence[ConditionLike]) -> tuple[GateResult, ...]:
    """Every condition against the summary, in order."""
    return tuple(_check(summary, condition) for condition in conditions)


def _check(summary: Summary, c: ConditionLike) -> GateResult:
    text = str(c)
    if c.tag == "certificate":
        certificate = summary.certificate
        if certificate is None:
            return GateResult(text=text, passed=False, actual="–", reason="the run has no certificate")
        same = certificate.verdict == str(c.value)
        passed = same if c.op in ("=", "==") else not same
        reason = None if passed else "; ".join(certificate.reasons) or None
        return GateResult(text=text, passed=passed, actual=certificate.verdict, reason=reason)
    found = resolve_condition(c)
    if isinstance(found, str):
        return GateResult(text=text, passed=False, actual="–", reason=found)
    tag, metric, threshold = found
    stat = {"median": "p50", "mean": "avg", None: "avg"}.get(c.stat, c.stat) or "avg"
    value = summary.stat(tag, stat)
    if value is None and tag == "error_request_count":
        value = 0.0  # the tag is absent on clean runs, its meaning is not
    if value is None:
        return GateResult(text=text, passed=False, actual="–", reason=_why_absent(summary, tag, stat))
    unit = metric.unit.shown
    actual = f"{100 * value:.2f}%" if unit == "ratio" else f"{value:,.2f}{'%' if unit == '%' else ' ' + unit}"
    interval = next((i for i in summary.intervals if i.tag == tag and i.stat == stat), None)
    sure = None
    if interval is not None and interval.low is not None and interval.high is not None:
        sure = not interval.low <= threshold <= interval.high
    return GateResult(text=text, passed=OPERATORS[c.op](value, threshold), actual=actual, sure=sure)


def resolve_condition(c: ConditionLike) -> tuple[str, Metric, float] | str:
    """(tag, metric, threshold in its shown unit), or why the condition makes no sense."""
    tag = _ALIASES.get(c.tag, c.tag)
    known = load_all()
    if tag not in known:
        return f"no metric is named `{c.tag}`; {did_you_mean(tag, known, '`aiperf explain` lists the metrics')}"
    metric = known[tag]
    if isinstance(c.value, str):
        return f"`{c.value}` is not a number"
    threshold = threshold_in(c.value, c.unit, metric.unit.shown)
    return f"`{tag}` is in {metric.unit.shown}, not {c.unit}" if threshold is None else (tag, metric, threshold)


def condition_problems(conditions: Sequence[ConditionLike], option: str) -> list[Problem]:
    """Conditions that no run could meet or miss, known before one: an unknown metric, a threshold of another unit."""
    reasons = [(c, resolve_condition(c)) for c in conditions if c.tag != "certificate"]
    return [Problem(f"`{c}`: {reason}", option) for c, reason in reasons if isinstance(reason, str)]


def _why_absent(summary: Summary, tag: str, stat: str) -> str:
    found = summary.metrics.get(tag)
    if found is None:
        goals = tag.startswith("good") and not summary.tiers
        return "no objectives were given (`--goodput`)" if goals else f"the run has no `{tag}`"
    if stat.startswith("p") and found.stats.count is not None:
        need = needed_count(float(stat[1:]))
        if found.stats.count < need:
            return f"`{stat}` needs {need:,} values, there are {found.stats.count:,}"
    return f"`{tag}` has no `{stat}`"

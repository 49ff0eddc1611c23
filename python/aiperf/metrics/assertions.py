"""Assertions: conditions on metrics of the summary (`--assert`), each met or missed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Final

from aiperf.errors import Problem, did_you_mean
from aiperf.metrics import load_all
from aiperf.metrics.server import PREFIX, SERVER_METRICS
from aiperf.metrics.stats import needed_count
from aiperf.metrics.summary import AssertionResult, ConditionLike, Summary
from aiperf.number_text import significant
from aiperf.units import threshold_in

__all__ = ["OPERATORS", "check_assertions", "condition_problems", "resolve_condition"]

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


def check_assertions(summary: Summary, conditions: Sequence[ConditionLike]) -> tuple[AssertionResult, ...]:
    """Every condition against the summary, in order."""
    return tuple(_check(summary, condition) for condition in conditions)


def _check(summary: Summary, condition: ConditionLike) -> AssertionResult:
    text = str(condition)
    if condition.tag == "certificate":
        certificate = summary.certificate
        if certificate is None:
            return AssertionResult(text=text, passed=False, actual="–", reason="the run has no certificate")
        same = certificate.verdict == str(condition.value)
        passed = same if condition.op in ("=", "==") else not same
        reason = None if passed else "; ".join(certificate.reasons) or None
        return AssertionResult(text=text, passed=passed, actual=certificate.verdict, reason=reason)
    found = resolve_condition(condition)
    if isinstance(found, str):
        return AssertionResult(text=text, passed=False, actual="–", reason=found)
    tag, unit, threshold = found
    stat = {"median": "p50", "mean": "avg", None: "avg"}.get(condition.stat, condition.stat) or "avg"
    value = summary.stat(tag, stat)
    if value is None and tag == "error_request_count":
        value = 0.0  # the tag is absent on clean runs, its meaning is not
    if value is None:
        return AssertionResult(text=text, passed=False, actual="–", reason=_why_absent(summary, tag, stat))
    actual = f"{100 * value:.2f}%" if unit == "ratio" else f"{value:,.2f}{'%' if unit == '%' else ' ' + unit}"
    sure: bool | None = None
    bucket = _bucket(summary, tag, stat)
    if bucket is not None:
        low, high = bucket
        shown_high = "∞" if high is None else significant(high, 6)
        actual += f" (bucket {significant(low, 6)}–{shown_high})"
        sure = not (low <= threshold and (high is None or threshold <= high))
        return AssertionResult(text=text, passed=OPERATORS[condition.op](value, threshold), actual=actual, sure=sure)
    interval = next((i for i in summary.intervals if i.tag == tag and i.stat == stat), None)
    if interval is not None and interval.low is not None and interval.high is not None:
        sure = not interval.low <= threshold <= interval.high
    return AssertionResult(text=text, passed=OPERATORS[condition.op](value, threshold), actual=actual, sure=sure)


def _bucket(summary: Summary, tag: str, stat: str) -> tuple[float, float | None] | None:
    """Of a percentile of the server's histograms, the bucket it lies in."""
    if not tag.startswith(PREFIX) or summary.server is None:
        return None
    found = summary.server.figures.get(tag.removeprefix(PREFIX))
    return None if found is None else found.bounds.get(stat)


def resolve_condition(condition: ConditionLike) -> tuple[str, str, float] | str:
    """(tag, shown unit, threshold in it), or why the condition makes no sense."""
    tag = _ALIASES.get(condition.tag, condition.tag)
    if tag.startswith(PREFIX):
        return _resolved_server(condition, tag.removeprefix(PREFIX))
    known = load_all()
    if tag not in known:
        return f"no metric is named `{condition.tag}`; {did_you_mean(tag, known, '`aiperf explain` lists the metrics')}"
    metric = known[tag]
    if isinstance(condition.value, str):
        return f"`{condition.value}` is not a number"
    threshold = threshold_in(condition.value, condition.unit, metric.unit.shown)
    return (
        f"`{tag}` is in {metric.unit.shown}, not {condition.unit}"
        if threshold is None
        else (tag, metric.unit.shown, threshold)
    )


def _resolved_server(condition: ConditionLike, name: str) -> tuple[str, str, float] | str:
    if name not in SERVER_METRICS:
        near = did_you_mean(name, SERVER_METRICS, "`aiperf explain server` lists them")
        return f"no server metric is named `{name}`; {near}"
    metric = SERVER_METRICS[name]
    if isinstance(condition.value, str):
        return f"`{condition.value}` is not a number"
    stat = {"median": "p50", "mean": "avg"}.get(condition.stat or "", condition.stat)
    if stat is not None and stat not in metric.stats:
        return f"`{metric.tag}` has no `{stat}`; it has {', '.join(f'`{s}`' for s in metric.stats)}"
    threshold = threshold_in(condition.value, condition.unit, metric.unit)
    return (
        f"`{metric.tag}` is in {metric.unit}, not {condition.unit}"
        if threshold is None
        else (metric.tag, metric.unit, threshold)
    )


def condition_problems(conditions: Sequence[ConditionLike], option: str) -> list[Problem]:
    """Conditions that no run could meet or miss, known before one: an unknown metric, a threshold of another unit."""
    reasons = [(c, resolve_condition(c)) for c in conditions if c.tag != "certificate"]
    return [Problem(f"`{c}`: {reason}", option) for c, reason in reasons if isinstance(reason, str)]


def _why_absent(summary: Summary, tag: str, stat: str) -> str:
    if tag.startswith(PREFIX):
        if summary.server is None:
            return "the server's metrics were not scraped (`--server-metrics URL` names an endpoint)"
        known = ", ".join(f.metric.tag for f in summary.server.ordered) or "none"
        return f"the server does not report `{tag}`; it reports: {known}"
    result = summary.metrics.get(tag)
    if result is None:
        goals = tag.startswith("good") and not summary.tiers
        return "no objectives were given (`--goodput`)" if goals else f"the run has no `{tag}`"
    if stat.startswith("p") and result.stats.count is not None:
        need = needed_count(float(stat[1:]))
        if result.stats.count < need:
            return f"`{stat}` needs {need:,} values, there are {result.stats.count:,}"
    return f"`{tag}` has no `{stat}`"

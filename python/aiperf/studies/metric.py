"""The figures a study may report, each with its definition, and conditions on them (`--assert`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiperf.config.conditions import Condition
from aiperf.errors import Problem, did_you_mean
from aiperf.metrics.assertions import OPERATORS
from aiperf.metrics.summary import AssertionResult
from aiperf.number_text import significant
from aiperf.reports.tables import Definition
from aiperf.units import threshold_in

__all__ = ["StudyFigure", "StudyMetric", "check_conditions", "condition_problems", "definitions_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyMetric:
    """`unit`: as shown. `formula`: with every symbol and its unit. `source`: what it rests on. `larger_is_better` None: neither."""

    name: str
    header: str
    unit: str
    formula: str
    meaning: str = ""
    source: str = "records, server metrics"
    larger_is_better: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFigure:
    """`value` in the unit of its metric; None: it cannot be known, and `reason` says why. `low`, `high`: 95 % interval.

    `rests_on`: the measurements behind the value, in words.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    rests_on: str = ""


def definitions_of(metrics: Mapping[str, StudyMetric]) -> tuple[Definition, ...]:
    """For a page."""
    return tuple(
        Definition(
            tag=metric.name,
            header=metric.header,
            unit=metric.unit,
            formula=metric.formula,
            provenance=metric.source,
            paragraphs=(metric.meaning,) if metric.meaning else (),
        )
        for metric in metrics.values()
    )


def condition_problems(
    conditions: Sequence[Condition], metrics: Mapping[str, StudyMetric], study: str
) -> list[Problem]:
    """Conditions that no study of this kind could meet or miss, known before any load."""
    return [
        Problem(f"`{c}`: {why}", "--assert")
        for c in conditions
        if (why := _misfit(c, metrics.get(c.tag), metrics, study)) is not None
    ]


def _misfit(
    condition: Condition, metric: StudyMetric | None, metrics: Mapping[str, StudyMetric], study: str
) -> str | None:
    if metric is None:
        near = did_you_mean(condition.tag, metrics, f"`aiperf explain {study}` lists the metrics of the study")
        return f"the {study} study has no metric `{condition.tag}`; {near}"
    if condition.stat not in {None, "avg"}:
        return f"`{condition.tag}` is one value: it has no `{condition.stat}`"
    if isinstance(condition.value, str):
        return f"`{condition.value}` is not a number"
    if threshold_in(condition.value, condition.unit, metric.unit) is None:
        return f"`{condition.tag}` is in {metric.unit}, not {condition.unit}"
    return None


def check_conditions(
    conditions: Sequence[Condition], figures: Mapping[str, StudyFigure], metrics: Mapping[str, StudyMetric]
) -> tuple[AssertionResult, ...]:
    """Every condition, in order; one on a figure that is not known is missed, with the reason."""
    return tuple(_check(c, figures.get(c.tag), metrics[c.tag]) for c in conditions)


def _check(condition: Condition, figure: StudyFigure | None, metric: StudyMetric) -> AssertionResult:
    if figure is None or figure.value is None:
        reason = "this part of the study was not run" if figure is None else figure.reason
        return AssertionResult(text=str(condition), passed=False, actual="–", reason=reason)
    threshold = threshold_in(float(condition.value), condition.unit, metric.unit)
    if threshold is None:
        return AssertionResult(
            text=str(condition),
            passed=False,
            actual="–",
            reason=f"`{condition.tag}` is in {metric.unit}, not {condition.unit}",
        )
    sure = None
    if figure.low is not None and figure.high is not None:
        sure = not figure.low <= threshold <= figure.high
    actual = f"{significant(figure.value)} {metric.unit}".rstrip()
    return AssertionResult(
        text=str(condition), passed=OPERATORS[condition.op](figure.value, threshold), actual=actual, sure=sure
    )

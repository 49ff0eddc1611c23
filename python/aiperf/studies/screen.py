"""What a study says on the terminal: findings, metrics, its tables, assertions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from rich.console import RenderableType
from rich.text import Text

from aiperf.plots.spec import number
from aiperf.reports.render.console import framed
from aiperf.reports.tables import Table
from aiperf.studies.metric import StudyFigure, StudyMetric
from aiperf.studies.report import StudyReport

__all__ = ["build_screen", "figure_table", "figure_text"]

_STYLES = {"good": "green", "plain": None, "warn": "yellow", "bad": "red"}


def figure_text(figure: StudyFigure, metric: StudyMetric) -> str:
    """`94.2 %`, `–` where it is not known."""
    if figure.value is None:
        return "–"
    value = figure.value
    text = f"{value:,.0f}" if value == round(value) else number(value)
    return f"{text} {metric.unit}".rstrip()


def figure_table(figures: Mapping[str, StudyFigure], metrics: Mapping[str, StudyMetric]) -> Table:
    """A row per figure: value, interval, and what it rests on or why it is not known."""
    rows = []
    for name, figure in figures.items():
        metric = metrics[name]
        interval = "–"
        if figure.low is not None and figure.high is not None:
            interval = f"{number(figure.low)} to {number(figure.high)}"
        rows.append((metric.header, figure_text(figure, metric), interval, _remark(figure)))
    return Table(
        id="metrics",
        title="Metrics",
        columns=("Metric", "Value", "95% interval", "Source"),
        rows=tuple(rows),
        words=frozenset({3}),
    )


def _remark(found: StudyFigure) -> str:
    return (found.reason if found.value is None else found.rests_on) or "–"


def build_screen(report: StudyReport, tables: Iterable[Table]) -> list[RenderableType]:
    """`tables`: those to show, in order. Findings come last, next to the prompt."""
    out: list[RenderableType] = [_grid(t) for t in tables if t.open]
    for finding in report.findings:
        line = Text(f"{finding.figure:>10}  ", style=_STYLES[finding.level] or "")
        line.append(finding.text.replace("`", ""), style="")
        out.append(line)
    out += [Text(f"note: {n}", style="yellow") for n in report.notes]
    return out


def _grid(table: Table) -> RenderableType:
    grid = framed(table.title)
    for i, name in enumerate(table.columns):
        justify: Literal["left", "right"] = "left" if i == 0 or i in table.words else "right"
        grid.add_column(name, justify=justify, style="cyan" if i == 0 else None)
    for i, row in enumerate(table.rows):
        grid.add_row(*row, style="bold" if i in table.marked else None)
    if table.note:
        grid.caption = table.note
    return grid

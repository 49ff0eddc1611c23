"""What a study says on the terminal: findings, metrics, its tables, assertions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiperf.plots.spec import number
from aiperf.reports.render.console import framed
from aiperf.reports.tables import Table
from aiperf.studies.metric import StudyFigure, StudyMetric
from aiperf.studies.report import StudyReport
from aiperf.terminal import Justify, Part, Text

__all__ = ["build_screen", "figure_table", "figure_text"]

_STYLES = {"good": "green", "plain": "", "warn": "yellow", "bad": "red"}


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


def build_screen(report: StudyReport, tables: Iterable[Table]) -> list[Part]:
    """`tables`: those to show, in order. Findings come last, next to the prompt."""
    out: list[Part] = [_grid(t) for t in tables if t.open]
    for finding in report.findings:
        line = Text(f"{finding.figure:>10}  ", style=_STYLES[finding.level])
        line.append(finding.text.replace("`", ""))
        out.append(line)
    out += [Text(f"note: {n}", style="yellow") for n in report.notes]
    return out


def _grid(table: Table) -> Part:
    grid = framed(table.title)
    for i, name in enumerate(table.columns):
        justify: Justify = "left" if i == 0 or i in table.words else "right"
        grid.add_column(name, justify=justify, style="cyan" if i == 0 else "")
    for i, row in enumerate(table.rows):
        grid.add_row(*row, style="bold" if i in table.marked else "")
    if table.note:
        grid.caption = table.note
    return grid

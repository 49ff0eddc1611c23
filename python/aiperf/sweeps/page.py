"""The page over several runs: the sweep's table and winners, curves over the load, the front; and runs to draw together.

Of a point with repeats the figures are means over its runs, as in the table; curves over time and over requests are those of its first run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiperf.metrics import METRICS
from aiperf.metrics.compute import Result
from aiperf.metrics.summary import Summary
from aiperf.number_text import significant
from aiperf.plots import PlotRun, Spec, draw_all
from aiperf.plots.charts.pareto import draw_front
from aiperf.reports.page import ComparisonInput, Finding, Table, render_comparison
from aiperf.reports.page.view import plot_run
from aiperf.run.imported import open_any, run_of
from aiperf.run.stated import stated_stats
from aiperf.sweeps.points import RunPoint
from aiperf.sweeps.table import SweepTable, axis_header, report_table, winner_lines

__all__ = [
    "draw_points",
    "load_run",
    "load_together",
    "point_runs",
    "render_sweep_page",
    "sweep_findings",
    "sweep_title",
]

_OF_POINTS = ("pareto", "latency_by_load", "sweep_multiples")
"""Charts with a mark per point."""


def load_run(path: Path) -> PlotRun:
    """A run by its path, ours or another tool's. ResultError if it cannot be read."""
    return plot_run(open_any(path))


def load_together(paths: Sequence[Path]) -> list[PlotRun]:
    """Runs to draw together; sorted by load where all have one on the same axis, with different labels."""
    runs = [load_run(p) for p in paths]
    names = {r.load_name for r in runs}
    if len(names) == 1 and all(r.load is not None for r in runs):
        runs.sort(key=lambda r: r.load or 0.0)
    else:
        runs = [replace(r, load=None) for r in runs]
    labels = [r.label for r in runs]
    if len(set(labels)) < len(labels):
        runs = [replace(r, label=f"{r.label} ({i})") for i, r in enumerate(runs, 1)]
    return runs


def point_runs(table: SweepTable) -> list[PlotRun]:
    """The first run of each point with the means over its runs, placed on the axis of the sweep; of several axes none is the load."""
    given = [p for p in table.axes if len({q.values.get(p) for q in table.points}) > 1]
    axes = given or table.axes  # an option that is the same at every point is no axis of a chart
    header = axis_header(axes[0]) if axes else "Run"
    runs: list[PlotRun] = []
    for point in _shown(table):
        run = plot_run(run_of(point.runs[0]))
        repeats = len(point.paths)
        runs.append(
            replace(
                run,
                means=_mean_summary(run.summary, point) if repeats > 1 else None,
                label=point.label if axes else point.name,
                load=point.values.get(axes[0]) if len(axes) == 1 else None,
                load_name=header if len(axes) == 1 else run.load_name,
                num_gpus=point.num_gpus or run.num_gpus,
                intervals=point.intervals,
                repeats=repeats,
            )
        )
    return runs


def draw_points(table: SweepTable, runs: Sequence[PlotRun]) -> dict[str, Spec]:
    """The charts with a mark per point; the front is that of the table's two metrics. `runs`: `point_runs(table)`."""
    specs = dict(draw_all(runs, _OF_POINTS))
    front = draw_front(runs, table.pareto.x, table.pareto.y)
    return specs if front is None else {**specs, "pareto": front}


def _shown(table: SweepTable) -> list[RunPoint]:
    return [p for p in table.points if p.paths]


def _mean_summary(summary: Summary, point: RunPoint) -> Summary:
    means = {tag: Result(METRICS[tag], stated_stats(found)) for tag, found in point.figures.items() if tag in METRICS}
    counts = replace(summary.counts, ok=point.num_ok, failed=point.num_failed)
    return replace(summary, metrics={**summary.metrics, **means}, counts=counts)


def sweep_findings(table: SweepTable) -> tuple[Finding, ...]:
    """The winner of each goal, the collapse; rules: `aiperf.sweeps.roles`, docs/concepts/findings.md."""
    findings: list[Finding] = []
    lines = winner_lines(table)
    seen: set[int] = set()
    for (goal, index), line in zip(table.roles.winners, lines, strict=False):
        if index in seen:
            continue
        seen.add(index)
        row = table.rows[index]
        figure = (
            f"{row.tps_per_user:,.0f} tok/s"
            if goal == "experience" and row.tps_per_user is not None
            else ("–" if row.tps is None else f"{row.tps:,.0f} tok/s")
        )
        findings.append(Finding(rule=f"winner_{goal}", figure=figure, text=line, level="good", link="pareto"))
    if table.roles.collapse is not None:
        index, text = table.roles.collapse
        top = max((r.tps or 0.0) for r in table.rows)
        lost = 1 - (table.rows[index].tps or 0.0) / top if top else 0.0
        findings.append(
            Finding(
                rule="collapse",
                figure=f"−{100 * lost:.0f}%",
                text=text[0].upper() + text[1:],
                level="bad",
                link="latency_by_load",
            )
        )
    if table.roles.limited:
        findings.append(
            Finding(
                rule="ttft_limit",
                figure=f"{significant(table.ttft_limit_ms, 6)} ms",
                text=lines[-1],
                level="warn",
                link="latency_by_load",
            )
        )
    return tuple(findings[:5])


def sweep_title(table: SweepTable, runs: Sequence[PlotRun]) -> str:
    starts = {r.source.title.rpartition(" · ")[0] for r in runs}
    first, last = table.rows[0].point.label, table.rows[-1].point.label
    return f"{starts.pop() + ': ' if len(starts) == 1 else ''}{first} to {last}"


def render_sweep_page(
    table: SweepTable,
    *,
    title: str | None = None,
    command: str | None = None,
    files: Sequence[tuple[str, str]] = (),
    tables: Sequence[Table] = (),
    charts: Mapping[str, Spec] | None = None,
    findings: Sequence[Finding] | None = None,
    version: str = "",
) -> bytes:
    """`report.html` of a sweep; reads the first run of each point. `tables`, `charts`: further ones, a search's history."""
    runs = point_runs(table)
    repeats = max((len(p.paths) for p in table.points), default=1)
    more = (
        (f"each point is the mean of its runs ({repeats}); the curves are those of the first",) if repeats > 1 else ()
    )
    named = (*files, *((p.label, str(p.paths[0])) for p in table.points if p.paths))
    return render_comparison(
        ComparisonInput(
            title=title or sweep_title(table, runs),
            runs=tuple(runs),
            command=command,
            facts=(f"{len(table.rows)} points", *(runs[0].source.facts[:1] if runs else ())),
            tables=(report_table(table), *tables),
            charts={**draw_points(table, runs), **(charts or {})},
            findings=tuple(sweep_findings(table) if findings is None else findings),
            files=named,
            notes=(*table.notes, *more),
            version=version,
        )
    )

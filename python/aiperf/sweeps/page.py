"""The page over several runs: the sweep's table and winners, curves over the load, the front; and runs as pages take them.

Of a point with repeats the figures are means over its runs, as in the table; curves over time and over requests are those of its first run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiperf.metrics import METRICS, load_all
from aiperf.metrics.compute import Result
from aiperf.metrics.summary import Summary
from aiperf.plots import PlotRun, Spec, draw_all
from aiperf.plots.charts.pareto import draw_front
from aiperf.reports.page import ComparisonInput, Finding, PageInput, Table, render_comparison
from aiperf.reports.page.view import page_of
from aiperf.run.data import RunData
from aiperf.run.imported import imported_run, open_any
from aiperf.run.stated import stated_stats
from aiperf.sweeps.points import RunPoint
from aiperf.sweeps.table import SweepTable, report_table, winner_lines

__all__ = [
    "draw_points",
    "load_page",
    "load_pages",
    "point_pages",
    "point_runs",
    "render_sweep_page",
    "sweep_findings",
    "sweep_title",
]

_OF_POINTS = ("pareto", "latency_by_load", "sweep_multiples")
"""Charts with a mark per point."""


def load_page(path: Path) -> PageInput:
    """A run by its path, ours or another tool's. ResultError if it cannot be read."""
    return _page(open_any(path).data)


def _page(run: RunData) -> PageInput:
    return _foreign_page(run) if run.origin is None else page_of(run.origin)


def load_pages(paths: Sequence[Path]) -> list[PageInput]:
    """Runs to draw together; sorted by load where all have one on the same axis, with different labels."""
    pages = [load_page(p) for p in paths]
    names = {p.load_name for p in pages}
    if len(names) == 1 and all(p.load is not None for p in pages):
        pages.sort(key=lambda p: p.load or 0.0)
    else:
        pages = [replace(p, load=None) for p in pages]
    labels = [p.label for p in pages]
    if len(set(labels)) < len(labels):
        pages = [replace(p, label=f"{p.label} ({i})") for i, p in enumerate(pages, 1)]
    return pages


def point_pages(table: SweepTable) -> list[PageInput]:
    """The first run of each point with the means over its runs, placed on the axis of the sweep; of several axes none is the load."""
    axes = table.axes
    header = report_table(table).columns[0]
    pages: list[PageInput] = []
    for point in _shown(table):
        page = _page(point.runs[0])
        load = point.values.get(axes[0]) if len(axes) == 1 else None
        name = header if len(axes) == 1 else page.load_name
        pages.append(
            replace(
                page,
                summary=_mean_summary(page.summary, point) if len(point.paths) > 1 else page.summary,
                label=point.label if axes else point.name,
                load=load,
                load_name=name,
                num_gpus=point.num_gpus or page.num_gpus,
            )
        )
    return pages


def point_runs(table: SweepTable, pages: Sequence[PageInput]) -> list[PlotRun]:
    """`pages`: `point_pages(table)`; as charts take them, with the intervals of the points."""
    return [
        replace(page.plot_run(), intervals=point.intervals, repeats=len(point.paths))
        for page, point in zip(pages, _shown(table), strict=True)
    ]


def draw_points(table: SweepTable, pages: Sequence[PageInput]) -> dict[str, Spec]:
    """The charts with a mark per point; the front is that of the table's two figures."""
    runs = point_runs(table, pages)
    specs = dict(draw_all(runs, _OF_POINTS))
    front = draw_front(runs, table.pareto.x, table.pareto.y)
    return specs if front is None else {**specs, "pareto": front}


def _shown(table: SweepTable) -> list[RunPoint]:
    return [p for p in table.points if p.paths]


def _mean_summary(summary: Summary, point: RunPoint) -> Summary:
    means = {tag: Result(METRICS[tag], stated_stats(found)) for tag, found in point.figures.items() if tag in METRICS}
    counts = replace(summary.counts, ok=point.num_ok, failed=point.num_failed)
    return replace(summary, metrics={**summary.metrics, **means}, counts=counts)


def _foreign_page(data: RunData) -> PageInput:
    """Its requests as records where the file has them, its own figures where it states them."""
    load_all()
    run = imported_run(data)
    rate, level = data.options.get("load.request_rate"), data.options.get("load.concurrency")
    return PageInput(
        title=f"{data.model or data.name} · {data.tool}",
        summary=run.summary(),
        columns=run.columns,
        options=run.options,
        label=data.name,
        facts=(data.tool, data.load),
        load=_float(level if rate is None else rate),
        load_name="Concurrency" if rate is None else "Request rate (requests/s)",
        num_gpus=data.num_gpus or 1,
        notes=tuple(f"{d.tag}: {d.text}" for d in data.differs),
        problem=run.incomplete_reason,
        version=data.tool,
    )


def _float(value: object) -> float | None:
    try:
        return float(str(value).replace(",", ""))
    except ValueError:
        return None


def sweep_findings(table: SweepTable) -> tuple[Finding, ...]:
    """The winner of each goal, the collapse; rules: `aiperf.sweeps.roles`, docs/concepts/findings.md."""
    found: list[Finding] = []
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
        found.append(Finding(rule=f"winner_{goal}", figure=figure, text=line, level="good", link="pareto"))
    if table.roles.collapse is not None:
        index, text = table.roles.collapse
        top = max((r.tps or 0.0) for r in table.rows)
        lost = 1 - (table.rows[index].tps or 0.0) / top if top else 0.0
        found.append(
            Finding(
                rule="collapse",
                figure=f"−{100 * lost:.0f}%",
                text=text[0].upper() + text[1:],
                level="bad",
                link="latency_by_load",
            )
        )
    if table.roles.limited:
        found.append(
            Finding(
                rule="ttft_limit",
                figure=f"{table.ttft_limit_ms:,g} ms",
                text=lines[-1],
                level="warn",
                link="latency_by_load",
            )
        )
    return tuple(found[:5])


def sweep_title(table: SweepTable, pages: Sequence[PageInput]) -> str:
    starts = {p.title.rpartition(" · ")[0] for p in pages}
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
    pages = point_pages(table)
    repeats = max((len(p.paths) for p in table.points), default=1)
    more = (
        (f"each point is the mean of its runs ({repeats}); the curves are those of the first",) if repeats > 1 else ()
    )
    named = (*files, *((p.label, str(p.paths[0])) for p in table.points if p.paths))
    return render_comparison(
        ComparisonInput(
            title=title or sweep_title(table, pages),
            runs=tuple(pages),
            command=command,
            facts=(f"{len(table.rows)} points", *(pages[0].facts[:1] if pages else ())),
            tables=(report_table(table), *tables),
            charts={**draw_points(table, pages), **(charts or {})},
            findings=tuple(sweep_findings(table) if findings is None else findings),
            files=named,
            notes=(*table.notes, *more),
            version=version,
        )
    )

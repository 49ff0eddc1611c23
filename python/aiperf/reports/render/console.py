"""The screen at the end of a run: the table of metrics, duration, success, errors, warnings, certificate, files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from aiperf.metrics import Table
from aiperf.metrics.compute import Result, Results
from aiperf.metrics.error_table import merge_similar
from aiperf.metrics.stats import percentile_name
from aiperf.metrics.summary import Summary
from aiperf.reports import ReportedRun
from aiperf.reports.cells import marked_percentile, number
from aiperf.reports.render.screen_tables import (
    cancellation_lines,
    cold_warm_table,
    gate_lines,
    goodput_lines,
    interval_table,
    slice_table,
    stall_lines,
    steady_line,
    tail_table,
    trend_lines,
)

__all__ = ["TABLE_TITLES", "ConsoleOptions", "build_screen", "options_of", "print_part", "render_console"]

TABLE_TITLES = {
    "chat": "LLM Metrics",
    "completions": "LLM Metrics",
    "embeddings": "Embeddings Metrics",
    "rankings": "Ranking Metrics",
    "nim_rankings": "Ranking Metrics",
    "hf_tei_rankings": "Ranking Metrics",
    "cohere_rankings": "Ranking Metrics",
}
_SUFFIX: dict[Table, str] = {
    "effective": ": Effective",
    "active": ": Active",
    "usage": ": Usage",
    "http": ": HTTP Trace",
}
_LONG_HEADER = 30
_MOST_ERRORS = 20
"""Rows of the error table on the screen."""
_DEFAULT = (99.0, 90.0, 50.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleOptions:
    """`percentiles`: the percentile columns, in the order given; None for p99, p90, p50. `mark`: one of them, in colour and with ★.

    `tables`: further tables above the main one. `files`: (what, path as the user gave it) to list at the end.
    `exports`: the same as AIPerf has it, (`JSON Export`, absolute path).
    `show_gaps`: the distribution of gaps between chunks (always where a stall was found). `show_intervals`: how sure. `show_tail`: p99.9 and p99.99.
    """

    title: str = "LLM Metrics"
    percentiles: tuple[float, ...] | None = None
    mark: float | None = None
    tables: tuple[Table, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    exports: tuple[tuple[str, str], ...] = ()
    command: str | None = None
    show_gaps: bool = False
    show_intervals: bool = False
    show_tail: bool = False


def options_of(run: ReportedRun) -> ConsoleOptions:
    """What a run's own options ask for."""
    o = run.config.output
    return ConsoleOptions(
        title=run.metrics_title,
        percentiles=o.percentiles or None,
        mark=marked_percentile(o.mark),
        tables=("http",) if o.show_trace_timing else (),
        files=tuple((what, str(path)) for what, path in run.written),
        exports=_exports(run),
        command=" ".join(run.command) or None,
        show_gaps=True,
        show_intervals=bool(run.config.load.until),
    )


def _exports(run: ReportedRun) -> tuple[tuple[str, str], ...]:
    """AIPerf's lines about its files."""
    there = dict(run.written)
    named = [("CSV Export", there.get("table")), ("JSON Export", there.get("summary")), ("Log File", run.files.log)]
    return tuple((what, str(path.resolve())) for what, path in named if path is not None and path.exists())


def columns_of(options: ConsoleOptions) -> tuple[float, ...]:
    """The percentile columns, the marked one included."""
    wanted = options.percentiles if options.percentiles is not None else _DEFAULT
    if options.mark is not None and options.mark not in wanted:
        falling = list(wanted) == sorted(wanted, reverse=True)
        wanted = tuple(sorted((*wanted, options.mark), reverse=falling))
    return wanted


def _label(result: Result) -> str:
    """`<header> (<unit>)`, the unit on a line of its own behind a header longer than 30 characters."""
    gap = "\n" if len(result.metric.header) > _LONG_HEADER else " "
    return f"{result.metric.header}{gap}({result.unit})"


def metric_table(results: Iterable[Result], title: str, options: ConsoleOptions) -> RichTable:
    """Rows in the order given; `N/A` for what does not exist, as AIPerf's table."""
    table = RichTable(title=title, box=box.HEAVY_HEAD, title_style="bold", header_style="bold")
    table.add_column("Metric", justify="right", style="cyan")
    percentiles = columns_of(options)
    for name in ("avg", "min", "max"):
        table.add_column(name, justify="right", style="green", no_wrap=True)
    for p in percentiles:
        marked = options.mark == p
        table.add_column(
            percentile_name(p) + (" ★" if marked else ""),
            justify="right",
            style="bold yellow" if marked else "green",
            no_wrap=True,
        )
    table.add_column("std", justify="right", style="green", no_wrap=True)
    for result in results:
        s = result.stats
        cells = [s.avg, s.min, s.max, *(s.percentiles.get(p) for p in percentiles), s.std]
        table.add_row(_label(result), *(number(c, absent="N/A") for c in cells))
    return table


def energy_table(results: Iterable[Result]) -> RichTable:
    """What the GPUs took: single figures, so there is one column."""
    table = RichTable(title="AIPerf | GPU Energy", box=box.HEAVY_HEAD, title_style="bold", header_style="bold")
    table.add_column("Metric", justify="right", style="cyan")
    table.add_column("value", justify="right", style="green", no_wrap=True)
    for result in results:
        table.add_row(_label(result), number(result.stats.avg, absent="N/A"))
    return table


def table_rows(results: Results, name: Table) -> list[Result]:
    """Results shown in a table, by console order."""
    rows = [r for r in results.values() if r.metric.table == name and r.metric.order is not None]
    return sorted(rows, key=lambda r: r.metric.order or 0)


def _errors_table(summary: Summary) -> RichTable:
    table = RichTable(title="AIPerf | Error Summary", box=box.HEAVY_HEAD, title_style="bold", header_style="bold")
    table.add_column("Code", justify="right", style="yellow")
    table.add_column("Type", justify="right", style="yellow")
    table.add_column("Message", style="yellow", overflow="fold")
    table.add_column("Count", justify="right", style="yellow")
    groups = merge_similar(summary.errors)
    for e in groups[:_MOST_ERRORS]:
        table.add_row("–" if e.code is None else str(e.code), e.type, Text(e.message), f"{e.count:,}")
    if rest := groups[_MOST_ERRORS:]:
        more = f"{len(rest):,} further messages: `error_summary` in the summary file has all"
        table.add_row("", "", Text(more), f"{sum(e.count for e in rest):,}")
    return table


def _cancelled_text(summary: Summary) -> str | None:
    c = summary.counts
    parts = [
        f"{count:,} {words}"
        for count, words in (
            (c.deliberate, "on purpose"),
            (c.grace, "at the end of the grace period"),
            (c.interrupted, "by the interrupt"),
        )
        if count
    ]
    return f"Cancelled: {', '.join(parts)} (not counted as errors)" if parts else None


def build_screen(summary: Summary, options: ConsoleOptions = ConsoleOptions()) -> list[RenderableType]:
    """Everything printed at the end of a run, top to bottom."""
    s, o = summary, options
    out: list[RenderableType] = []
    for name in ("effective", "active", "usage", "http"):
        rows = table_rows(s.metrics, name) if name in o.tables else []
        if rows:
            out.append(metric_table(rows, f"AIPerf | {o.title}{_SUFFIX[name]}", o))
    out.append(metric_table(table_rows(s.metrics, "main"), f"AIPerf | {o.title}", o))
    if energy := table_rows(s.metrics, "energy"):
        out.append(energy_table(energy))
    lines = [f"Benchmark Duration: {'–' if s.duration_s is None else f'{s.duration_s:.2f} sec'}", s.success_text]
    cancelled = _cancelled_text(s)
    if cancelled:
        lines.append(cancelled)
    out.append(Text("\n".join(lines)))
    if s.errors:
        out.append(_errors_table(s))
    out += goodput_lines(s)
    if s.slices:
        out.append(slice_table(s))
        out += trend_lines(s)
        out += cold_warm_table(s)
    out += steady_line(s)
    if s.stalls is not None and (o.show_gaps or s.stalls.requests):
        out += stall_lines(s.stalls)
    if s.cancellation is not None:
        out += cancellation_lines(s.cancellation)
    if o.show_tail:
        out.append(tail_table(s))
    if o.show_intervals and s.intervals:
        out.append(interval_table(s))
    out += gate_lines(s)
    return [*out, *_footer(s, o)]


def _footer(s: Summary, o: ConsoleOptions) -> list[RenderableType]:
    """Warnings, certificate, command, files."""
    out: list[RenderableType] = []
    for notice in s.notices:
        out.append(Text(f"warning: {notice.text}", style="yellow"))
        if notice.hint:
            out.append(Text(f"hint: {notice.hint}", style="dim"))
    if s.certificate is not None:
        style = {"trustworthy": "green", "degraded": "yellow", "client-limited": "red"}[s.certificate.verdict]
        out.append(Text("\n".join(s.certificate.lines), style=style))
        out += [Text(f"  reason: {reason}", style=style) for reason in s.certificate.reasons]
    if o.command:
        out.append(_unbroken(f"CLI Command: {o.command}"))
    width = max((len(what) for what, _ in o.files), default=0)
    out.extend(_unbroken(f"{what:<{width}}  {path}") for what, path in o.files)
    out.extend(_unbroken(f"{what}: {path}") for what, path in o.exports)
    return out


def _unbroken(line: str) -> Text:
    """Scripts look for it by its beginning and take the rest of the line: it is never wrapped."""
    return Text(line, no_wrap=True, overflow="ignore")


def print_part(console: Console, part: RenderableType) -> None:
    """One part of `build_screen`; a line that must not be wrapped may be longer than the screen is wide."""
    console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))


def render_console(
    summary: Summary, options: ConsoleOptions = ConsoleOptions(), *, width: int = 120, color: bool = False
) -> str:
    """The screen as text: `profile_export_console.txt`, and golden files."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, no_color=not color, highlight=False, legacy_windows=False
    )
    for part in build_screen(summary, options):
        print_part(console, part)
    return out.getvalue()

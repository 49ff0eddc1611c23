"""The screen at the end of a run: the table of metrics, duration, success, errors, warnings, certificate, files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from aiperf.metrics import TableName
from aiperf.metrics.summary import Summary
from aiperf.reports import ReportedRun
from aiperf.reports.cells import marked_percentile
from aiperf.reports.render.screen_tables import (
    assertion_lines,
    cancellation_lines,
    goodput_lines,
    stall_lines,
    steady_line,
    trend_lines,
)
from aiperf.reports.render.server_table import server_parts
from aiperf.reports.tables import (
    Table,
    cold_warm_table,
    error_table,
    interval_table,
    metric_table,
    slice_table,
    tail_table,
)

__all__ = [
    "TABLE_TITLES",
    "ConsoleOptions",
    "build_screen",
    "framed",
    "open_console",
    "options_of",
    "print_part",
    "render_console",
    "rich_table",
]

TABLE_TITLES = {
    "chat": "LLM Metrics",
    "completions": "LLM Metrics",
    "embeddings": "Embeddings Metrics",
    "rankings": "Ranking Metrics",
    "nim_rankings": "Ranking Metrics",
    "hf_tei_rankings": "Ranking Metrics",
    "cohere_rankings": "Ranking Metrics",
}
_SUFFIX: dict[TableName, str] = {
    "effective": ": Effective",
    "active": ": Active",
    "usage": ": Usage",
    "http": ": HTTP Trace",
}
_LONG_HEADER = 30


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
    tables: tuple[TableName, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    exports: tuple[tuple[str, str], ...] = ()
    command: str | None = None
    show_gaps: bool = False
    show_intervals: bool = False
    show_tail: bool = False


def options_of(run: ReportedRun) -> ConsoleOptions:
    """What a run's own options ask for."""
    output = run.config.output
    return ConsoleOptions(
        title=run.metrics_title,
        percentiles=output.percentiles or None,
        mark=marked_percentile(output.mark),
        tables=(*_aiperf_tables(run), *(("http",) if output.show_trace_timing else ())),
        files=tuple((what, str(path)) for what, path in run.written),
        exports=_exports(run),
        command=" ".join(run.command) or None,
        show_gaps=True,
        show_intervals=bool(run.config.load.until),
    )


def _aiperf_tables(run: ReportedRun) -> tuple[TableName, ...]:
    """The tables that AIPerf prints above the main one, for scripts that read its screen: if its version was asked for."""
    given = run.config.is_set("output.aiperf_compat") and run.config.output.aiperf_compat != "off"
    return ("effective", "active", "usage") if given else ()


def _exports(run: ReportedRun) -> tuple[tuple[str, str], ...]:
    """AIPerf's lines about its files."""
    there = dict(run.written)
    named = [("CSV Export", there.get("table")), ("JSON Export", there.get("summary")), ("Log File", run.files.log)]
    return tuple((what, str(path.resolve())) for what, path in named if path is not None and path.exists())


def rich_table(table: Table) -> RichTable:
    """A table of a report on a terminal: heavy for metrics and errors, light for the rest."""
    rich = RichTable(
        title=table.title,
        box=box.SIMPLE_HEAD,
        title_style="bold",
        header_style="bold",
        title_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=table.note or None,
        caption_justify="left",
    )
    for i, name in enumerate(table.columns):
        rich.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for i, row in enumerate(table.rows):
        rich.add_row(*row, style="yellow" if i in table.marked else None)
    return rich


def framed(title: str) -> RichTable:
    """An empty table in AIPerf's look."""
    return RichTable(title=f"AIPerf | {title}", box=box.HEAVY_HEAD, title_style="bold", header_style="bold")


def _metrics(table: Table) -> RichTable:
    """As AIPerf's: names to the right, the unit on a line of its own behind a header longer than 30 characters."""
    rich = framed(table.title)
    rich.add_column(table.columns[0], justify="right", style="cyan")
    for name in table.columns[1:]:
        style = "bold yellow" if name.endswith("★") else "green"
        rich.add_column(name, justify="right", style=style, no_wrap=True)
    for label, *cells in table.rows:
        header, _, unit = label.rpartition(" (")
        rich.add_row(f"{header}\n({unit}" if len(header) > _LONG_HEADER else label, *cells)
    return rich


def _errors(table: Table) -> RichTable:
    rich = framed("Error Summary")
    for name in table.columns:
        is_message = name == "Message"
        rich.add_column(name, justify="left" if is_message else "right", style="yellow", overflow="fold")
    for row in table.rows:
        rich.add_row(*(Text(cell) for cell in row))
    return rich


def _cancelled_text(summary: Summary) -> str | None:
    counts = summary.counts
    parts = [
        f"{count:,} {words}"
        for count, words in (
            (counts.deliberate, "on purpose"),
            (counts.grace, "at the end of the grace period"),
            (counts.interrupted, "by the interrupt"),
        )
        if count
    ]
    return f"Cancelled: {', '.join(parts)} (not counted as errors)" if parts else None


def build_screen(summary: Summary, options: ConsoleOptions = ConsoleOptions()) -> list[RenderableType]:
    """Everything printed at the end of a run, top to bottom."""
    out: list[RenderableType] = []
    for name in ("effective", "active", "usage", "http", "main", "energy"):
        title = "GPU Energy" if name == "energy" else f"{options.title}{_SUFFIX.get(name, '')}"
        if name in options.tables or name in {"main", "energy"}:
            table = metric_table(name, summary, title, options.percentiles, options.mark, absent="N/A")
            out += [] if table is None else [_metrics(table)]
    lines = [
        f"Benchmark Duration: {'–' if summary.duration_s is None else f'{summary.duration_s:.2f} sec'}",
        summary.success_text,
    ]
    cancelled = _cancelled_text(summary)
    if cancelled:
        lines.append(cancelled)
    out.append(Text("\n".join(lines)))
    if (errors := error_table(summary)) is not None:
        out.append(_errors(errors))
    out += server_parts(summary)
    out += goodput_lines(summary)
    if (slices := slice_table(summary)) is not None:
        out += [rich_table(slices), *trend_lines(summary)]
    if (cold_warm := cold_warm_table(summary)) is not None:
        out.append(rich_table(cold_warm))
    out += steady_line(summary)
    if summary.stalls is not None and (options.show_gaps or summary.stalls.requests):
        out += stall_lines(summary.stalls)
    if summary.cancellation is not None:
        out += cancellation_lines(summary.cancellation)
    if options.show_tail:
        out.append(rich_table(tail_table(summary)))
    if options.show_intervals and (intervals := interval_table(summary)) is not None:
        out.append(rich_table(intervals))
    out += assertion_lines(summary)
    return [*out, *_footer(summary, options)]


def _footer(summary: Summary, options: ConsoleOptions) -> list[RenderableType]:
    """Warnings, certificate, command, files."""
    out: list[RenderableType] = []
    for notice in summary.notices:
        out.append(Text(f"warning: {notice.text}", style="yellow"))
        if notice.hint:
            out.append(Text(f"hint: {notice.hint}", style="dim"))
    if summary.certificate is not None:
        style = {"trustworthy": "green", "degraded": "yellow", "client-limited": "red"}[summary.certificate.verdict]
        out.append(Text("\n".join(summary.certificate.lines), style=style))
        out += [Text(f"  reason: {reason}", style=style) for reason in summary.certificate.reasons]
    if options.command:
        out.append(_unbroken(f"CLI Command: {options.command}"))
    width = max((len(what) for what, _ in options.files), default=0)
    out.extend(_unbroken(f"{what:<{width}}  {path}") for what, path in options.files)
    out.extend(_unbroken(f"{what}: {path}") for what, path in options.exports)
    return out


def _unbroken(line: str) -> Text:
    """Scripts look for it by its beginning and take the rest of the line: it is never wrapped."""
    return Text(line, no_wrap=True, overflow="ignore")


def print_part(console: Console, part: RenderableType) -> None:
    """One part of `build_screen`; a line that must not be wrapped may be longer than the screen is wide."""
    console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))


def open_console(file: TextIO, *, width: int | None = None, color: bool | None = None) -> Console:
    """For tables and lines as they are. `width` None: as wide as the terminal. `color` None: if it is a terminal that shows it."""
    plain = None if color is None else not color
    return Console(file=file, width=width, force_terminal=color, no_color=plain, highlight=False, legacy_windows=False)


def render_console(
    summary: Summary, options: ConsoleOptions = ConsoleOptions(), *, width: int = 120, color: bool = False
) -> str:
    """The screen as text: `profile_export_console.txt`, and golden files."""
    out = io.StringIO()
    console = open_console(out, width=width, color=color)
    for part in build_screen(summary, options):
        print_part(console, part)
    return out.getvalue()

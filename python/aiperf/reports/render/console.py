"""The screen at the end of a run: the table of metrics, duration, success, errors, warnings, certificate, files."""

from __future__ import annotations

import io
from dataclasses import dataclass

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
from aiperf.terminal import Console, Part, ScreenTable, Text

__all__ = [
    "TABLE_TITLES",
    "ConsoleOptions",
    "build_screen",
    "framed",
    "options_of",
    "render_console",
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
    "speculation": ": Spec Decode",
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


def _light(table: Table) -> ScreenTable:
    """A table of a report on a terminal: heavy for metrics and errors, light for the rest."""
    shown = ScreenTable(title=table.title, frame="light", title_justify="left", caption=table.note or None)
    for i, name in enumerate(table.columns):
        shown.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for i, row in enumerate(table.rows):
        shown.add_row(*row, style="yellow" if i in table.marked else "")
    return shown


def framed(title: str) -> ScreenTable:
    """An empty table in AIPerf's look."""
    return ScreenTable(title=f"AIPerf | {title}")


def _metrics(table: Table) -> ScreenTable:
    """As AIPerf's: names to the right, the unit on a line of its own behind a header longer than 30 characters."""
    shown = framed(table.title)
    shown.add_column(table.columns[0], justify="right", style="cyan")
    for name in table.columns[1:]:
        style = "bold yellow" if name.endswith("★") else "green"
        shown.add_column(name, justify="right", style=style, no_wrap=True)
    for label, *cells in table.rows:
        header, _, unit = label.rpartition(" (")
        shown.add_row(f"{header}\n({unit}" if len(header) > _LONG_HEADER else label, *cells)
    return shown


def _errors(table: Table) -> ScreenTable:
    shown = framed("Error Summary")
    for name in table.columns:
        is_message = name == "Message"
        shown.add_column(name, justify="left" if is_message else "right", style="yellow", fold=True)
    for row in table.rows:
        shown.add_row(*row)
    return shown


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


def build_screen(summary: Summary, options: ConsoleOptions = ConsoleOptions()) -> list[Part]:
    """Everything printed at the end of a run, top to bottom."""
    out: list[Part] = []
    for name in ("effective", "active", "usage", "http", "main", "speculation", "energy"):
        title = "GPU Energy" if name == "energy" else f"{options.title}{_SUFFIX.get(name, '')}"
        if name in options.tables or name in {"main", "speculation", "energy"}:
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
        out += [_light(slices), *trend_lines(summary)]
    if (cold_warm := cold_warm_table(summary)) is not None:
        out.append(_light(cold_warm))
    out += steady_line(summary)
    if summary.stalls is not None and (options.show_gaps or summary.stalls.requests):
        out += stall_lines(summary.stalls)
    if summary.cancellation is not None:
        out += cancellation_lines(summary.cancellation)
    if options.show_tail:
        out.append(_light(tail_table(summary)))
    if options.show_intervals and (intervals := interval_table(summary)) is not None:
        out.append(_light(intervals))
    out += assertion_lines(summary)
    return [*out, *_footer(summary, options)]


def _footer(summary: Summary, options: ConsoleOptions) -> list[Part]:
    """Warnings, certificate, command, files."""
    out: list[Part] = []
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
    return Text(line, no_wrap=True)


def render_console(
    summary: Summary, options: ConsoleOptions = ConsoleOptions(), *, width: int = 120, color: bool = False
) -> str:
    """The screen as text: `profile_export_console.txt`, and golden files."""
    out = io.StringIO()
    Console(out, width=width, color=color).print(*build_screen(summary, options))
    return out.getvalue()

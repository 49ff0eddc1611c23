"""The server's part of a report, as cells of text that the screen, the page and Markdown share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiperf.metrics.server import ServerFigure, ServerView
from aiperf.metrics.summary import Summary
from aiperf.reports.cells import number, short

__all__ = ["COLUMNS", "REPLICAS", "TITLE", "ServerSection", "server_section"]

TITLE: Final = "Server Metrics"
REPLICAS: Final = "Server Replicas"
COLUMNS: Final = ("Metric", "avg", "p50", "p90", "p99", "p99 bucket", "max", "total")
_REPLICA_COLUMNS: Final = ("Metric", "replicas", "lowest", "highest", "highest ÷ mean")
_COMPARED: Final = ("requests_running", "requests_waiting", "kv_cache_usage", "generation_tokens", "queue_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSection:
    """`rows`: under `COLUMNS`. `replicas`: under `replica_columns`, empty with one replica. `findings`: sentences. `notes`: what was
    missing or broken in the scrapes.
    """

    rows: tuple[tuple[str, ...], ...]
    replicas: tuple[tuple[str, ...], ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    replica_columns: tuple[str, ...] = _REPLICA_COLUMNS


def server_section(s: Summary) -> ServerSection | None:
    """None if nothing is known of the server."""
    view = s.server
    findings = tuple(f.text for f in s.server_findings)
    if view is None:
        return ServerSection(rows=(), replicas=(), findings=findings, notes=()) if findings else None
    rows = tuple(map(_row, view.ordered))
    notes = tuple(_notes(view))
    if not (rows or findings or notes):
        return None
    return ServerSection(rows=rows, replicas=tuple(_replicas(view)), findings=findings, notes=notes)


def _row(figure: ServerFigure) -> tuple[str, ...]:
    low, high = figure.bounds.get("p99", (None, None))
    bucket = "" if low is None else f"{short(low)}–{short(high) if high is not None else '∞'}"
    is_times = figure.metric.shape == "times"
    cells = [_cell(figure, stat) for stat in ("avg", "p50", "p90", "p99")]
    top = figure.stats.get("max")
    total = figure.stats.get("count")
    counted = "" if total is None or is_times else f"{total:,.0f}"
    return (
        f"{figure.metric.header} ({figure.metric.unit})",
        *cells,
        bucket,
        "" if top is None else number(top),
        counted,
    )


def _cell(f: ServerFigure, stat: str) -> str:
    """A percentile in the lowest bucket is only known to be below its bound."""
    value = f.stats.get(stat)
    low, high = f.bounds.get(stat, (None, None))
    if low == 0 and high is not None:
        return f"≤ {short(high)}"
    return "" if value is None else number(value)


def _replicas(view: ServerView) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for name in _COMPARED:
        figure = view.figures.get(name)
        if figure is None or len(figure.replicas) < 2:
            continue
        low, high = (pick(figure.replicas, key=lambda r: r.value) for pick in (min, max))
        ratio = figure.imbalance
        out.append(
            (
                f"{figure.metric.header} ({figure.metric.unit})",
                str(len(figure.replicas)),
                f"{number(low.value)} ({low.name})",
                f"{number(high.value)} ({high.name})",
                "–" if ratio is None else f"{ratio:.2f}",
            )
        )
    return out


def _notes(view: ServerView) -> list[str]:
    out: list[str] = []
    for page in view.pages:
        total = page.scrapes + page.failed
        if page.failed:
            why = f": {page.error}" if page.error else ""
            out.append(f"`{page.url}`: {page.failed:,} of {total:,} scrapes failed{why}")
        if page.bad_lines:
            out.append(f"`{page.url}`: up to {page.bad_lines:,} lines of a scrape could not be read and were left out")
    unnamed = [p for p in view.pages if p.scrapes and p.unnamed]
    if unnamed and not view.figures:
        names = ", ".join(f"`{p.url}` ({p.unnamed:,} metrics)" for p in unnamed)
        out.append(f"no metric of {names} has a standard name: all of them are in the server-metrics files as they are")
    return out

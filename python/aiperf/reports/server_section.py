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


def _row(f: ServerFigure) -> tuple[str, ...]:
    low, high = f.bounds.get("p99", (None, None))
    bucket = "" if low is None else f"{short(low)}–{short(high) if high is not None else '∞'}"
    is_times = f.metric.shape == "times"
    cells = [_cell(f, stat) for stat in ("avg", "p50", "p90", "p99")]
    top = f.stats.get("max")
    total = f.stats.get("count")
    counted = "" if total is None or is_times else f"{total:,.0f}"
    return (f"{f.metric.header} ({f.metric.unit})", *cells, bucket, "" if top is None else number(top), counted)


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
        found = view.figures.get(name)
        if found is None or len(found.replicas) < 2:
            continue
        low, high = (pick(found.replicas, key=lambda r: r.value) for pick in (min, max))
        ratio = found.imbalance
        out.append(
            (
                f"{found.metric.header} ({found.metric.unit})",
                str(len(found.replicas)),
                f"{number(low.value)} ({low.name})",
                f"{number(high.value)} ({high.name})",
                "–" if ratio is None else f"{ratio:.2f}",
            )
        )
    return out


def _notes(view: ServerView) -> list[str]:
    out: list[str] = []
    for p in view.pages:
        total = p.scrapes + p.failed
        if p.failed:
            why = f": {p.error}" if p.error else ""
            out.append(f"`{p.url}`: {p.failed:,} of {total:,} scrapes failed{why}")
        if p.bad_lines:
            out.append(f"`{p.url}`: up to {p.bad_lines:,} lines of a scrape could not be read and were left out")
    unnamed = [p for p in view.pages if p.scrapes and p.unnamed]
    if unnamed and not view.figures:
        names = ", ".join(f"`{p.url}` ({p.unnamed:,} metrics)" for p in unnamed)
        out.append(f"no metric of {names} has a standard name: all of them are in the server-metrics files as they are")
    return out

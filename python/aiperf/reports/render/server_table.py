"""The server's metrics on the screen: the tables, what they say, and what was missing in the scrapes."""

from __future__ import annotations

from aiperf.metrics.summary import Summary
from aiperf.reports.server_section import REPLICAS, TITLE, server_section
from aiperf.reports.tables import Table, server_tables
from aiperf.terminal import Part, ScreenTable, Text

__all__ = ["server_parts"]


def server_parts(summary: Summary) -> list[Part]:
    """Nothing if nothing is known of the server."""
    section = server_section(summary)
    if section is None:
        return []
    out: list[Part] = [_framed(table) for table in server_tables(summary)]
    out += [Text(f"server: {text}") for text in section.findings]
    out += [Text(f"note: {text}", style="yellow") for text in section.notes]
    return out


def _framed(table: Table) -> ScreenTable:
    title = TITLE if table.id == "server" else REPLICAS
    shown = ScreenTable(title=f"AIPerf | {title}")
    for i, name in enumerate(table.columns):
        shown.add_column(name, justify="right", style="green" if i else "cyan", no_wrap=bool(i))
    for row in table.rows:
        shown.add_row(*row)
    return shown

"""Tables as HTML that stands alone, for notebooks; the page has its own template."""

from __future__ import annotations

from html import escape

from aiperf.reports import ReportedRun
from aiperf.reports.cells import marked_percentile
from aiperf.reports.tables import Table, run_tables

__all__ = ["render_run", "render_table"]

_NUMBER = "text-align:right;font-variant-numeric:tabular-nums"


def render_table(table: Table) -> str:
    """One table with its title and note."""
    head = "".join(f"<th>{escape(c)}</th>" for c in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(f'<td style="{"text-align:left" if i == 0 else _NUMBER}">{escape(c)}</td>' for i, c in enumerate(row))
        + "</tr>"
        for row in table.rows
    )
    note = f"<p><small>{escape(table.note)}</small></p>" if table.note else ""
    return f"<table><caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"


def render_run(run: ReportedRun) -> str:
    """The tables that a page shows unfolded, and what to know before believing them."""
    summary, o = run.summary(), run.config.output
    shown = [t for t in run_tables(summary, o.percentiles, marked_percentile(o.mark)) if t.open]
    lines = [summary.success_text, *(n.text for n in summary.notices)]
    if summary.certificate is not None:
        lines += [*summary.certificate.lines, *summary.certificate.reasons]
    text = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<div>{''.join(map(render_table, shown))}<ul>{text}</ul></div>"

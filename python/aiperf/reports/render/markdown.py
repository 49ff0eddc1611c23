"""A summary for a pull request: verdict of the assertions, the headline figures, goodput, certificate, warnings."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.metrics.summary import Summary
from aiperf.reports.cells import number, percent
from aiperf.reports.server_section import TITLE, server_section
from aiperf.reports.tables import Table, assertion_table, headline_table, server_tables

__all__ = ["render_markdown", "render_table"]


def render_table(table: Table) -> list[str]:
    """Lines of a table; its title is the caller's."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    return [
        line(table.columns),
        "|" + "|".join("---" if i == 0 or i in table.words else "---:" for i in range(len(table.columns))) + "|",
        *map(line, table.rows),
    ]


def render_markdown(summary: Summary, title: str = "aiperf") -> str:
    """GitHub-flavoured Markdown."""
    out: list[str] = []
    missed = [g for g in summary.assertions if not g.passed]
    assertions = assertion_table(summary.assertions)
    if assertions is not None:
        verdict = (
            f"❌ {len(missed)} of {len(summary.assertions)} assertions missed"
            if missed
            else f"✅ {len(summary.assertions)} assertions hold"
        )
        out += [f"## {title}: {verdict}", "", *render_table(assertions), ""]
    else:
        out += [f"## {title}", ""]
    out += [*render_table(headline_table(summary)), ""]
    duration = "–" if summary.duration_s is None else f"{summary.duration_s:.2f} s"
    out += [f"{summary.success_text}; duration {duration}; tokens: {summary.count_source}; ± is the 95% interval.", ""]
    out += _server(summary)
    for tier in summary.tiers:
        goals = ", ".join(f"{slo.tag} {number(slo.threshold)} ({percent(slo.share)} pass)" for slo in tier.slos)
        out.append(
            f"- goodput `{tier.name}`: {number(tier.goodput)} requests/s, {percent(tier.fraction)} of attempted, "
            f"{percent(tier.share_of_successful)} of successful requests: {goals}"
        )
    if summary.tiers:
        out.append("")
    if summary.certificate is not None:
        out += [f"**{summary.certificate.lines[0]}**  ", summary.certificate.lines[1].strip(), ""]
        out += [f"- {reason}" for reason in summary.certificate.reasons]
    out += [f"> ⚠ {n.text}" + (f" ({n.hint})" if n.hint else "") for n in summary.notices]
    return "\n".join(out).rstrip() + "\n"


def _server(summary: Summary) -> list[str]:
    section = server_section(summary)
    if section is None:
        return []
    out: list[str] = []
    for table in server_tables(summary):
        out += [f"### {TITLE}", ""] if table.id == "server" else []
        out += [*render_table(table), ""]
    out += [*(f"- {text}" for text in section.findings), *(f"> ⚠ {text}" for text in section.notes)]
    return [*out, ""] if out and out[-1] else out

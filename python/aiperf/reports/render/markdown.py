"""A summary for a pull request: verdict of the assertions, the headline figures, goodput, certificate, warnings."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.metrics.summary import Summary
from aiperf.reports.cells import number, percent

__all__ = ["render_markdown"]

_ROWS = (
    "time_to_first_token",
    "inter_token_latency",
    "request_latency",
    "output_token_throughput_per_user",
    "output_token_throughput",
    "request_throughput",
    "goodput",
)
_STATS = ("avg", "p50", "p90", "p99")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    return [
        line(header),
        "|" + "|".join("---" if i == 0 else "---:" for i in range(len(header))) + "|",
        *map(line, rows),
    ]


def _metric_rows(s: Summary) -> list[list[str]]:
    sure = {(i.tag, i.stat): i for i in s.intervals}
    rows: list[list[str]] = []
    for tag in _ROWS:
        result = s.metrics.get(tag)
        if result is None:
            continue
        cells = [f"{result.metric.header} ({result.unit})"]
        for stat in _STATS:
            text = number(result.stats.get(stat))
            interval = sure.get((tag, stat))
            if interval is not None and interval.relative_half_width is not None:
                text += f" ± {100 * interval.relative_half_width:.1f}%"
            cells.append(text)
        rows.append(cells)
    return rows


def render_markdown(summary: Summary, title: str = "aiperf") -> str:
    """GitHub-flavoured Markdown."""
    s = summary
    out: list[str] = []
    missed = [g for g in s.gates if not g.passed]
    if s.gates:
        verdict = (
            f"❌ {len(missed)} of {len(s.gates)} assertions missed" if missed else f"✅ {len(s.gates)} assertions hold"
        )
        out += [f"## {title}: {verdict}", ""]
        rows = [["❌" if not g.passed else "✅", f"`{g.text}`", g.actual, _remark(g.reason, g.sure)] for g in s.gates]
        out += [*_table(("", "assertion", "actual", "remark"), rows), ""]
    else:
        out += [f"## {title}", ""]
    out += [*_table(("metric", *_STATS), _metric_rows(s)), ""]
    duration = "–" if s.duration_s is None else f"{s.duration_s:.2f} s"
    out += [f"{s.success_text}; duration {duration}; tokens: {s.count_source}; ± is the 95% interval.", ""]
    for tier in s.tiers:
        goals = ", ".join(f"{slo.tag} {number(slo.threshold)} ({percent(slo.share)} pass)" for slo in tier.slos)
        out.append(
            f"- goodput `{tier.name}`: {number(tier.goodput)} requests/s, {percent(tier.fraction)} of attempted, "
            f"{percent(tier.share_of_successful)} of successful requests: {goals}"
        )
    if s.tiers:
        out.append("")
    if s.certificate is not None:
        out += [f"**{s.certificate.lines[0]}**  ", s.certificate.lines[1].strip(), ""]
        out += [f"- {reason}" for reason in s.certificate.reasons]
    out += [f"> ⚠ {n.text}" + (f" ({n.hint})" if n.hint else "") for n in s.notices]
    return "\n".join(out).rstrip() + "\n"


def _remark(reason: str | None, sure: bool | None) -> str:
    if reason:
        return reason
    return {None: "–", True: "the 95% interval is on this side", False: "the 95% interval holds the threshold"}[sure]

"""The report of the memory test: verdicts, figures, the steps of the ramp, charts."""

from __future__ import annotations

from collections.abc import Mapping

from aiperf.plots.spec import number
from aiperf.reports.page.findings import Finding
from aiperf.reports.tables import Table
from aiperf.studies.kv.charts import charts_of
from aiperf.studies.kv.figures import figures_of
from aiperf.studies.kv.step import Step, fill_of
from aiperf.studies.kv.verdicts import Verdict, verdicts_of
from aiperf.studies.kv.work import Found
from aiperf.studies.report import StudyReport

__all__ = ["build_report"]


def build_report(found: Found, model: str) -> StudyReport:
    """`model`: for the title."""
    has_failed = found.alone is None or found.alone.measured is None
    figures = {} if has_failed else figures_of(found)
    verdicts = () if has_failed else verdicts_of(found, figures)
    blocks = found.blocks
    facts = [f"{blocks.num_blocks:,} KV blocks of {blocks.block_size} tokens"] if blocks.tokens is not None else []
    if found.plan.context is not None:
        facts.append(f"context {found.plan.context:,} tokens")
    facts.append(f"{len(found.steps)} runs")
    return StudyReport(
        title=f"Memory test · {model}",
        figures=figures,
        findings=tuple(Finding(rule=v.rule, level=v.level, figure=v.figure, text=v.text) for v in verdicts),
        tables=(*([_verdict_table(verdicts)] if verdicts else []), *([] if has_failed else [_step_table(found)])),
        charts={} if has_failed else charts_of(found, figures),
        points=tuple(_point(s, found) for s in found.steps),
        facts=tuple(facts),
        notes=_notes(found, has_failed=has_failed),
        extra={"verdicts": [_told(v) for v in verdicts]},
        has_failed=has_failed,
    )


def _told(v: Verdict) -> Mapping[str, object]:
    return {"property": v.name, "verdict": v.word, "level": v.level, "figure": v.figure, "text": v.text, "rule": v.rule}


def _notes(found: Found, *, has_failed: bool) -> tuple[str, ...]:
    if has_failed:
        return ("not one request of the light load succeeded: nothing was measured",)
    notes: list[str] = []
    if found.alone is not None and found.alone.levels.usage is None:
        notes.append(
            "the server does not report how much of its KV cache is in use: metrics based on it are not available. "
            "Capacity and preemptions come from the streams alone"
        )
    idle = found.idle
    if idle is not None and idle > 0.01:
        notes.append(f"{idle:.1%} of the KV cache was in use before the test began: something else runs on the server")
    if found.blocks.engines > 1:
        notes.append(f"{found.blocks.engines} engines serve this address: their caches are counted as one")
    return tuple(notes)


def _verdict_table(verdicts: tuple[Verdict, ...]) -> Table:
    return Table(
        id="verdicts",
        title="Verdicts",
        columns=("Property", "Verdict", "Figure"),
        rows=tuple((v.name, v.word, v.figure) for v in verdicts),
        marked=frozenset(i for i, v in enumerate(verdicts) if v.level == "bad"),
        words=frozenset({1}),
    )


def _step_table(found: Found) -> Table:
    rows = []
    for s in found.steps:
        usage, waiting = s.usage, s.levels.highest("requests_waiting")
        rows.append(
            (
                s.load.name,
                f"{s.load.concurrency:,}",
                f"{s.load.isl:,} + {s.load.osl:,}",
                f"{s.load.requests:,}",
                "–" if s.peak is None else number(s.peak),
                "–" if usage is None else f"{usage:.0%}",
                "–" if waiting is None else number(waiting),
                "–" if s.preemptions is None else number(s.preemptions),
                str(s.victims),
                str(s.refused),
            )
        )
    columns = (
        "Step",
        "Concurrency",
        "ISL + OSL",
        "Requests",
        "Tokens held",
        "KV max",
        "Waiting max",
        "Preemptions",
        "Victims",
        "Refused",
    )
    return Table(id="steps", title="Steps", columns=columns, rows=tuple(rows))


def _point(s: Step, found: Found) -> Mapping[str, object]:
    """One row for CSV and JSON."""
    fill = fill_of(s, found.blocks.block_size, found.blocks.num_blocks)
    m = s.measured
    return {
        "step": s.load.name,
        "concurrency": s.load.concurrency,
        "isl": s.load.isl,
        "osl": s.load.osl,
        "requests": s.load.requests,
        "successful": 0 if m is None else m.num_requests,
        "refused": s.refused,
        "lost": s.lost,
        "offered_tokens": s.load.tokens,
        "held_tokens": s.peak,
        "kv_usage_max": s.usage,
        "waiting_max": s.levels.highest("requests_waiting"),
        "running_max": s.levels.highest("requests_running"),
        "swapped_max": s.levels.highest("requests_swapped"),
        "preemptions": s.preemptions,
        "victims": s.victims,
        "lost_tokens": None if s.pauses is None else float(s.pauses.held.sum()),
        "block_fill": fill.measured,
        "expected_block_fill": fill.expected,
        "scrapes": fill.scrapes,
        "duration_s": None if m is None else m.duration_s,
    }

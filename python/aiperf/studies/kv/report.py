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


def build_report(results: Found, model: str) -> StudyReport:
    """`model`: for the title."""
    has_failed = results.alone is None or results.alone.measured is None
    figures = {} if has_failed else figures_of(results)
    verdicts = () if has_failed else verdicts_of(results, figures)
    blocks = results.blocks
    facts = [f"{blocks.num_blocks:,} KV blocks of {blocks.block_size} tokens"] if blocks.tokens is not None else []
    if results.plan.context is not None:
        facts.append(f"context {results.plan.context:,} tokens")
    facts.append(f"{len(results.steps)} runs")
    return StudyReport(
        title=f"Memory test · {model}",
        figures=figures,
        findings=tuple(Finding(rule=v.rule, level=v.level, figure=v.figure, text=v.text) for v in verdicts),
        tables=(*([_verdict_table(verdicts)] if verdicts else []), *([] if has_failed else [_step_table(results)])),
        charts={} if has_failed else charts_of(results, figures),
        points=tuple(_point(s, results) for s in results.steps),
        facts=tuple(facts),
        notes=_notes(results, has_failed=has_failed),
        extra={"verdicts": [_told(v) for v in verdicts]},
        has_failed=has_failed,
    )


def _told(v: Verdict) -> Mapping[str, object]:
    return {"property": v.name, "verdict": v.word, "level": v.level, "figure": v.figure, "text": v.text, "rule": v.rule}


def _notes(results: Found, *, has_failed: bool) -> tuple[str, ...]:
    if has_failed:
        return ("not one request of the light load succeeded: nothing was measured",)
    notes: list[str] = []
    if results.alone is not None and results.alone.levels.usage is None:
        notes.append(
            "the server does not report how much of its KV cache is in use: metrics based on it are not available. "
            "Capacity and preemptions come from the streams alone"
        )
    idle = results.idle
    if idle is not None and idle > 0.01:
        notes.append(f"{idle:.1%} of the KV cache was in use before the test began: something else runs on the server")
    if results.blocks.engines > 1:
        notes.append(f"{results.blocks.engines} engines serve this address: their caches are counted as one")
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


def _step_table(results: Found) -> Table:
    rows = []
    for step in results.steps:
        usage, waiting = step.usage, step.levels.highest("requests_waiting")
        rows.append(
            (
                step.load.name,
                f"{step.load.concurrency:,}",
                f"{step.load.isl:,} + {step.load.osl:,}",
                f"{step.load.requests:,}",
                "–" if step.peak is None else number(step.peak),
                "–" if usage is None else f"{usage:.0%}",
                "–" if waiting is None else number(waiting),
                "–" if step.preemptions is None else number(step.preemptions),
                str(step.victims),
                str(step.refused),
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


def _point(step: Step, results: Found) -> Mapping[str, object]:
    """One row for CSV and JSON."""
    fill = fill_of(step, results.blocks.block_size, results.blocks.num_blocks)
    measured = step.measured
    return {
        "step": step.load.name,
        "concurrency": step.load.concurrency,
        "isl": step.load.isl,
        "osl": step.load.osl,
        "requests": step.load.requests,
        "successful": 0 if measured is None else measured.num_requests,
        "refused": step.refused,
        "lost": step.lost,
        "offered_tokens": step.load.tokens,
        "held_tokens": step.peak,
        "kv_usage_max": step.usage,
        "waiting_max": step.levels.highest("requests_waiting"),
        "running_max": step.levels.highest("requests_running"),
        "swapped_max": step.levels.highest("requests_swapped"),
        "preemptions": step.preemptions,
        "victims": step.victims,
        "lost_tokens": None if step.pauses is None else float(step.pauses.held.sum()),
        "block_fill": fill.measured,
        "expected_block_fill": fill.expected,
        "scrapes": fill.scrapes,
        "duration_s": None if measured is None else measured.duration_s,
    }

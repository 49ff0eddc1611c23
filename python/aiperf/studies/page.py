"""`report.html` of a study: findings, charts, tables, definitions; built from the parts of every other page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiperf.reports.page import render_parts
from aiperf.reports.tables import Table
from aiperf.studies.metric import StudyMetric, definitions_of
from aiperf.studies.report import StudyReport

__all__ = ["render_study_page"]


def render_study_page(
    report: StudyReport,
    metrics: Mapping[str, StudyMetric],
    tables: Sequence[Table],
    *,
    command: str,
    files: Sequence[tuple[str, str]] = (),
    problem: str | None = None,
    version: str = "",
) -> bytes:
    """`problem`: why the study is not complete."""
    return render_parts(
        title=report.title,
        facts=report.facts,
        command=command or None,
        problem=problem,
        findings=report.findings,
        specs=report.charts,
        tables=tables,
        definitions=definitions_of({n: metrics[n] for n in report.figures}),
        notes=report.notes,
        files=files,
        version=version,
    )

"""The study's files: `<kind>_study.json` with all of it, `<kind>_points.csv` with a row per measured point, `<kind>_metrics.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from aiperf.json_text import json_text
from aiperf.metrics.summary import AssertionResult
from aiperf.studies.metric import StudyMetric
from aiperf.studies.report import StudyReport

__all__ = ["render_json", "render_metrics_csv", "render_points_csv"]


def render_json(
    kind: str,
    report: StudyReport,
    metrics: Mapping[str, StudyMetric],
    assertions: Sequence[AssertionResult],
    *,
    command: str,
    version: str,
    is_complete: bool,
) -> str:
    """Metrics with unit, definition and, where there is no value, the reason; findings, points, assertions."""
    figures = {
        name: {
            "value": figure.value,
            "unit": metrics[name].unit,
            **({"low": figure.low, "high": figure.high} if figure.low is not None or figure.high is not None else {}),
            **({"reason": figure.reason} if figure.value is None else {}),
            **({"rests_on": figure.rests_on} if figure.rests_on else {}),
            "definition": metrics[name].formula,
        }
        for name, figure in report.figures.items()
    }
    content = {
        "schema_version": "1",
        "aiperf_version": version,
        "study": kind,
        "title": report.title,
        "command": command,
        "complete": is_complete,
        "metrics": figures,
        "findings": [asdict(f) for f in report.findings],
        "points": list(report.points),
        "assertions": [asdict(g) for g in assertions],
        "notes": list(report.notes),
        **report.extra,
    }
    return json_text(content, indent=2) + "\n"


def render_points_csv(report: StudyReport) -> str:
    """Columns in the order they first appear; an absent value is an empty cell."""
    columns = list(dict.fromkeys(c for p in report.points for c in p))
    return _csv(columns, [[p.get(c) for c in columns] for p in report.points])


def render_metrics_csv(report: StudyReport, metrics: Mapping[str, StudyMetric]) -> str:
    rows = [
        [name, f.value, metrics[name].unit, f.low, f.high, f.reason, f.rests_on] for name, f in report.figures.items()
    ]
    return _csv(["figure", "value", "unit", "low", "high", "reason", "rests_on"], rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(columns)
    for row in rows:
        write(["" if v is None else v for v in row])
    return out.getvalue()

"""What a study found, as values: figures, findings, tables, charts, and one row per measured point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiperf.plots import Spec
from aiperf.reports.page.findings import Finding
from aiperf.reports.tables import Table
from aiperf.studies.metric import StudyFigure

__all__ = ["StudyReport"]


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """`figures`: by name of the metric. `tables`: for screen and page. `points`: one row per measured point, plain values by
    column name, for CSV and JSON; None is absent. `facts`: words for the line below the title. `extra`: further keys of the JSON file.
    `has_failed`: no figure could be measured.
    """

    title: str
    figures: Mapping[str, StudyFigure] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: Mapping[str, Spec] = field(default_factory=dict)
    points: tuple[Mapping[str, object], ...] = ()
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    has_failed: bool = False

"""`profile_export_aiperf_timeslices.csv`: one row per slice, metric and statistic (0.13's columns)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from aiperf.metrics.compute import Result
from aiperf.metrics.stats import STANDARD_PERCENTILES, WEIGHTED_PERCENTILES, percentile_name
from aiperf.metrics.summary import Summary
from aiperf.reports import Exporter

__all__ = ["EXPORTER", "render_timeslices_csv"]


def _stats(result: Result) -> Iterator[tuple[str, float]]:
    s = result.stats
    percentiles = WEIGHTED_PERCENTILES if result.metric.kind == "weighted" else STANDARD_PERCENTILES
    named = [("avg", s.avg), ("min", s.min), ("max", s.max), ("sum", s.sum)]
    named += [(percentile_name(p), s.percentiles.get(p)) for p in percentiles]
    named += [("std", s.std)]
    yield from ((name, value) for name, value in named if value is not None)


def render_timeslices_csv(summary: Summary) -> str:
    """Sorted by slice and tag; two decimals; statistics that do not exist have no row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["Timeslice", "Start_NS", "End_NS", "Metric", "Unit", "Stat", "Value"])
    for s in summary.slices:
        begin, end = summary.origin_ns + int(s.begin_ns), summary.origin_ns + int(s.end_ns)
        for _, result in sorted(s.metrics.items()):
            for name, value in _stats(result):
                writer.writerow([s.index, begin, end, result.metric.header, result.unit, name, f"{value:.2f}"])
    return out.getvalue()


EXPORTER = Exporter(
    what="slices",
    path=lambda run: run.files.slices_csv,
    render=lambda run: render_timeslices_csv(run.summary()) if run.summary().slices else None,
    is_wanted=lambda config: config.output.slice_duration is not None,
    order=40,
)

"""`profile_export_aiperf.csv`: AIPerf 0.13's two sections, metrics with percentiles and single values (aiperf-compatibility.md §5)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Protocol

from aiperf.metrics import Metric
from aiperf.metrics.compute import Results
from aiperf.metrics.stats import STANDARD_PERCENTILES, WEIGHTED_PERCENTILES, percentile_name
from aiperf.metrics.summary import Summary
from aiperf.reports import Exporter, ReportedRun
from aiperf.telemetry.gpu.export import gpu_csv_section

__all__ = ["EXPORTER", "format_cell", "metric_label", "render_csv"]


class _Writer(Protocol):
    """What `csv.writer` returns."""

    def writerow(self, row: Iterable[object], /) -> object: ...


def metric_label(metric: Metric) -> str:
    """`Request Latency (ms)`; the unit is left out when it is count or requests."""
    unit = metric.unit.shown
    return metric.header if unit in ("count", "requests") else f"{metric.header} ({unit})"


def format_cell(value: float | None) -> str:
    """Two decimals; whole counts (ints) as ints; empty if there is none."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def render_csv(summary: Summary, percentiles: Sequence[float] = ()) -> str:
    """Both sections, sorted by tag; further percentiles get columns of their own among the others.

    Two blank lines further, the same for the steady part (or for the whole run, if the steady part is the headline).
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    _sections(writer, summary.metrics, percentiles, "Metric")
    if summary.steady_is_headline:
        out.write("\n\n")
        _sections(writer, summary.whole, percentiles, "Metric (whole run)")
    elif summary.steady_part is not None:
        out.write("\n\n")
        _sections(writer, summary.steady_part.metrics, percentiles, "Metric (steady state)")
    return out.getvalue()


def _sections(writer: _Writer, results: Results, percentiles: Sequence[float], first: str) -> None:
    columns = sorted({*STANDARD_PERCENTILES, *percentiles})
    writer.writerow([first, "avg", "min", "max", "sum", *map(percentile_name, columns), "std"])
    ordered = sorted(results.items())
    for _, result in ordered:
        s = result.stats
        if s.percentiles:
            written = {*WEIGHTED_PERCENTILES, *percentiles} if result.metric.kind == "weighted" else set(columns)
            quantiles = [s.percentiles.get(p) if p in written else None for p in columns]
            cells = [s.avg, s.min, s.max, s.sum, *quantiles, s.std]
            writer.writerow([metric_label(result.metric), *map(format_cell, cells)])
    writer.writerow([])
    writer.writerow([first, "Value"])
    for _, result in ordered:
        if not result.stats.percentiles:
            writer.writerow([metric_label(result.metric), format_cell(result.stats.avg)])


def _of_run(run: ReportedRun) -> str:
    return render_csv(run.summary(), run.options.percentiles) + gpu_csv_section(run.telemetry_data or {})


EXPORTER = Exporter(what="table", path=lambda run: run.files.csv, render=_of_run, order=20)

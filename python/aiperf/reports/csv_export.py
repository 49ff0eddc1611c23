"""`profile_export_aiperf.csv`: AIPerf 0.13's two sections, metrics with percentiles and single values (compat.md §5)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from aiperf.metrics import Metric
from aiperf.metrics.stats import STANDARD_PERCENTILES, WEIGHTED_PERCENTILES, percentile_name
from aiperf.metrics.summary import Summary

__all__ = ["format_cell", "metric_label", "render_csv"]


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
    """Both sections, sorted by tag; further percentiles get columns of their own among the others."""
    columns = sorted({*STANDARD_PERCENTILES, *percentiles})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["Metric", "avg", "min", "max", "sum", *map(percentile_name, columns), "std"])
    ordered = sorted(summary.metrics.items())
    for _, result in ordered:
        s = result.stats
        if s.percentiles:
            written = {*WEIGHTED_PERCENTILES, *percentiles} if result.metric.kind == "weighted" else columns
            cells = [
                s.avg,
                s.min,
                s.max,
                s.sum,
                *(s.percentiles.get(p) if p in written else None for p in columns),
                s.std,
            ]
            writer.writerow([metric_label(result.metric), *map(format_cell, cells)])
    writer.writerow([])
    writer.writerow(["Metric", "Value"])
    for _, result in ordered:
        if not result.stats.percentiles:
            writer.writerow([metric_label(result.metric), format_cell(result.stats.avg)])
    return out.getvalue()

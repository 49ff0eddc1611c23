"""`server_metrics_export.parquet`: every reading of every series in AIPerf's normalized schema 1.0 (a row per bucket of a histogram).

Counters, sums, counts and buckets are cumulative from the reference reading on: the last one at or before the start of the load.
Known difference: where a counter fell, the server was started again and counts on from 0; AIPerf shows 0 until it has caught up.
"""

from __future__ import annotations

import platform
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiperf.json_text import json_text
from aiperf.telemetry.prometheus.export import ExportHeader, unit_of
from aiperf.telemetry.prometheus.exposition import MetricSeries
from aiperf.telemetry.prometheus.readings import Floats, Readings

__all__ = ["write_parquet"]

_TEXTS = ("endpoint_url", "metric_name", "metric_type", "unit", "description")
_NUMBERS = ("value", "sum", "count", "bucket_count")
_RESERVED = {*_TEXTS, "timestamp_ns", "value", "sum", "count", "bucket_le", "bucket_count"}
_NOTE = "Label columns vary by endpoint/model. Use union_by_name=true for cross-file queries."


@dataclass(slots=True)
class _Table:
    """Columns under construction; numbers as pieces."""

    labels: tuple[str, ...]
    texts: dict[str, list[str | None]] = field(default_factory=dict)
    times: list[NDArray[np.int64]] = field(default_factory=list)
    numbers: dict[str, list[Floats]] = field(default_factory=dict)

    def add(
        self, readings: Readings, series: MetricSeries, times: NDArray[np.int64], numbers: dict[str, Floats]
    ) -> None:
        given = dict(series.labels)
        texts: dict[str, str | None] = {
            "endpoint_url": readings.url,
            "metric_name": series.metric,
            "metric_type": series.kind,
            "unit": unit_of(series.metric),
            "description": series.help,
            "bucket_le": series.le,
            **{name: given.get(name) for name in self.labels},
        }
        for name, text in texts.items():
            self.texts.setdefault(name, []).extend([text] * len(times))
        self.times.append(times)
        for name in _NUMBERS:
            self.numbers.setdefault(name, []).append(numbers.get(name, np.full(len(times), np.nan)))

    def columns(self) -> dict[str, NDArray[np.int64] | Floats | list[str | None]]:
        """In the order of AIPerf's schema."""
        number = {name: np.concatenate(pieces) for name, pieces in self.numbers.items()}
        return {
            **{name: self.texts[name] for name in _TEXTS},
            "timestamp_ns": np.concatenate(self.times),
            **{name: self.texts[name] for name in self.labels},
            "value": number["value"],
            "sum": number["sum"],
            "count": number["count"],
            "bucket_le": self.texts["bucket_le"],
            "bucket_count": number["bucket_count"],
        }


def write_parquet(path: Path, readings: Sequence[Readings], facts: ExportHeader) -> bool:
    """False, and no file, if no reading is of the load."""
    from aiperf._core import write_parquet_columns

    shown = {name for r in readings for s in r.series for name, _ in s.labels}
    table = _Table(tuple(sorted(shown - _RESERVED)))
    for r in readings:
        _add_page(table, r, facts)
    if not table.times:
        return False
    write_parquet_columns(path, table.columns(), _metadata(table, readings, facts))
    return True


def _add_page(table: _Table, readings: Readings, facts: ExportHeader) -> None:
    inside = readings.inside(facts.start_ns, facts.end_ns)
    bounds = facts.span.rows(readings)
    column_of = {(s.metric, s.labels, s.part): i for i, s in enumerate(readings.series) if s.part != "bucket"}
    for index, series in enumerate(readings.series):
        if series.kind in {"gauge", "unknown", "untyped"}:
            values = readings.values[inside, index]
            there = ~np.isnan(values)
            if there.any():
                table.add(readings, series, readings.times_ns[inside][there], {"value": values[there]})
        elif bounds is not None and (series.kind == "counter" or series.part == "bucket"):
            times = readings.times_ns[bounds[0] + 1 : bounds[1] + 1]
            grown = _grown(readings.values[bounds[0] : bounds[1] + 1, index])
            if series.kind == "counter":
                table.add(readings, series, times, {"value": grown})
                continue
            parts = {
                part: _grown(readings.values[bounds[0] : bounds[1] + 1, column])
                for part in ("sum", "count")
                if (column := column_of.get((series.metric, series.labels, part))) is not None
            }
            table.add(readings, series, times, {"bucket_count": grown, **parts})


def _grown(values: Floats) -> Floats:
    """(readings − 1,) growth since the first reading; a fall is a restart from 0, a gap is the last value."""
    filled = values.copy()
    filled[0] = 0.0 if np.isnan(filled[0]) else filled[0]
    known = np.maximum.accumulate(np.where(np.isnan(filled), 0, np.arange(len(filled))))
    filled = filled[known]
    steps = np.diff(filled)
    out: Floats = np.cumsum(np.where(steps < 0, filled[1:], steps))
    return out


def _metadata(table: _Table, readings: Sequence[Readings], facts: ExportHeader) -> dict[str, str]:
    kinds = Counter(kind for _, kind, _ in {(s.metric, s.kind, s.labels) for r in readings for s in r.series})
    duration = facts.end_ns - facts.start_ns
    told: dict[str, object] = {
        "schema_version": "1.0",
        "version": facts.aiperf_version,
        "benchmark_id": facts.benchmark_id,
        "export_timestamp_utc": datetime.now(UTC).isoformat(),
        "exporter": "ServerMetricsParquetExporter",
        "hostname": socket.gethostname(),
        "python_version": platform.python_version(),
        "time_filter_start_ns": facts.start_ns,
        "time_filter_end_ns": facts.end_ns,
        "profiling_duration_ns": duration,
        "profiling_duration_seconds": duration / 1e9,
        "input_config": facts.input_config,
        "model_names": list(facts.models),
        "concurrency": "" if facts.concurrency is None else str(facts.concurrency),
        "endpoint_urls": sorted(r.url for r in readings if r.num_readings),
        "endpoint_count": sum(1 for r in readings if r.num_readings),
        "label_columns": list(table.labels),
        "label_count": len(table.labels),
        "metric_count": sum(kinds.values()),
        "metric_type_counts": {kind: kinds.get(kind, 0) for kind in ("gauge", "counter", "histogram", "unknown")},
        "schema_note": _NOTE,
    }
    return {f"aiperf.{k}": v if isinstance(v, str) else json_text(v) for k, v in told.items()}

"""`server_metrics_export.json`, `.csv` and `.jsonl`, as AIPerf 0.13 writes them (its schema 1.1 and 1.0).

Known differences: `total` of counters and histograms is between the readings around the load, not from the first reading of the
tool's start on, and `rate` is by the length of the load; percentiles of histograms are interpolated within a bucket (as Prometheus' `histogram_quantile`).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

import numpy as np

from aiperf.json_text import json_text
from aiperf.metrics.stats import STANDARD_PERCENTILES, percentile_name
from aiperf.telemetry import all_families
from aiperf.telemetry.prometheus.exposition import MetricSeries
from aiperf.telemetry.prometheus.quantiles import histogram_quantile
from aiperf.telemetry.prometheus.readings import CountSpan, Floats, Readings, increase
from aiperf.telemetry.prometheus.slices import counter_slices, gauge_slices, histogram_slices, rate_stats, windows

__all__ = ["ExportHeader", "PhaseSpan", "render_csv", "render_files", "render_json", "render_jsonl", "unit_of"]

_PERCENTILES = tuple(percentile_name(p) for p in STANDARD_PERCENTILES)
_GAUGE = ("avg", "min", "max", "std", *_PERCENTILES)
_COUNTER = ("total", "rate", "rate_avg", "rate_min", "rate_max", "rate_std")
_HISTOGRAM = ("count", "count_rate", "sum", "sum_rate", "avg", *(f"{p}_estimate" for p in _PERCENTILES))
_SUFFIX_UNITS = (
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
    ("_ms", "milliseconds"),
    ("_perc", "ratio"),
    ("_ratio", "ratio"),
    ("_percent", "percent"),
    ("_tokens", "tokens"),
    ("_requests", "requests"),
    ("_reqs", "requests"),
    ("_blocks", "blocks"),
    ("_success", "requests"),
    ("_celsius", "celsius"),
    ("_joules", "joules"),
    ("_watts", "watts"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportHeader:
    """`start_ns`, `end_ns`: of the profiling phase, ns since the epoch. `configured`: URLs of all pages that were tried. `slice_s`: of `--slice-duration`.
    `ends_load`: no phase follows.
    """

    start_ns: int
    end_ns: int
    aiperf_version: str
    benchmark_id: str
    configured: Sequence[str] = ()
    input_config: Mapping[str, object] = field(default_factory=dict)
    slice_s: float | None = None
    phases: Sequence[PhaseSpan] = ()
    models: Sequence[str] = ()
    concurrency: int | None = None
    ends_load: bool = False

    @property
    def span(self) -> CountSpan:
        """The phase, as to counters."""
        is_first = all(p.start_ns >= self.start_ns for p in self.phases)
        return CountSpan(start_ns=self.start_ns, end_ns=self.end_ns, begins_load=is_first, ends_load=self.ends_load)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpan:
    """A phase of the load, ns since the epoch. `index`: among all phases, `profiling_index`: among the measured ones, None for a warm-up."""

    start_ns: int
    end_ns: int
    name: str
    kind: str
    index: int
    profiling_index: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One series with its figures: of the gauge, counter or histogram it is."""

    url: str
    metric: str
    kind: str
    help: str
    labels: tuple[tuple[str, str], ...]
    stats: Mapping[str, float]
    buckets: Mapping[str, int] | None = None
    slices: Sequence[Mapping[str, object]] = ()


def unit_of(metric: str) -> str | None:
    """By the family that knows the metric, else by the end of its name; None if neither says."""
    for family in all_families().values():
        for mapped in family.mapped(metric):
            if mapped.part is None:
                return {"s": "seconds"}.get(mapped.unit, mapped.unit)
    if "num_requests_" in metric:
        return "requests"
    return next((unit for suffix, unit in _SUFFIX_UNITS if metric.endswith(suffix)), None)


def _rows(readings: Readings, facts: ExportHeader) -> list[_Row]:
    start_ns, end_ns = facts.start_ns, facts.end_ns
    parts = windows(start_ns, end_ns, facts.slice_s)
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[int]] = {}
    for i, s in enumerate(readings.series):
        groups.setdefault((s.metric, s.labels), []).append(i)
    out: list[_Row] = []
    bounds, edges, seconds = facts.span.rows(readings), facts.span.edges(readings), facts.span.seconds(readings)
    inside = readings.values[readings.inside(start_ns, end_ns)]
    for (metric, labels), columns in groups.items():
        first = readings.series[columns[0]]
        row = partial(_Row, url=readings.url, metric=metric, kind=first.kind, help=first.help, labels=labels)
        if first.kind in {"gauge", "unknown", "untyped"}:
            seen = inside[:, columns[0]]
            seen = seen[~np.isnan(seen)]
            if len(seen):
                out.append(row(stats=_gauge_stats(seen), slices=gauge_slices(readings, columns[0], parts)))
        elif bounds is not None and edges is not None and seconds is not None:
            piece = readings.values[bounds[0] : bounds[1] + 1]
            if first.kind == "counter":
                total = float(increase(piece[:, columns[:1]])[0])
                slices = counter_slices(readings, columns[0], parts, edges)
                out.append(row(stats={"total": total, "rate": total / seconds, **rate_stats(slices)}, slices=slices))
            elif first.kind == "histogram":
                histogram = _histogram(readings.series, columns, piece, seconds)
                if histogram is not None:
                    slices = histogram_slices(readings, columns, parts, edges)
                    out.append(row(stats=histogram[0], buckets=histogram[1], slices=slices))
    return sorted(out, key=lambda r: (r.metric, r.labels))


def _gauge_stats(values: Floats) -> dict[str, float]:
    percentiles = np.percentile(values, STANDARD_PERCENTILES)
    return {
        "avg": float(values.mean()),
        "min": float(values.min()),
        "max": float(values.max()),
        "std": float(values.std()),
        **dict(zip(_PERCENTILES, percentiles.tolist(), strict=True)),
    }


def _histogram(
    series: Sequence[MetricSeries], columns: Sequence[int], piece: Floats, seconds: float
) -> tuple[dict[str, float], dict[str, int]] | None:
    """None if nothing was counted."""
    grown = dict(zip(columns, increase(piece[:, columns]).tolist(), strict=True))
    by_part = {series[i].part: grown[i] for i in columns if series[i].part != "bucket"}
    bounds = sorted((float(series[i].le or "inf"), series[i].le or "+Inf", grown[i]) for i in columns if series[i].le)
    count, total = by_part.get("count", bounds[-1][2] if bounds else 0.0), by_part.get("sum", math.nan)
    if not count:
        return None
    stats = {
        "count": int(count),
        "sum": total,
        "avg": total / count,
        "count_rate": count / seconds,
        "sum_rate": total / seconds,
    }
    uppers, cumulated = np.array([b for b, _, _ in bounds]), np.array([n for _, _, n in bounds])
    for name, p in zip(_PERCENTILES, STANDARD_PERCENTILES, strict=True):
        stats[f"{name}_estimate"] = histogram_quantile(p / 100, uppers, cumulated)
    finite = {k: v for k, v in stats.items() if math.isfinite(v)}
    return finite, {name: int(n) for _, name, n in bounds}


def _local(epoch_ns: int) -> str:
    return datetime.fromtimestamp(epoch_ns / 1e9).isoformat()  # noqa: DTZ006 - AIPerf writes local time without a zone


def _info(readings: Readings) -> dict[str, object]:
    times = readings.times_ns
    changed = [
        0,
        *(
            i
            for i in range(1, len(times))
            if not np.array_equal(readings.values[i], readings.values[i - 1], equal_nan=True)
        ),
    ]
    updates = times[changed]
    gaps = np.diff(updates) / 1e6
    out: dict[str, object] = {
        "total_fetches": len(times),
        "first_fetch_ns": int(times[0]),
        "last_fetch_ns": int(times[-1]),
        "avg_fetch_latency_ms": float(readings.latencies_ns.mean()) / 1e6,
        "unique_updates": len(changed),
        "first_update_ns": int(updates[0]),
        "last_update_ns": int(updates[-1]),
        "duration_seconds": float(updates[-1] - updates[0]) / 1e9,
    }
    if len(gaps):
        out |= {"avg_update_interval_ms": float(gaps.mean()), "median_update_interval_ms": float(np.median(gaps))}
    if readings.num_failed:
        out["failed_fetches"] = readings.num_failed
    return out


def render_files(formats: Iterable[str], readings: Sequence[Readings], facts: ExportHeader) -> dict[str, bytes]:
    """By ending, the text files of `--server-metrics-formats`; nothing if no page answered."""
    if not any(r.num_readings for r in readings):
        return {}
    wanted = {f.lower() for f in formats}
    out: dict[str, bytes] = {}
    if "json" in wanted:
        out["json"] = render_json(readings, facts)
    if "csv" in wanted:
        out["csv"] = render_csv(readings, facts)
    if "jsonl" in wanted:
        out["jsonl"] = render_jsonl(readings, facts.phases)
    return out


def render_json(readings: Sequence[Readings], facts: ExportHeader) -> bytes:
    answered = [r for r in readings if r.num_readings]
    metrics: dict[str, dict[str, object]] = {}
    for row in sorted((row for r in answered for row in _rows(r, facts)), key=lambda r: r.metric):
        entry = metrics.get(row.metric)
        if entry is None:
            unit = unit_of(row.metric)
            entry = metrics[row.metric] = {
                "type": row.kind,
                "description": row.help,
                **({"unit": unit} if unit is not None else {}),
                "series": [],
            }
        one: dict[str, object] = {"endpoint_url": row.url, "labels": dict(row.labels), "stats": dict(row.stats)}
        if row.buckets is not None:
            one["buckets"] = dict(row.buckets)
        if row.slices:
            one["timeslices"] = list(row.slices)
        series = entry["series"]
        if isinstance(series, list):
            series.append(one)
    document = {
        "schema_version": "1.1",
        "aiperf_version": facts.aiperf_version,
        "benchmark_id": facts.benchmark_id,
        "summary": {
            "endpoints_configured": list(facts.configured or [r.url for r in readings]),
            "endpoints_successful": [r.url for r in answered],
            "start_time": _local(facts.start_ns),
            "end_time": _local(facts.end_ns),
            "endpoint_info": {r.url: _info(r) for r in answered},
            "phase_time_ranges": {"profiling": {"start_ns": facts.start_ns, "end_ns": facts.end_ns}},
        },
        "metrics_phase": "profiling",
        "metrics": metrics,
        "input_config": facts.input_config,
    }
    return (json_text(document, indent=2) + "\n").encode()


def render_csv(readings: Sequence[Readings], facts: ExportHeader) -> bytes:
    """A section each for gauges, counters and histograms, with its own header; labels are columns."""
    rows = [row for r in readings if r.num_readings for row in _rows(r, facts)]
    out = io.StringIO()
    out.write("# AIPerf Server Metrics Export (CSV)\n")
    out.write(
        f"# aiperf_version: {facts.aiperf_version}\n# schema_version: 1.0\n# benchmark_id: {facts.benchmark_id}\n"
    )
    out.write("# Note: Same benchmark_id and version appear in JSON and Parquet exports\n#\n")
    writer = csv.writer(out, lineterminator="\n")
    is_first = True
    for kind, stats in (("gauge", _GAUGE), ("counter", _COUNTER), ("histogram", _HISTOGRAM)):
        section = [r for r in rows if r.kind == kind]
        if not section:
            continue
        if not is_first:
            out.write("\n")
        is_first = False
        labels = sorted({name for row in section for name, _ in row.labels})
        more = ["buckets"] if kind == "histogram" else []
        writer.writerow(["Endpoint", "Type", "Metric", "Unit", *stats, *labels, "Description", *more])
        for row in sorted(section, key=lambda r: (r.metric, r.url, r.labels)):
            given = dict(row.labels)
            cells = [_cell(row.stats.get(name)) for name in stats]
            buckets = [";".join(f"{le}={n}" for le, n in row.buckets.items())] if row.buckets is not None else []
            place = urlsplit(row.url).netloc or row.url
            shown = [given.get(name, "") for name in labels]
            writer.writerow([place, kind, row.metric, unit_of(row.metric) or "", *cells, *shown, row.help, *buckets])
    return out.getvalue().encode()


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def render_jsonl(readings: Iterable[Readings], phases: Sequence[PhaseSpan] = ()) -> bytes:
    """One line per reading that differs from the one before, in order of time; of one during a phase, which it is."""
    lines = [line for r in readings for line in _jsonl_lines(r, phases)]
    return b"".join(line for _, line in sorted(lines, key=lambda pair: pair[0]))


def _phase_at(when: int, phases: Sequence[PhaseSpan]) -> dict[str, object]:
    phase = next((p for p in phases if p.start_ns <= when <= p.end_ns), None)
    if phase is None:
        return {}
    told = {
        "benchmark_phase": phase.kind,
        "phase_index": phase.index,
        "profiling_index": phase.profiling_index,
        "phase_name": phase.name,
        "phase_kind": phase.kind,
    }
    return {key: value for key, value in told.items() if value is not None}


def _jsonl_lines(readings: Readings, phases: Sequence[PhaseSpan]) -> list[tuple[int, bytes]]:
    groups: dict[str, dict[tuple[tuple[str, str], ...], list[int]]] = {}
    for i, s in enumerate(readings.series):
        if (
            s.kind != "summary"
        ):  # quantiles since the server's start say nothing of the load; AIPerf leaves them out, too
            groups.setdefault(s.metric, {}).setdefault(s.labels, []).append(i)
    out: list[tuple[int, bytes]] = []
    before: Floats | None = None
    for when, latency, row in zip(
        readings.times_ns.tolist(), readings.latencies_ns.tolist(), readings.values, strict=True
    ):
        if before is not None and np.array_equal(row, before, equal_nan=True):
            continue
        before = row
        metrics = {
            metric: [e for labels, columns in by_labels.items() if (e := _entry(readings.series, labels, columns, row))]
            for metric, by_labels in groups.items()
        }
        line = {
            "endpoint_url": readings.url,
            "timestamp_ns": when,
            "endpoint_latency_ns": latency,
            "metrics": {name: found for name, found in metrics.items() if found},
            "request_sent_ns": when - latency,
            "first_byte_ns": when,
            **_phase_at(when, phases),
        }
        out.append((when, json_text(line, separators=(",", ":")).encode() + b"\n"))
    return out


def _entry(
    series: Sequence[MetricSeries], labels: tuple[tuple[str, str], ...], columns: Sequence[int], row: Floats
) -> dict[str, object] | None:
    there = [(series[i], float(row[i])) for i in columns if math.isfinite(row[i])]
    if not there:
        return None
    if there[0][0].kind != "histogram":
        return {"labels": dict(labels), "value": there[0][1]}
    buckets = {s.le: value for s, value in there if s.part == "bucket"}
    parts: dict[str, object] = {str(s.part): value for s, value in there if s.part != "bucket"}
    return {"labels": dict(labels), **({"buckets": buckets} if buckets else {}), **parts}

"""Series of the server by time slice (`--slice-duration`): `timeslices` of `server_metrics_export.json`, in AIPerf's form.

Counters and histograms are read between the slices' edges: where an edge lies between two readings, what was counted between them is
taken as spread evenly. A slice at an end of the load has all that was counted there, so that the slices add up to the total. Gauges are the readings inside a slice; a slice without one has no entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aiperf.telemetry.prometheus.readings import Floats, Readings

__all__ = ["Window", "counter_slices", "gauge_slices", "histogram_slices", "rate_stats", "windows"]


@dataclass(frozen=True, slots=True)
class Window:
    """ns since the epoch; the last one may be cut short by the end of the phase."""

    start_ns: int
    end_ns: int
    is_complete: bool = True

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    def entry(self, **values: object) -> dict[str, object]:
        out: dict[str, object] = {"start_ns": self.start_ns, "end_ns": self.end_ns}
        return out | ({} if self.is_complete else {"is_complete": False}) | values


def windows(start_ns: int, end_ns: int, slice_s: float | None) -> list[Window]:
    """From the start of the phase to its end; none without a duration."""
    if slice_s is None:
        return []
    step = round(slice_s * 1e9)
    edges = range(start_ns, end_ns, step)
    return [Window(at, min(at + step, end_ns), at + step <= end_ns) for at in edges]


def _grown(readings: Readings, columns: Sequence[int], edges: Sequence[int]) -> Floats:
    """(edges, columns) what was counted since the first reading; a fall is a restart, from 0."""
    values = np.nan_to_num(readings.values[:, list(columns)])
    steps = np.diff(values, axis=0)
    steps = np.where(steps < 0, values[1:], steps)
    total = np.vstack([np.zeros(len(columns)), np.cumsum(steps, axis=0)])
    times = readings.times_ns.astype(np.float64)
    return np.column_stack([np.interp(edges, times, total[:, i]) for i in range(len(columns))])


def _between(readings: Readings, columns: Sequence[int], parts: Sequence[Window], edges: tuple[int, int]) -> Floats:
    """(slices, columns) what was counted in each. `edges`: where the first begins and the last ends (`CountSpan.edges`)."""
    if not parts:
        return np.zeros((0, len(columns)))
    inner = [min(max(w.start_ns, edges[0]), edges[1]) for w in parts[1:]]
    return np.diff(_grown(readings, columns, [edges[0], *inner, edges[1]]), axis=0)


def counter_slices(
    readings: Readings, column: int, parts: Sequence[Window], edges: tuple[int, int]
) -> list[dict[str, object]]:
    grown = _between(readings, [column], parts, edges)
    return [
        w.entry(total=float(g), rate=float(g) / w.seconds)
        for w, g in zip(parts, grown[:, 0], strict=False)
        if w.seconds
    ]


def rate_stats(slices: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """`rate_avg`, `rate_min`, `rate_max`, `rate_std` over the complete slices; empty without any."""
    rates = np.array([float(str(s["rate"])) for s in slices if s.get("is_complete") is not False])
    if not len(rates):
        return {}
    names = {"rate_avg": rates.mean(), "rate_min": rates.min(), "rate_max": rates.max(), "rate_std": rates.std()}
    return {name: float(value) for name, value in names.items()}


def gauge_slices(readings: Readings, column: int, parts: Sequence[Window]) -> list[dict[str, object]]:
    out = []
    for w in parts:
        inside = readings.values[readings.inside(w.start_ns, w.end_ns - 1), column]
        inside = inside[~np.isnan(inside)]
        if len(inside):
            out.append(w.entry(avg=float(inside.mean()), min=float(inside.min()), max=float(inside.max())))
    return out


def histogram_slices(
    readings: Readings, columns: Sequence[int], parts: Sequence[Window], edges: tuple[int, int]
) -> list[dict[str, object]]:
    """Slices in which something was counted."""
    series = readings.series
    grown = _between(readings, columns, parts, edges)
    at = {series[c].part: i for i, c in enumerate(columns) if series[c].part != "bucket"}
    buckets = [(i, series[c].le or "+Inf") for i, c in enumerate(columns) if series[c].part == "bucket"]
    out = []
    for window, row in zip(parts, grown, strict=False):
        count = float(row[at["count"]]) if "count" in at else max((float(row[i]) for i, _ in buckets), default=0.0)
        if count <= 0:
            continue
        total = float(row[at["sum"]]) if "sum" in at else 0.0
        counted = {name: round(float(row[i])) for i, name in buckets}
        out.append(window.entry(count=round(count), sum=total, avg=total / count, buckets=counted))
    return out

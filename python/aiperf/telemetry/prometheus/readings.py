"""One page over time: a table of readings × series, and what it says in our words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiperf.telemetry import Mapped, all_families
from aiperf.telemetry.prometheus.exposition import MetricSeries

__all__ = [
    "Readings",
    "combined",
    "counters_delta",
    "gauge",
    "histogram_delta",
    "increase",
    "mappings",
    "returns_to_level",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_SHARD_LABELS: Final = frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "ep_rank", "cp_rank"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """`times_ns`: (readings,) when each reply was there, ns since the epoch; `latencies_ns`: how long each took.

    `values`: (readings, series), NaN where a series was not shown. `is_own`: a page of a measured URL, not one named besides.
    `num_failed`: readings without a reply; `error`: why the last one failed. `bad_lines`: of the worst reading, lines left out.
    """

    url: str
    is_own: bool
    series: tuple[MetricSeries, ...]
    times_ns: Ints = field(repr=False)
    latencies_ns: Ints = field(repr=False)
    values: Floats = field(repr=False)
    num_failed: int = 0
    error: str | None = None
    bad_lines: int = 0

    @property
    def num_readings(self) -> int:
        return len(self.times_ns)

    def columns(self, metric: str, mapped: Mapped | None = None, part: str = "value") -> list[int]:
        """Columns of a raw metric, those whose labels a mapping means."""
        wanted, unwanted = (
            (set(), set()) if mapped is None else (set(mapped.where.items()), set(mapped.without.items()))
        )
        found = [
            i
            for i, s in enumerate(self.series)
            if s.metric == metric and s.part == part and wanted <= set(s.labels) and not unwanted & set(s.labels)
        ]
        return self._once(found) if len(found) > 1 else found

    def _once(self, columns: list[int]) -> list[int]:
        """Ranks of one model (tensor or pipeline parallel) see the same requests: of series that differ by such a label only, the first."""
        seen: set[tuple[object, ...]] = set()
        kept: list[int] = []
        for i in columns:
            s = self.series[i]
            key = (s.le, *(pair for pair in s.labels if pair[0] not in _SHARD_LABELS))
            if key not in seen:
                seen.add(key)
                kept.append(i)
        return kept

    def bounds(self, start_ns: int, end_ns: int) -> tuple[int, int] | None:
        """Rows between which counters are compared: the last reading at or before `start_ns`, and the first at or after
        `end_ns` (else the last). None without two readings, or if the first came too late: what was counted before it is not known.
        """
        first = int(np.searchsorted(self.times_ns, start_ns, side="right")) - 1
        if self.num_readings < 2 or first < 0:
            return None
        last = min(self.num_readings - 1, int(np.searchsorted(self.times_ns, end_ns, side="left")))
        return (first, last) if last > first else None

    def inside(self, start_ns: int, end_ns: int) -> slice:
        """Rows read in the window, both ends included."""
        return slice(
            int(np.searchsorted(self.times_ns, start_ns, side="left")),
            int(np.searchsorted(self.times_ns, end_ns, side="right")),
        )


@cache
def mappings() -> dict[str, tuple[tuple[str, Mapped], ...]]:
    """By our name: (raw name, mapping) of all families, in order of preference."""
    out: dict[str, dict[tuple[str, str], Mapped]] = {}
    for family in all_families().values():
        for raw in family.metrics:
            for mapped in family.mapped(raw):
                out.setdefault(mapped.name, {}).setdefault(
                    (raw, str((sorted(mapped.where.items()), sorted(mapped.without.items())))), mapped
                )
    return {name: tuple((raw, mapped) for (raw, _), mapped in found.items()) for name, found in out.items()}


def _chosen(readings: Readings, name: str) -> tuple[Mapped, list[int]] | None:
    """The first raw metric of the page that stands for our name, and its columns."""
    for raw, mapped in mappings().get(name, ()):
        columns = readings.columns(raw, mapped, mapped.part or "value")
        if columns:
            return mapped, columns
    return None


def counted_until(readings: Sequence[Readings], end_ns: int) -> int:
    """Up to when counters are read for a load that ended at `end_ns`, ns since the epoch: servers count a moment later than they answer,
    so up to the last scrape.
    """
    return max((int(r.times_ns[-1]) for r in readings if r.num_readings), default=end_ns)


def increase(values: Floats) -> Floats:
    """(series,) growth of counters from the first row to the last; a fall is a restart, from 0.

    A series that was not there at first began at 0: servers show a counter with labels only when it has counted once.
    """
    filled = np.array(values, dtype=np.float64)
    if not len(filled):
        return np.zeros(filled.shape[1])
    filled[0] = np.where(np.isnan(filled[0]), 0.0, filled[0])
    for row in range(1, len(filled)):  # a gap in a counter is its last value; few rows
        filled[row] = np.where(np.isnan(filled[row]), filled[row - 1], filled[row])
    steps = np.diff(filled, axis=0)
    grown: Floats = np.where(steps < 0, filled[1:], steps).sum(axis=0)
    return grown


def counters_delta(readings: Readings, start_ns: int, end_ns: int) -> dict[str, float]:
    """Growth of the counters of the page between two instants, by our name, in their unit; those it lacks are left out."""
    rows = readings.bounds(start_ns, end_ns)
    if rows is None:
        return {}
    out: dict[str, float] = {}
    for name, found in mappings().items():
        if not any(m.kind == "counter" for _, m in found):
            continue
        chosen = _chosen(readings, name)
        if chosen is not None and chosen[0].kind == "counter":
            mapped, columns = chosen
            grown = increase(readings.values[rows[0] : rows[1] + 1][:, columns])
            out[name] = float(grown.sum()) * mapped.scale
    return out


def gauge(readings: Readings, name: str) -> tuple[Ints, Floats] | None:
    """(times ns since the epoch, values) of a gauge by our name, all series of the page as one; None if it has none."""
    chosen = _chosen(readings, name)
    if chosen is None or chosen[0].kind != "gauge":
        return None
    mapped, columns = chosen
    values = readings.values[:, columns]
    is_there = ~np.isnan(values).all(axis=1)
    if not is_there.any():
        return None
    return readings.times_ns[is_there], combined(values[is_there], mapped)


def combined(values: Floats, mapped: Mapped) -> Floats:
    """(readings,) the series of a gauge as one, by the rule of its mapping, in its unit; no row may be all NaN."""
    if not len(values):
        return np.zeros(0)
    if mapped.combine == "sum":
        return np.asarray(np.nansum(values, axis=1) * mapped.scale)
    rule = np.nanmean if mapped.combine == "mean" else np.nanmax
    return np.asarray(rule(values, axis=1) * mapped.scale)


def histogram_delta(readings: Readings, name: str, start_ns: int, end_ns: int) -> tuple[float, float] | None:
    """(number, sum in its unit) of what a histogram counted between two instants; None if the page has no such histogram."""
    rows = readings.bounds(start_ns, end_ns)
    if rows is None:
        return None
    for raw, mapped in mappings().get(name, ()):
        counts, sums = (readings.columns(raw, mapped, part) for part in ("count", "sum"))
        if mapped.kind == "histogram" and counts and sums:
            piece = readings.values[rows[0] : rows[1] + 1]
            return float(increase(piece[:, counts]).sum()), float(increase(piece[:, sums]).sum()) * mapped.scale
    return None


def returns_to_level(
    times_ns: Ints, values: Floats, end_ns: int, within_s: float, *, level: float, tolerance: float = 0.0
) -> float | None:
    """Seconds after `end_ns` until a gauge is at `level` (+ `tolerance`) and stays there; None if not within `within_s`.

    The answer is as fine as the readings: it is the first reading from which on all are at the level.
    """
    after = (times_ns >= end_ns) & (times_ns <= end_ns + int(within_s * 1e9)) & ~np.isnan(values)
    times, seen = times_ns[after], values[after]
    if not len(seen):
        return None
    above = np.flatnonzero(seen > level + tolerance)
    first = 0 if not len(above) else int(above[-1]) + 1
    return None if first == len(seen) else float(times[first] - end_ns) / 1e9


def merged(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums by name."""
    out: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            out[name] = out.get(name, 0.0) + value
    return out

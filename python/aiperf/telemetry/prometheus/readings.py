"""One page over time: a table of readings × series, and what it says in our words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiperf.telemetry import Mapped, all_families
from aiperf.telemetry.prometheus.exposition import MetricSeries

__all__ = [
    "CountSpan",
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
        columns = [
            i
            for i, s in enumerate(self.series)
            if s.metric == metric and s.part == part and wanted <= set(s.labels) and not unwanted & set(s.labels)
        ]
        return self._once(columns) if len(columns) > 1 else columns

    def _once(self, columns: list[int]) -> list[int]:
        """Ranks of one model (tensor or pipeline parallel) see the same requests: of series that differ by such a label only, the first."""
        seen: set[tuple[object, ...]] = set()
        kept: list[int] = []
        for column in columns:
            s = self.series[column]
            key = (s.le, *(pair for pair in s.labels if pair[0] not in _SHARD_LABELS))
            if key not in seen:
                seen.add(key)
                kept.append(column)
        return kept

    def inside(self, start_ns: int, end_ns: int) -> slice:
        """Rows read in the window, both ends included."""
        return slice(
            int(np.searchsorted(self.times_ns, start_ns, side="left")),
            int(np.searchsorted(self.times_ns, end_ns, side="right")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSpan:
    """Between which instants counters are compared, ns since the epoch. `begins_load`, `ends_load`: nothing came before, nothing follows.

    A scrape is neither at the start nor at the end: what is counted is that between `rows`. Where nothing follows, it goes to the last scrape, as
    servers count a moment later than they answer.
    """

    start_ns: int
    end_ns: int
    begins_load: bool = True
    ends_load: bool = True

    def rows(self, page: Readings) -> tuple[int, int] | None:
        """The last reading at or before the start, and the first that was asked for at or after the end, else the last. None if the first
        reading came too late or none was asked for after the end: what was counted before or since is not known.
        """
        first = int(np.searchsorted(page.times_ns, self.start_ns, side="right")) - 1
        last = int(np.searchsorted(page.times_ns - page.latencies_ns, self.end_ns, side="left"))
        if first < 0 or last >= page.num_readings:
            return None
        last = page.num_readings - 1 if self.ends_load else last
        return (first, last) if last > first else None

    def edges(self, page: Readings) -> tuple[int, int] | None:
        """Instants between which `rows` counted: at an end of the load, that of the reading; else the span's own."""
        rows = self.rows(page)
        if rows is None:
            return None
        first, last = (int(page.times_ns[row]) for row in rows)
        return first if self.begins_load else self.start_ns, last if self.ends_load else self.end_ns

    def seconds(self, page: Readings) -> float | None:
        """How long it took what `rows` counted: at an end of the load to that, else to the reading."""
        rows = self.rows(page)
        if rows is None:
            return None
        first, last = (int(page.times_ns[row]) for row in rows)
        begin = self.start_ns if self.begins_load else first
        return ((self.end_ns if self.ends_load else last) - begin) / 1e9


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


def counters_delta(pages: Sequence[Readings], span: CountSpan) -> dict[str, float]:
    """Growth of the counters in the span, by our name, in their unit: the sum over the measured URLs' own pages that have it, else over the
    others. Left out are those that no page has, and those of a page that was not read around the span: a part of the sum would pass
    for the whole.
    """
    out: dict[str, float] = {}
    for name, found in mappings().items():
        if any(m.kind == "counter" for _, m in found):
            parts = [_growth(r, name, span) for r in _own_first(pages, name, _counter)]
            known = [p for p in parts if p is not None]
            if parts and len(known) == len(parts):
                out[name] = sum(known)
    return out


def _own_first(
    pages: Sequence[Readings], name: str, find: Callable[[Readings, str], object | None]
) -> Sequence[Readings]:
    """The measured URLs' own pages that have it, else the others that have."""
    have = [r for r in pages if r.num_readings and find(r, name) is not None]
    return [r for r in have if r.is_own] or have


def _counter(readings: Readings, name: str) -> tuple[Mapped, list[int]] | None:
    chosen = _chosen(readings, name)
    return chosen if chosen is not None and chosen[0].kind == "counter" else None


def _growth(readings: Readings, name: str, span: CountSpan) -> float | None:
    rows, chosen = span.rows(readings), _counter(readings, name)
    if rows is None or chosen is None:
        return None
    mapped, columns = chosen
    return float(increase(readings.values[rows[0] : rows[1] + 1][:, columns]).sum()) * mapped.scale


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


def histogram_delta(pages: Sequence[Readings], name: str, span: CountSpan) -> tuple[float, float] | None:
    """(number, sum in its unit) of what a histogram counted in the span, of the same pages as a counter; None if no page has it, or one
    that has was not read around the span.
    """
    number = total = 0.0
    having = _own_first(pages, name, _histogram)
    for page in having:
        rows, found = span.rows(page), _histogram(page, name)
        if rows is None or found is None:
            return None
        mapped, counts, sums = found
        piece = page.values[rows[0] : rows[1] + 1]
        number += float(increase(piece[:, counts]).sum())
        total += float(increase(piece[:, sums]).sum()) * mapped.scale
    return (number, total) if having else None


def _histogram(readings: Readings, name: str) -> tuple[Mapped, list[int], list[int]] | None:
    """(mapping, columns of the counts, of the sums)."""
    for raw, mapped in mappings().get(name, ()):
        counts, sums = (readings.columns(raw, mapped, part) for part in ("count", "sum"))
        if mapped.kind == "histogram" and counts and sums:
            return mapped, counts, sums
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

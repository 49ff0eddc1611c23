"""From what was scraped to the server's figures in standard names, and their courses over time (`aiperf.metrics.server`).

Percentiles are those of histogram buckets: linear within the bucket, and the bucket's bounds are the error. Counters are compared
between the last scrape before the measured phase and the first one after it, or the last of all if no phase follows; one that fell was
reset and counts on from 0.
A name is read from the measured URLs' own metrics; only what none of them has is taken from the endpoints named besides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from aiperf.metrics.server import Replica, ServerFigure, ServerPage, ServerSeries, ServerView
from aiperf.telemetry import Mapped, all_families
from aiperf.telemetry.prometheus.exposition import MetricSeries
from aiperf.telemetry.prometheus.quantiles import bucket_of, histogram_quantile
from aiperf.telemetry.prometheus.readings import CountSpan, Floats, Readings, combined, gauge, increase, mappings

__all__ = ["build_view", "raw_names"]

_PERCENTILES: Final = ("p50", "p90", "p99")
_MOST_POINTS: Final = 300
_IDENTITY: Final = frozenset(
    {
        "engine", "engine_index", "dp", "dp_rank", "replica", "rank", "worker", "worker_id", "instance", "pod", "node",
        "server", "slot",
    }
)  # fmt: skip
"""Labels that tell engines, data-parallel ranks and replicas apart."""
_TIMES: Final = (
    "queue_time",
    "prefill_time",
    "decode_time",
    "inference_time",
    "time_to_first_token",
    "inter_token_latency",
    "time_per_output_token",
    "request_latency",
    "iteration_tokens",
)
_LEVELS: Final = ("requests_in_flight", "requests_running", "requests_waiting", "requests_swapped", "kv_cache_usage")
_COUNTS: Final = (
    "preemptions",
    "rejected_requests",
    "aborted_requests",
    "requests",
    "prompt_tokens",
    "generation_tokens",
)
_SHARES: Final[Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "prefix_hit_rate": (
        ("prefix_cache_hits", ("prefix_cache_queries",)),
        ("prefix_cache_hits", ("prefix_cache_hits", "computed_prompt_tokens")),
        ("prefix_cache_hit_blocks", ("prefix_cache_hit_blocks", "prefix_cache_missed_blocks")),
    ),
    "external_hit_rate": (("external_cache_hits", ("external_cache_queries",)),),
    "acceptance_rate": (("accepted_tokens", ("draft_tokens",)),),
}
"""Name → (part, whole): growth of the first over the sum of the growths of the others; the first pair the server has."""
_SHARE_GAUGES: Final = {"prefix_hit_rate": "prefix_hit_rate", "acceptance_rate": "last_acceptance_rate"}
_FACTOR: Final = {"s": 1e3, "ratio": 100.0}
"""From a family's unit to the shown one: ms, %."""


@dataclass(frozen=True, slots=True)
class _Found:
    """MetricSeries of one raw metric on one endpoint. `columns`: of the part asked for."""

    page: Readings
    raw: str
    mapped: Mapped
    columns: list[int]


def build_view(
    readings: Sequence[Readings],
    window: tuple[int, int],
    load: tuple[int, int],
    wall_ns: int,
    *,
    ends_with_load: bool = True,
) -> ServerView:
    """`window`: the measured phase, `load`: all phases, both ns since the epoch; `wall_ns`: run time 0. `ends_with_load`: no phase
    follows the measured one.
    """
    answered = [r for r in readings if r.num_readings]
    counted = CountSpan(
        start_ns=window[0], end_ns=window[1], begins_load=window[0] <= load[0], ends_load=ends_with_load
    )
    figures = [_times(answered, name, counted) for name in _TIMES]
    figures += [_level(answered, name, window) for name in _LEVELS]
    figures += [_count(answered, name, counted) for name in _COUNTS]
    figures += [_share(answered, name, counted) for name in _SHARES]
    by_name = {f.name: f for f in figures if f is not None}
    batch = _batch_size(answered, counted, by_name)
    if batch is not None:
        by_name[batch.name] = batch
    series = tuple(_series(answered, load, wall_ns)) if answered else ()
    return ServerView(figures=by_name, series=series, pages=tuple(map(_page, readings)))


def raw_names(name: str) -> dict[str, str]:
    """Title of a server family → the raw names that a metric is made from there; families that lack it are left out."""
    parts = {name, *_SHARE_GAUGES.get(name, "").split()}
    parts |= {p for part, wholes in _SHARES.get(name, ()) for p in (part, *wholes)}
    parts |= {"batch_size_histogram", "busy_slots", "requests_running"} if name == "batch_size" else set()
    out: dict[str, str] = {}
    for family in all_families().values():
        raws = [raw for raw in family.metrics if any(m.name in parts for m in family.mapped(raw))]
        if raws and family.name != "sim":
            out[family.title] = ", ".join(f"`{raw}`" for raw in raws)
    return out


# Finding ------------------------------------------------------------------------------------------------------------------


def _find(readings: Sequence[Readings], name: str, kind: str, part: str = "value") -> list[_Found]:
    """Of the own endpoints, or if none of them has it of the others: the first raw metric of each that stands for the name."""
    for is_own in (True, False):
        found = [f for r in readings if r.is_own is is_own and (f := _on_page(r, name, kind, part)) is not None]
        if found:
            return found
    return []


def _on_page(page: Readings, name: str, kind: str, part: str) -> _Found | None:
    for raw, mapped in mappings().get(name, ()):
        if mapped.kind == kind:
            columns = page.columns(raw, mapped, mapped.part or part)
            if columns:
                return _Found(page, raw, mapped, columns)
    return None


def _place(page: Readings) -> str:
    return urlsplit(page.url).netloc or page.url


def _identity(series: MetricSeries) -> str:
    return " ".join(f"{k}={v}" for k, v in series.labels if k in _IDENTITY)


def _by_replica(found: Sequence[_Found]) -> dict[str, list[_Found]]:
    """Name of the replica → its series; the address is part of the name where there are several."""
    several = len({_place(f.page) for f in found}) > 1
    out: dict[str, list[_Found]] = {}
    for source in found:
        groups: dict[str, list[int]] = {}
        for column in source.columns:
            groups.setdefault(_identity(source.page.series[column]), []).append(column)
        for identity, columns in groups.items():
            name = " ".join(w for w in (_place(source.page) if several else "", identity) if w)
            out.setdefault(name, []).append(_Found(source.page, source.raw, source.mapped, columns))
    return out


def _replicas(found: Sequence[_Found], value: Callable[[Sequence[_Found]], float | None]) -> tuple[Replica, ...]:
    groups = _by_replica(found)
    if len(groups) < 2:
        return ()
    values = {name: value(parts) for name, parts in groups.items()}
    return tuple(Replica(name, v) for name, v in sorted(values.items()) if v is not None)


def _source(found: Iterable[_Found]) -> str:
    return ", ".join(dict.fromkeys(f.raw for f in found))


# Figures ------------------------------------------------------------------------------------------------------------------


def _grown(found: Sequence[_Found], span: CountSpan) -> float | None:
    """Growth of all the series in the shown unit; None if an endpoint was not scraped twice."""
    total = 0.0
    for f in found:
        rows = span.rows(f.page)
        if rows is None:
            return None
        total += float(increase(f.page.values[rows[0] : rows[1] + 1][:, f.columns]).sum()) * f.mapped.scale
    return total


def _count(readings: Sequence[Readings], name: str, span: CountSpan) -> ServerFigure | None:
    sources = _find(readings, name, "counter")
    total = _grown(sources, span) if sources else None
    if total is None:
        return None
    seconds = max(span.seconds(f.page) or 0.0 for f in sources)
    stats = {"count": total} | ({"rate": total / seconds} if seconds > 0 else {})
    return ServerFigure(
        name=name, stats=stats, source=_source(sources), replicas=_replicas(sources, lambda parts: _grown(parts, span))
    )


def _share(readings: Sequence[Readings], name: str, span: CountSpan) -> ServerFigure | None:
    for part, wholes in _SHARES[name]:
        top, below = _find(readings, part, "counter"), [_find(readings, whole, "counter") for whole in wholes]
        if not top or not all(below):
            continue
        grown = [_grown(f, span) for f in below]
        hits = _grown(top, span)
        if hits is None or any(g is None for g in grown):
            continue
        whole = sum(g for g in grown if g is not None)
        if not whole:
            return None
        replicas = _share_by_replica(top, below, span)
        stats = {"avg": 100 * hits / whole}
        return ServerFigure(name=name, stats=stats, source=_source([*top, *itertools.chain(*below)]), replicas=replicas)
    level = _level(readings, _SHARE_GAUGES[name], (span.start_ns, span.end_ns)) if name in _SHARE_GAUGES else None
    if level is None:
        return None
    return ServerFigure(
        name=name, stats={"avg": level.stats["avg"]}, source=f"{level.source} (gauge)", replicas=level.replicas
    )


def _share_by_replica(top: Sequence[_Found], below: Sequence[Sequence[_Found]], span: CountSpan) -> tuple[Replica, ...]:
    groups, wholes = _by_replica(top), [_by_replica(b) for b in below]
    if len(groups) < 2:
        return ()
    out: list[Replica] = []
    for name in sorted(groups):
        hits = _grown(groups[name], span)
        whole = sum(_grown(w[name], span) or 0.0 for w in wholes if name in w)
        if hits is not None and whole:
            out.append(Replica(name, 100 * hits / whole))
    return tuple(out)


def _samples(f: _Found, window: tuple[int, int]) -> Floats:
    """(scrapes in the window,) a gauge's series as one, in the shown unit."""
    values = f.page.values[f.page.inside(*window)][:, f.columns]
    values = values[~np.isnan(values).all(axis=1)]
    return combined(values, f.mapped) * _FACTOR.get(f.mapped.unit, 1.0)


def _level(readings: Sequence[Readings], name: str, window: tuple[int, int]) -> ServerFigure | None:
    sources = [f for f in _find(readings, name, "gauge") if len(_samples(f, window))]
    if not sources:
        return None
    pages = [_samples(f, window) for f in sources]
    is_share = sources[0].mapped.combine != "sum"
    mean = [float(p.mean()) for p in pages]
    top = [float(p.max()) for p in pages]
    stats = {
        "avg": sum(mean) / len(mean) if is_share else sum(mean),
        "max": max(top) if is_share else sum(top),
    }

    def one(parts: Sequence[_Found]) -> float | None:
        values = [s for f in parts if len(s := _samples(f, window))]
        return float(np.concatenate(values).mean()) if values else None

    return ServerFigure(name=name, stats=stats, source=_source(sources), replicas=_replicas(sources, one))


def _histogram(found: Sequence[_Found], span: CountSpan) -> tuple[float, float, Floats, Floats] | None:
    """(count, sum, uppers, cumulated) of all the series together; the bounds are those that all of them have."""
    count = total = 0.0
    tables: list[dict[float, float]] = []
    for source in found:
        rows = span.rows(source.page)
        if rows is None:
            return None
        piece = source.page.values[rows[0] : rows[1] + 1]
        wanted = {_key(source.page.series[c]) for c in source.columns}
        for part in ("count", "sum", "bucket"):
            columns = [
                c for c in source.page.columns(source.raw, source.mapped, part) if _key(source.page.series[c]) in wanted
            ]  # the replica's own
            grown = increase(piece[:, columns]) if columns else np.zeros(0)
            if part == "count":
                count += float(grown.sum())
            elif part == "sum":
                total += float(grown.sum()) * source.mapped.scale
            else:
                table: dict[float, float] = {}
                for c, value in zip(columns, grown.tolist(), strict=True):
                    upper = float(source.page.series[c].le or "inf")
                    table[upper] = table.get(upper, 0.0) + value
                tables.append({k * source.mapped.scale: v for k, v in table.items()})
    if not count:
        return None
    shared = sorted(set.intersection(*(set(t) for t in tables))) if tables else []
    return count, total, np.array(shared), np.array([sum(t[k] for t in tables) for k in shared])


def _key(series: MetricSeries) -> tuple[tuple[str, str], ...]:
    return series.labels


def _times(readings: Sequence[Readings], name: str, span: CountSpan) -> ServerFigure | None:
    sources = _find(readings, name, "histogram", "count")
    known = _histogram(sources, span) if sources else None
    if known is None:
        return None
    count, total, uppers, cumulated = known
    factor = _FACTOR.get(sources[0].mapped.unit, 1.0)
    stats = {"avg": factor * total / count, "count": count}
    bounds: dict[str, tuple[float, float | None]] = {}
    for stat in _PERCENTILES:
        q = float(stat[1:]) / 100
        value = histogram_quantile(q, uppers, cumulated)
        if math.isfinite(value):
            low, high = bucket_of(q, uppers, cumulated)
            stats[stat] = factor * value
            bounds[stat] = (factor * low, factor * high if math.isfinite(high) else None)

    def mean(parts: Sequence[_Found]) -> float | None:
        one = _histogram(parts, span)
        return None if one is None else factor * one[1] / one[0]

    return ServerFigure(
        name=name, stats=stats, bounds=bounds, source=_source(sources), replicas=_replicas(sources, mean)
    )


def _batch_size(
    readings: Sequence[Readings], span: CountSpan, known: Mapping[str, ServerFigure]
) -> ServerFigure | None:
    counted = _find(readings, "batch_size_histogram", "histogram", "count")
    found = _histogram(counted, span) if counted else None
    if found is not None:
        return ServerFigure(name="batch_size", stats={"avg": found[1] / found[0]}, source=_source(counted))
    slots = _level(readings, "busy_slots", (span.start_ns, span.end_ns))
    if slots is not None:
        return ServerFigure(name="batch_size", stats=slots.stats, source=slots.source)
    running = known.get("requests_running")
    if running is None:
        return None
    engines = max(len(running.replicas), 1)
    stats = {stat: value / engines for stat, value in running.stats.items()}
    return ServerFigure(name="batch_size", stats=stats, source=f"{running.source} ÷ {engines}")


def _page(readings: Readings) -> ServerPage:
    known = {raw for found in mappings().values() for raw, _ in found}
    names = {s.metric for s in readings.series}
    return ServerPage(
        url=readings.url,
        scrapes=readings.num_readings,
        failed=readings.num_failed,
        error=readings.error,
        bad_lines=readings.bad_lines,
        unnamed=len(names - known),
    )


# Courses over time --------------------------------------------------------------------------------------------------------


def _series(readings: Sequence[Readings], load: tuple[int, int], wall_ns: int) -> Iterable[ServerSeries]:
    edges = _edges(readings, load)
    if len(edges) < 3:
        return
    middles = (edges[:-1] + edges[1:]) / 2
    widths = np.diff(edges) / 1e9

    def made(name: str, unit: str, at: Floats, values: Floats, label: str = "") -> Iterable[ServerSeries]:
        if np.isfinite(values).any():
            seconds = (at - wall_ns) / 1e9
            yield ServerSeries(
                name=name, unit=unit, times_s=tuple(_rounded(seconds)), values=_plain(values), label=label
            )

    for name in ("requests_running", "requests_waiting", "kv_cache_usage"):
        found = _find(readings, name, "gauge")
        if found:
            unit = "%" if name == "kv_cache_usage" else "requests"
            yield from made(name, unit, edges, _gauge_at(found, name, edges))
    counted: dict[str, Floats] = {}
    for name in ("prompt_tokens", "prefix_cache_hits", "computed_prompt_tokens", "prefix_cache_queries"):
        counted[name] = _counter_at(_find(readings, name, "counter"), edges)
    for name in ("generation_tokens", "preemptions"):
        counted[name] = _counter_at(_find(readings, name, "counter"), edges)
    computed = np.diff(counted["computed_prompt_tokens"])
    if not np.isfinite(computed).any():
        hits = np.diff(counted["prefix_cache_hits"])
        computed = np.diff(counted["prompt_tokens"]) - (np.nan_to_num(hits) if np.isfinite(hits).any() else 0.0)
    yield from made("prefill_throughput", "tokens/s", middles, np.maximum(computed, 0) / widths)
    yield from made("decode_throughput", "tokens/s", middles, np.diff(counted["generation_tokens"]) / widths)
    yield from made("preemptions", "preemptions/s", middles, np.diff(counted["preemptions"]) / widths)
    asked = np.diff(counted["prefix_cache_queries"])
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(asked > 0, 100 * np.diff(counted["prefix_cache_hits"]) / asked, np.nan)
    yield from made("prefix_hit_rate", "%", middles, rate)
    for name in ("queue_time", "prefill_time", "decode_time", "time_to_first_token"):
        yield from made(name, "ms", middles, _mean_at(readings, name, edges))


def _edges(readings: Sequence[Readings], load: tuple[int, int]) -> Floats:
    """Moments of the courses: those at which the endpoint with most scrapes was read, every n-th of more than 300."""
    most = max(readings, key=lambda r: r.num_readings)
    rows = CountSpan(start_ns=load[0], end_ns=load[1], ends_load=False).rows(most)
    seen = most.inside(*load) if rows is None else slice(rows[0], rows[1] + 1)
    times = most.times_ns[seen].astype(np.float64)
    return np.asarray(times[:: max(1, math.ceil(len(times) / _MOST_POINTS))])


def _gauge_at(sources: Sequence[_Found], name: str, at: Floats) -> Floats:
    pages: list[Floats] = []
    for f in sources:
        known = gauge(f.page, name)
        if known is not None:
            times, values = known
            pages.append(np.interp(at, times.astype(np.float64), values) * _FACTOR.get(f.mapped.unit, 1.0))
    table = np.array(pages)
    is_share = sources[0].mapped.combine != "sum"
    return np.asarray(table.mean(axis=0) if is_share else table.sum(axis=0)) if pages else np.full(len(at), np.nan)


def _counter_at(sources: Sequence[_Found], at: Floats) -> Floats:
    """(moments,) the counter without its resets, all series added; NaN if there is none."""
    if not sources:
        return np.full(len(at), np.nan)
    total = np.zeros(len(at))
    for f in sources:
        total += np.interp(at, f.page.times_ns.astype(np.float64), _running(f.page.values[:, f.columns]))
    return total * sources[0].mapped.scale


def _running(values: Floats) -> Floats:
    """(readings,) growth since the first reading of all columns together; a fall is a restart from 0, a gap the last value."""
    filled = values.copy()
    filled[0] = np.nan_to_num(filled[0])
    for row in range(1, len(filled)):  # few rows
        filled[row] = np.where(np.isnan(filled[row]), filled[row - 1], filled[row])
    steps = np.diff(filled, axis=0)
    grown = np.where(steps < 0, filled[1:], steps).sum(axis=1)
    return np.concatenate(([0.0], np.cumsum(grown)))


def _mean_at(readings: Sequence[Readings], name: str, edges: Floats) -> Floats:
    """(windows,) mean of what a histogram counted in each, ms; NaN where it counted nothing."""
    found = _find(readings, name, "histogram", "count")
    if not found:
        return np.full(len(edges) - 1, np.nan)
    counts = np.diff(_counter_at(found, edges))
    sums = [_Found(f.page, f.raw, f.mapped, f.page.columns(f.raw, f.mapped, "sum")) for f in found]
    totals = np.diff(_counter_at([s for s in sums if s.columns], edges))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(counts > 0, 1e3 * totals / counts, np.nan))


def _rounded(values: Floats) -> list[float]:
    return [round(v, 3) for v in values.tolist()]


def _plain(values: Floats) -> tuple[float | None, ...]:
    return tuple(float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist())

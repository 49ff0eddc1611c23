"""Time slices: true windows from the first request on; tokens and requests are counted where they happened.

* requests: in the slice in which they *ended* (percentiles of those that *started* in it are separate and labelled so)
* tokens: in the slice in which their chunk arrived (replies without chunk stamps: at their end); prompt tokens when the first
  token arrived
* gaps between chunks: where the later chunk arrived; time-weighted metrics: the step functions cut at the slice's edges

Every slice is written, empty ones too. The last one is cut at the end of the run and then not complete; rates use its
real length. AIPerf credits everything to the slice of a request's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiperf._core import WindowGaps
from aiperf.errors import ConfigError, ErrorKind, Problem
from aiperf.metrics import METRICS, Bools, Floats, Ints, Metric
from aiperf.metrics.blocks import blocks
from aiperf.metrics.compute import Result, Results, request_stats, shown
from aiperf.metrics.context import MetricContext
from aiperf.metrics.goodput import SloResult, Tier, TierResult, meets
from aiperf.metrics.stats import STANDARD_PERCENTILES, Stats, compute_stats, inner, scalar_stats, weighted_stats
from aiperf.metrics.timeline import Timeline, bounds
from aiperf.metrics.tokens import osl_mismatch
from aiperf.metrics.usage import usage_discrepant
from aiperf.number_text import exact

__all__ = ["Slice", "WindowScan", "Windows", "build_windows", "slice_edges", "slice_windows"]

MAX_SLICES: Final = 20_000
_EXACT_GAPS: Final = 4_000_000
_GAP_SHIFT: Final = 16
_GAP_FLOOR: Final = int(np.float32(1).view(np.int32)) >> _GAP_SHIFT
_GAP_BINS: Final = (int(np.float32(2**40).view(np.int32)) >> _GAP_SHIFT) - _GAP_FLOOR + 2
"""Bins by a float32's exponent and 7 bits of mantissa (percentiles within 0.4 %) from 1 ns to 2⁴⁰ ns; bin 0 is 0 ns."""
Places = NDArray[np.int16]
"""(rows,) window of each row, −1 where it is in none: there are at most `MAX_SLICES`."""
_STARTED_TAGS: Final = ("time_to_first_token", "inter_token_latency", "request_latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One window; `begin_ns`, `end_ns` are run time. `metrics`: what ended or happened in it; `started`: latencies of what started in it.

    `ended`: successful requests that ended here; `sent`: requests that started here. `tokens`: output tokens that arrived.
    `misses`: fewer than `wanted_share` of the attempted requests that ended here met the first tier's goals.
    """

    index: int
    begin_ns: float
    end_ns: float
    is_complete: bool
    ended: int
    sent: int
    failed: int
    cancelled: int
    tokens: float | None
    metrics: Results
    started: Mapping[str, Stats]
    tiers: tuple[TierResult, ...] = ()
    wanted_share: float = 1.0

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9

    @property
    def misses(self) -> bool:
        return any(t.fraction is not None and t.fraction < self.wanted_share for t in self.tiers[:1])

    def stat(self, tag: str, name: str = "avg") -> float | None:
        found = self.metrics.get(tag)
        return None if found is None else found.stats.get(name)


@dataclass(frozen=True, slots=True)
class Windows:
    """`edges`: (n + 1,) int64 ns of run time, equal widths but the last. `clipped`: the last window is not complete."""

    edges: Ints
    clipped: bool

    @property
    def num(self) -> int:
        return len(self.edges) - 1


def slice_edges(context: MetricContext, width_ns: int) -> Windows | None:
    """Windows of `width_ns` from the first start to the last end; None if nothing was sent. ConfigError if they are too many."""
    begin, end = bounds(context)
    if not end > begin:
        return None
    num = -(-int(end - begin) // width_ns)
    if num > MAX_SLICES:
        problem = f"{num:,} slices of {exact(width_ns / 1e9)} s are more than {MAX_SLICES:,}"
        raise ConfigError([Problem(problem, "--slice-duration", "use longer slices")])
    edges = int(begin) + width_ns * np.arange(num + 1, dtype=np.int64)
    clipped = bool(edges[-1] > end)
    edges[-1] = min(edges[-1], int(end))
    return Windows(edges, clipped)


@dataclass
class WindowScan:
    """Tokens and gaps by window, from the pass over the chunks.

    A chunk is in the window of its stamp (one on the last edge is in the last window), a gap in that of its later chunk.
    Gaps are kept up to four million, in a histogram per window beyond.
    """

    windows: Windows
    exact: bool
    sink: WindowGaps = field(init=False)

    def __post_init__(self) -> None:
        self.sink = WindowGaps(self.windows.edges, self.exact)

    @classmethod
    def over(cls, context: MetricContext, windows: Windows) -> WindowScan:
        chunks = float(np.nansum(context.num_content_chunks))
        return cls(windows, chunks <= _EXACT_GAPS)

    @cached_property
    def tokens(self) -> Floats:
        """(windows,) when the pass is over."""
        return self.sink.tokens()

    def gap_stats(self, divisor: float) -> list[Stats | None]:
        """Per window, in ns / divisor."""
        num = self.windows.num
        if self.exact:
            index, gaps = self.sink.take_gaps()
            return [compute_stats(part, divisor=divisor) for part in _grouped(index, gaps, num)]
        bits = np.arange(_GAP_FLOOR - 1, _GAP_FLOOR + _GAP_BINS, dtype=np.int32) << _GAP_SHIFT
        values = bits.view(np.float32).astype(np.float64)
        middles = (values[:-1] + values[1:]) / 2 / divisor
        middles[0] = 0.0
        return [_binned_stats(row, middles) for row in self.sink.take_bins().reshape(num, _GAP_BINS)]


def _binned_stats(counts: NDArray[np.int32], middles: Floats) -> Stats | None:
    total = int(counts.sum())
    if not total:
        return None
    used = np.flatnonzero(counts)
    weights = counts[used].astype(np.float64)
    mean = inner(weights, middles[used]) / total
    std = float(np.sqrt(inner(weights, (middles[used] - mean) ** 2) / total))
    ranks = np.asarray(STANDARD_PERCENTILES) / 100 * (total - 1)
    found = middles[np.searchsorted(np.cumsum(counts), ranks, side="right")]
    percentiles: dict[float, float | None] = dict(zip(STANDARD_PERCENTILES, map(float, found), strict=True))
    return Stats(
        avg=mean,
        min=float(middles[used[0]]),
        max=float(middles[used[-1]]),
        std=std,
        sum=mean * total,
        count=total,
        percentiles=percentiles,
        error=2.0**-8,
    )


def _grouped(index: NDArray[np.integer], values: Floats, num: int) -> list[Floats]:
    """The values of each window, in their order."""
    if num == 1:
        return [values]
    order = np.argsort(index, kind="stable")
    cuts = np.searchsorted(index[order], np.arange(1, num))
    return np.split(values[order], cuts)


def slice_windows(context: MetricContext, width_ns: int) -> WindowScan | None:
    windows = slice_edges(context, width_ns)
    return None if windows is None else WindowScan.over(context, windows)


def _place(times: Floats, windows: Windows) -> Places:
    """Window of each time; −1 outside or NaN. A time on the last edge is in the last window."""
    edges = windows.edges
    width = float(edges[1] - edges[0])
    placed = np.empty(len(times), dtype=np.int16)
    for rows in blocks(len(times)):
        at = times[rows]
        position = np.floor((at - float(edges[0])) / width)
        inside = (at >= float(edges[0])) & (at <= float(edges[-1]))
        placed[rows] = np.where(inside, np.minimum(position, windows.num - 1), -1.0)
    return placed


def _count(mask: Bools, where: Places, num: int) -> Floats:
    """(num,) rows of the mask in each window."""
    counts = np.zeros(num)
    for rows in blocks(len(where)):
        at = where[rows]
        counts += np.bincount(at[mask[rows] & (at >= 0)], minlength=num)
    return counts


def _add_up(values: Floats, where: Places, num: int) -> Floats:
    """(num,) sum of the values in each window."""
    sums = np.zeros(num)
    for rows in blocks(len(where)):
        at, some = where[rows], values[rows]
        use = (at >= 0) & np.isfinite(some)
        np.add.at(sums, at[use], some[use])
    return sums


def build_windows(
    context: MetricContext,
    timeline: Timeline | None,
    scan: WindowScan,
    tiers: Sequence[Tier],
    percentiles: Sequence[float] = STANDARD_PERCENTILES,
    wanted_share: float = 1.0,
) -> tuple[Slice, ...]:
    """Every window's results; `scan` has seen all chunks of the context."""
    windows, num = scan.windows, scan.windows.num
    # A request that did not succeed finished at its end.
    ended_in, sent_in = _place(context.finish, windows), _place(context.start, windows)
    seconds: Floats = np.diff(windows.edges).astype(np.float64) / 1e9
    tokens = _tokens(context, scan, ended_in)
    ok, failed = _count(context.ok, ended_in, num), _count(context.failed, ended_in, num)
    cancelled, attempted = _count(context.cancelled, ended_in, num), _count(context.attempted, ended_in, num)
    sent = _count(np.ones(context.num_rows, dtype=bool), sent_in, num)
    scored = _score(context, tiers, ended_in, ok, attempted, seconds)
    sums = {
        **_request_sums(context, ended_in, seconds),
        **_token_sums(context, tokens, ended_in, windows),
        **_mismatch_sums(context, ended_in, num),
    }
    sums["total_token_throughput"] = sums["input_token_throughput"] + sums["output_token_throughput"]
    sums |= {**_usage_sums(context, ended_in, num), **_good_sums(scored, attempted, seconds)}
    table = _request_tables(context, ended_in, num, percentiles)
    started = {tag: _by_window(METRICS[tag], context.value(tag), sent_in, num, percentiles) for tag in _STARTED_TAGS}
    icl = METRICS["inter_chunk_latency"]
    gap_stats = scan.gap_stats(icl.unit.divisor) if context.options.streaming else [None] * num
    out: list[Slice] = []
    for number in range(num):
        results: dict[str, Result] = {
            tag: Result(METRICS[tag], stats)
            for tag, by_window in table.items()
            if (stats := by_window[number]) is not None
        }
        gap = gap_stats[number]
        if gap is not None:
            results[icl.tag] = Result(icl, gap)
        for tag, values in sums.items():
            stats = scalar_stats(float(values[number]))
            if stats is not None:
                results[tag] = Result(METRICS[tag], stats)
        begin, end = float(windows.edges[number]), float(windows.edges[number + 1])
        if timeline is not None:
            results |= _weighted(timeline.window(begin, end))
        out.append(
            Slice(
                index=number,
                begin_ns=begin,
                end_ns=end,
                is_complete=not (windows.clipped and number == num - 1),
                ended=int(ok[number]),
                sent=int(sent[number]),
                failed=int(failed[number]),
                cancelled=int(cancelled[number]),
                tokens=None if tokens is None else float(tokens[number]),
                metrics=results,
                started={tag: s for tag in _STARTED_TAGS if (s := started[tag][number]) is not None},
                tiers=scored[number] if scored else (),
                wanted_share=wanted_share,
            )
        )
    return tuple(out)


def _request_sums(context: MetricContext, ended_in: Places, seconds: Floats) -> dict[str, Floats]:
    """Tag → (num,) counts and sums over the requests that ended in each window; a rate where the tag is one."""
    num = len(seconds)
    ok, failed, cancelled = (_count(mask, ended_in, num) for mask in (context.ok, context.failed, context.cancelled))
    return {
        "request_count": ok,
        "request_throughput": ok / seconds,
        "completed_request_count": ok + failed,
        "request_error_rate": _share(100 * failed, ok + failed),
        "error_request_count": np.where(failed > 0, failed, np.nan),
        "cancelled_request_count": np.where(cancelled > 0, cancelled, np.nan),
        "context_overflow_count": _count(context.error_kind == ErrorKind.CONTEXT_OVERFLOW, ended_in, num),
        "benchmark_duration": seconds,
    }


def _mismatch_sums(context: MetricContext, ended_in: Places, num: int) -> dict[str, Floats]:
    failed = _count(context.failed, ended_in, num)
    sums = {"total_error_isl": np.where(failed > 0, _add_up(context.value("error_isl"), ended_in, num), np.nan)}
    for tag, mask in (
        ("osl_mismatch_count", osl_mismatch(context)),
        ("usage_discrepancy_count", usage_discrepant(context)),
    ):
        if mask is not None:
            sums[tag] = _count(mask, ended_in, num)
    return sums


def _usage_sums(context: MetricContext, ended_in: Places, num: int) -> dict[str, Floats]:
    sums: dict[str, Floats] = {}
    for tag in (m.tag for m in METRICS.values() if m.slices == "sum"):
        each = context.value(tag.removeprefix("total_"))
        if not np.isnan(each).all():
            sums[tag] = _add_up(each, ended_in, num)
    return sums


def _good_sums(scored: Sequence[tuple[TierResult, ...]], attempted: Floats, seconds: Floats) -> dict[str, Floats]:
    """By the first tier; empty without objectives."""
    if not scored:
        return {}
    good = np.array([tiers[0].good for tiers in scored], dtype=np.float64)
    return {
        "good_request_count": good,
        "goodput": good / seconds,
        "good_request_fraction": _share(good, attempted),
    }


def _tokens(context: MetricContext, scan: WindowScan, ended_in: Places) -> Floats | None:
    """(num,) output tokens that arrived in each window, those of replies without chunk stamps at their end; None: not counted."""
    osl = context.value("output_sequence_length")
    if np.isnan(osl).all():
        return None
    whole = np.where(context.num_content_chunks > 0, np.nan, osl)
    return np.asarray(scan.tokens + _add_up(whole, ended_in, scan.windows.num))


def _token_sums(context: MetricContext, tokens: Floats | None, ended_in: Places, windows: Windows) -> dict[str, Floats]:
    num, nothing = windows.num, np.full(windows.num, np.nan)
    seconds: Floats = np.diff(windows.edges).astype(np.float64) / 1e9
    isl = context.value("input_sequence_length")
    prompts = nothing
    if not np.isnan(isl).all():
        # Prompt tokens count when the first token arrived.
        prompts = _add_up(
            isl, _place(np.where(np.isnan(context.first_content), context.finish, context.first_content), windows), num
        )
    visible = nothing if tokens is None else _add_up(context.value("output_token_count"), ended_in, num)
    output = nothing if tokens is None else tokens
    return {
        "total_osl": output,
        "output_token_throughput": output / seconds,
        "total_output_tokens": visible,
        "total_isl": prompts,
        "input_token_throughput": prompts / seconds,
    }


def _share(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))


def _by_window(
    metric: Metric, values: Floats, where: Places, num: int, percentiles: Sequence[float]
) -> list[Stats | None]:
    use = (where >= 0) & ~np.isnan(values)
    parts = _grouped(where[use], values[use], num)
    return [request_stats(metric, part, percentiles) if len(part) else None for part in parts]


def _request_tables(
    context: MetricContext, where: Places, num: int, percentiles: Sequence[float]
) -> dict[str, list[Stats | None]]:
    tables: dict[str, list[Stats | None]] = {}
    for tag, metric in METRICS.items():
        if metric.slices != "ended" or (metric.needs_streaming and not context.options.streaming):
            continue
        values = context.value(tag)
        if not np.isnan(values).all():
            tables[tag] = _by_window(metric, values, where, num, percentiles)
    return tables


def _weighted(timeline: Timeline) -> dict[str, Result]:
    out: dict[str, Result] = {}
    widths = timeline.widths
    for tag, metric in METRICS.items():
        if metric.slices == "time":
            values = shown(metric, np.asarray(metric.compute(timeline), dtype=np.float64))
            stats = weighted_stats(values, widths, equal=timeline.is_cells)
            if stats is not None:
                out[tag] = Result(metric, stats)
    return out


def _score(
    context: MetricContext, tiers: Sequence[Tier], where: Places, ok: Floats, attempted: Floats, seconds: Floats
) -> list[tuple[TierResult, ...]]:
    """Per window, every tier's result for the requests that ended in it."""
    num = len(seconds)
    rows: list[list[TierResult]] = [[] for _ in range(num)]
    for tier in tiers:
        passes = [meets(context, slo) & context.ok for slo in tier.slos]
        good_rows = context.ok.copy()
        for one in passes:
            good_rows &= one
        good = _count(good_rows, where, num)
        passed = [_count(p, where, num) for p in passes]
        for number in range(num):
            successful, num_attempted, num_good = int(ok[number]), int(attempted[number]), int(good[number])
            slos = tuple(
                SloResult(
                    slo.tag,
                    slo.threshold / METRICS[slo.tag].unit.divisor,
                    int(p[number]),
                    int(p[number]) / successful if successful else None,
                )
                for slo, p in zip(tier.slos, passed, strict=True)
            )
            missed = [s for s in slos if s.passed < successful]
            rows[number].append(
                TierResult(
                    name=tier.name,
                    slos=slos,
                    good=num_good,
                    successful=successful,
                    attempted=num_attempted,
                    share_of_successful=num_good / successful if successful else None,
                    fraction=num_good / num_attempted if num_attempted else None,
                    goodput=num_good / float(seconds[number]),
                    worst=min(missed, key=lambda s: s.passed).tag if missed else None,
                )
            )
    return [tuple(row) for row in rows] if tiers else []

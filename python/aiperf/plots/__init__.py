"""Charts: one file each, `charts/<name>.py`, with `draw(runs: Sequence[PlotRun]) -> Spec | None`; it never opens files.

A `Spec` is a Vega-Lite object with tokens for what depends on where it is shown: `"$blue"` (a colour of the theme), `"$w2"` (the
width of one of two plots side by side), see `plots.spec`. `aiperf.plots.render` replaces them and makes PNG, SVG and HTML.
None: these runs have nothing to draw (no streaming, one run where two are needed). At most `MAX_MARKS` marks: what is more is
binned or sampled beforehand, and the subtitle says so.

A `PlotRun` is a view of a run for drawing: metric values per request, and one pass over the chunks that all charts share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from aiperf.background import beside
from aiperf.metrics import METRICS, Bools, Floats, Ints
from aiperf.metrics.blocks import blocks
from aiperf.metrics.chunks import ChunkScan, GapPool, LagPool, RowChunks, scan
from aiperf.metrics.compute import open_context, rows_of, shown
from aiperf.metrics.context import MetricContext, MetricOptions
from aiperf.metrics.goodput import Tier, good_mask
from aiperf.metrics.stats import highest, in_order, lowest
from aiperf.metrics.summary import Summary, phase_mask
from aiperf.number_text import significant
from aiperf.plots.chunk_scan import ChunkSample, GapHeat, TokenCurve
from aiperf.records import Columns
from aiperf.records.cache import Keeper, kept
from aiperf.reports import ReportedRun

__all__ = ["CHART_ORDER", "MAX_MARKS", "PlotRun", "Spec", "by_load", "draw_all", "rows_of_rank"]

Spec = dict[str, object]
MAX_MARKS: Final = 5_000

CHART_ORDER: Final = (
    "pareto",
    "latency_by_load",
    "sweep_multiples",
    "latency_percentiles",
    "latency_ecdf",
    "latency_over_time",
    "time_slices",
    "throughput_over_time",
    "where_time_went",
    "server_load",
    "server_cache",
    "gpu",
    "request_timeline",
    "chunk_heatmap",
    "ttft_by_isl",
    "ttft_by_load",
    "agent_lanes",
    "hit_rate_by_turn",
    "ttft_by_uncached",
)
"""Order on pages; charts not named here (third parties') come last, by name."""

_TARGET_WINDOWS: Final = 100
_PER_WINDOW: Final = 25
_SAMPLE: Final = 1_000
_WORST: Final = 100
_WORST_TAGS: Final = ("request_latency", "time_to_first_token", "inter_token_latency")


@dataclass(frozen=True, kw_only=True)
class PlotRun:
    """A view of a run, and its place among others. `source`: the run. `label`: as the legend shows it.

    `load`: where the run stands on the axis `load_name` of a sweep (concurrency, requests/s); None if it has no place there. `means`: the
    metrics over `repeats` runs, of which `source` is the first, in place of its own. `intervals`: (tag, statistic) → 95 % interval in the
    shown unit, over the repeats, else within the run.
    """

    source: ReportedRun
    label: str
    load: float | None = None
    load_name: str = "Concurrency"
    num_gpus: int = 1
    means: Summary | None = None
    intervals: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    repeats: int = 1

    @cached_property
    def columns(self) -> Columns:
        """The rows of the profiling phases; none: only `summary` is known."""
        columns = self.source.columns
        return rows_of(columns, phase_mask(columns, self.source.options.phases, "profiling"))

    @property
    def summary(self) -> Summary:
        return self.means or self.source.summary()

    @property
    def options(self) -> MetricOptions:
        return self.source.options.metrics

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """--goodput."""
        return self.source.options.tiers

    @property
    def num_rows(self) -> int:
        return self.columns.num_rows

    @property
    def place(self) -> str:
        """Where the run stands, in words: `concurrency 64`; its label if it has no place."""
        return (
            self.label
            if self.load is None
            else f"{self.load_name.partition(' (')[0].lower()} {significant(self.load, 6)}"
        )

    @property
    def keeper(self) -> Keeper:
        return self.context.keeper

    @cached_property
    def context(self) -> MetricContext:
        return open_context(self.columns, self.options)

    def values(self, tag: str) -> Floats:
        """(rows,) a request metric in its shown unit, NaN where absent. The metrics that rest on chunks are not among these."""
        found = METRICS.get(tag)
        if found is None or not self.num_rows:
            return np.full(self.num_rows, np.nan)
        return shown(found, self.context.value(tag))

    def has_curve(self, tag: str) -> bool:
        """Whether a metric has two values or more."""
        return int(np.count_nonzero(np.isfinite(self.values(tag)))) > 1

    def ordered(self, tag: str) -> Floats:
        """(values,) a metric's values in its shown unit, ascending."""
        values = self.values(tag)
        kept = values[np.isfinite(values)]
        kept.sort()
        return kept

    def stat(self, tag: str, name: str = "avg") -> float | None:
        return self.summary.stat(tag, name)

    # Time ------------------------------------------------------------------------------------------------------------
    @property
    def ends(self) -> Floats:
        """(rows,) ns; when each request was over, NaN if it never was."""
        return self.context.finish

    @cached_property
    def span(self) -> tuple[float, float] | None:
        """(first start, last end) in ns of run time; None if nothing was sent."""
        every = np.ones(self.num_rows, dtype=bool)
        begin, end = lowest(self.context.start, every), highest(self.ends, every)
        return (begin, end) if end > begin else None

    def seconds(self, times: Floats | Ints) -> Floats:
        """Run times in ns → seconds since the first start."""
        begin = self.span[0] if self.span is not None else 0.0
        return np.asarray((times - begin) / 1e9, dtype=np.float64)

    @cached_property
    def edges(self) -> Floats:
        """(n + 1,) ns; windows of the charts over time: the slices if there are many, else at most some hundred of a round
        width, with 25 requests each on average: fewer make no percentile.
        """
        if self.span is None:
            return np.zeros(1)
        begin, end = self.span
        slices = self.summary.slices
        if _TARGET_WINDOWS // 3 <= len(slices) <= 4 * _TARGET_WINDOWS:
            return np.array([s.begin_ns for s in slices] + [slices[-1].end_ns])
        target = min(max(self.num_rows / _PER_WINDOW, 4), _TARGET_WINDOWS)
        width = round_width((end - begin) / 1e9 / target) * 1e9
        edges = begin + width * np.arange(int(np.ceil((end - begin) / width)) + 1)
        edges[-1] = end
        # A last window much shorter than the others gives wild rates: it joins the one before.
        if len(edges) > 2 and edges[-1] - edges[-2] < width / 2:
            edges = np.concatenate((edges[:-2], edges[-1:]))
        return np.asarray(edges, dtype=np.float64)

    def window_of(self, times: Floats) -> NDArray[np.int16]:
        """(rows,) window of each time, −1 outside and where NaN."""
        num = len(self.edges) - 1
        placed = np.empty(len(times), dtype=np.int16)
        for rows in blocks(len(times)):
            at = times[rows]
            place = np.searchsorted(self.edges, at, side="right") - 1
            place = np.where(at == self.edges[-1], num - 1, place)
            placed[rows] = np.where(np.isnan(at) | (place < 0) | (place >= num), -1, place)
        return placed

    def total_in_windows(self, times: Floats, mask: Bools, amounts: Floats | None = None) -> Floats:
        """(windows,) sum of the amounts (None: one each) of the rows of the mask at their times."""
        where, sums = self.window_of(times), np.zeros(len(self.edges) - 1)
        for rows in blocks(len(times)):
            at = where[rows]
            use = mask[rows] & (at >= 0)
            np.add.at(sums, at[use], 1.0 if amounts is None else amounts[rows][use])
        return sums

    @kept
    def load_at_start(self) -> Floats:
        """(rows,) requests in flight when each one started, itself included."""
        starts, ends, at = in_order(self.context.start), in_order(self.ends), self.context.start
        in_flight = np.empty(self.num_rows)
        for rows in blocks(self.num_rows):
            now = at[rows]
            in_flight[rows] = np.searchsorted(starts, now, side="right") - np.searchsorted(ends, now, side="right")
        in_flight[np.isnan(at)] = np.nan
        return in_flight

    def mean_in_flight(self) -> Floats:
        """(windows,) time average of the requests between start and end."""
        start, end = self.context.start, self.ends
        known = ~(np.isnan(start) | np.isnan(end))
        area = _time_since(start[known], self.edges) - _time_since(end[known], self.edges)
        return np.asarray(np.diff(area) / np.diff(self.edges))

    @cached_property
    def good(self) -> Bools | None:
        """(rows,) requests that meet every SLO of the first tier; None without SLOs."""
        if not self.tiers:
            return None
        self.chunks  # noqa: B018 - an SLO may rest on them
        return good_mask(self.context, self.tiers[0].slos)

    # Rows and chunks -------------------------------------------------------------------------------------------------
    def sample(self, size: int, mask: Bools | None = None) -> Ints:
        """Row numbers in order: all where `mask` holds, or `size` of them drawn at random (always the same ones)."""
        rows = None if mask is None else np.flatnonzero(mask)
        number = self.num_rows if rows is None else len(rows)
        if number <= size:
            return np.arange(number) if rows is None else rows
        chosen = np.sort(np.random.default_rng(0).choice(number, size, replace=False))
        return chosen if rows is None else rows[chosen]

    @cached_property
    def worst(self) -> Ints:
        """Row numbers in order: the hundred slowest by request latency, by TTFT and by inter-token latency, together."""
        slowest = [rows_of_rank(self.context.value(tag), slice(-_WORST, None)) for tag in _WORST_TAGS]
        return np.unique(np.concatenate(slowest))

    @cached_property
    def shown_rows(self) -> Ints:
        """Rows a page shows one by one: a thousand at random, and the worst."""
        return np.union1d(self.sample(_SAMPLE), self.worst)

    @cached_property
    def chunks(self) -> Chunks:
        """What the charts need of the chunks, from one pass over them."""
        chunks = self._pass()
        if self._has_pass:
            # Metrics that rest on chunks (SLOs may) can be computed from now on.
            self.context.set_chunks(ChunkScan(chunks.rows, GapPool(), LagPool()))
        return chunks

    def begin_pass(self) -> None:
        """Begins the pass over the chunks: what does not rest on them is drawn meanwhile."""
        self._pass  # noqa: B018 - begins with its first use

    @property
    def _has_pass(self) -> bool:
        return self.span is not None and self.context.options.streaming

    @cached_property
    def _pass(self) -> Callable[[], Chunks]:
        """Waits for the end of the pass."""
        context, span = self.context, self.span
        begin, end = span if span is not None else (0.0, 1.0)
        chunks = Chunks(
            GapHeat(begin, end, context.ok),
            TokenCurve(self.edges),
            ChunkSample(self.shown_rows),
            RowChunks(self.num_rows),
        )
        if not self._has_pass:
            return lambda: chunks
        columns, every = self.columns, np.ones(self.num_rows, dtype=bool)
        tokens = context.value("output_sequence_length")
        sinks = (chunks.heat.sink, chunks.tokens.sink, chunks.sample.sink, chunks.rows.sink)

        def scan_all() -> Chunks:
            scan(columns, every, sinks, tokens)
            return chunks

        return beside(scan_all, "aiperf-charts")


@dataclass(frozen=True, slots=True)
class Chunks:
    """Accumulators after the pass; failed requests' chunks are in `sample` and `rows` only."""

    heat: GapHeat
    tokens: TokenCurve
    sample: ChunkSample
    rows: RowChunks


def by_load(runs: Sequence[PlotRun]) -> list[PlotRun]:
    """Those with a place on the load axis, in its order; empty without two places, or where the axes differ."""
    placed = sorted((r for r in runs if r.load is not None), key=lambda r: r.load or 0.0)
    if len({r.load_name for r in placed}) > 1 or len({r.load for r in placed}) < 2:
        return []
    return placed


def rows_of_rank(values: Floats, wanted: slice) -> Ints:
    """Rows of the finite values with these ranks in ascending order, equal values by row; all rows are never put in order."""
    finite = np.isfinite(values)
    ordered = values[finite]
    ranks = range(len(ordered))[wanted]
    if not ranks:
        return np.zeros(0, dtype=np.int64)
    ordered.partition((ranks[0], ranks[-1]))
    low, high = ordered[ranks[0]], ordered[ranks[-1]]
    rows = np.flatnonzero(finite & (values >= low) & (values <= high))
    rows = rows[np.argsort(values[rows], kind="stable")]
    before = int(np.count_nonzero(finite & (values < low)))
    return rows[ranks[0] - before : ranks[-1] - before + 1]


def _time_since(events: Floats, moments: Floats) -> Floats:
    """(moments,) Σ of the time that has passed since each event before the moment, ns."""
    total = np.zeros(len(moments))
    for rows in blocks(len(events)):
        ordered = np.sort(events[rows])
        before = np.searchsorted(ordered, moments)
        # Counted from the block's first event, so that the sums stay small.
        passed = np.concatenate(([0.0], np.cumsum(ordered - ordered[0])))
        total += before * (moments - ordered[0]) - passed[before]
    return total


def round_width(seconds: float) -> float:
    """The next of 1, 2, 5 × 10ⁿ at or above."""
    if seconds <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(seconds))
    for factor in (1, 2, 5, 10):
        if factor * power >= seconds * (1 - 1e-9):
            return float(factor * power)
    return float(10 * power)


def draw_all(runs: Sequence[PlotRun], wanted: Iterable[str] | None = None) -> Mapping[str, Spec]:
    """Specs by chart name, in the order of pages; charts with nothing to draw are left out.

    ConfigError if a name in `wanted` is no chart's.
    """
    from aiperf import registry

    known = registry.names("charts")
    order = [n for n in CHART_ORDER if n in known] + [n for n in known if n not in CHART_ORDER]
    names = order if wanted is None else list(wanted)
    specs: dict[str, Spec] = {}
    for name in names:
        spec = registry.load("charts", name, "draw", _is_chart)(runs)
        if spec is not None:
            specs[registry.normalise(name)] = spec
    return specs


def _is_chart(found: object) -> TypeGuard[Callable[[Sequence[PlotRun]], Spec | None]]:
    return callable(found)

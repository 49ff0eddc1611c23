"""From rows to results: the pass over the chunks, then every metric's statistics, in the units users see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiperf.metrics import Bools, Floats, Metric, load_all
from aiperf.metrics.chunks import ChunkScan, ChunkSink, scan, scan_rows
from aiperf.metrics.context import MetricContext, MetricOptions
from aiperf.metrics.stats import (
    STANDARD_PERCENTILES,
    TAIL_PERCENTILES,
    Stats,
    compute_stats,
    nearest_rank_stats,
    scalar_stats,
    weighted_stats,
)
from aiperf.metrics.timeline import Timeline, build_sweep, flow_for
from aiperf.records import Columns

__all__ = [
    "Result",
    "Results",
    "measure",
    "open_context",
    "request_stats",
    "rows_of",
    "scan_context",
    "shown",
    "wanted_percentiles",
]


@dataclass(frozen=True, slots=True)
class Result:
    """A metric's statistics, in its shown unit."""

    metric: Metric
    stats: Stats

    @property
    def tag(self) -> str:
        return self.metric.tag

    @property
    def unit(self) -> str:
        return self.metric.unit.shown


Results = Mapping[str, Result]


def wanted_percentiles(extra: Sequence[float] = ()) -> tuple[float, ...]:
    """AIPerf's nine, the tail, and those asked for; ascending."""
    return tuple(sorted({*STANDARD_PERCENTILES, *TAIL_PERCENTILES, *extra}))


def rows_of(columns: Columns, mask: Bools) -> Columns:
    """The rows where `mask` is true; the same columns if all are. Columns of the whole are not kept in memory for it."""
    if mask.all():
        return columns
    return replace(columns.select(mask), load=lambda name: columns.load(name)[mask])


def open_context(columns: Columns, options: MetricOptions) -> MetricContext:
    """A context before its chunks were read: what does not rest on them can be computed."""
    load_all()
    return MetricContext(columns, options)


def scan_context(
    context: MetricContext, more: Sequence[ChunkSink] = (), stall_ns: int | None = None
) -> Timeline | None:
    """The pass over the chunks: sets the context's chunk facts, feeds `more`, returns the step functions over the run."""
    flow = flow_for(context, float(np.nansum(context.num_content_chunks)))
    context.set_chunks(_scan(context, (flow.sink, *more), stall_ns))
    return build_sweep(context, flow)


def _scan(context: MetricContext, sinks: Sequence[ChunkSink], stall_ns: int | None) -> ChunkScan | None:
    """None for whole replies: of their chunks only when tokens arrived is of interest."""
    tokens = context.value("output_sequence_length")
    if context.options.streaming:
        return scan_rows(context.columns, context.ok, sinks, stall_ns, tokens)
    scan(context.columns, context.ok, sinks, tokens)
    return None


def shown(metric: Metric, values: Floats) -> Floats:
    """Values in the unit users see."""
    return values if metric.unit.divisor == 1 else values / metric.unit.divisor


def request_stats(metric: Metric, values: Floats, percentiles: Sequence[float]) -> Stats | None:
    """Statistics of a request metric's values (in the base unit), in the shown unit."""
    compute = nearest_rank_stats if "nearest_rank" in metric.flags else compute_stats
    return compute(values, percentiles, metric.unit.divisor)


def _order(metric: Metric) -> tuple[bool, int, str]:
    """The main table's rows first, in its order; then the others by tag."""
    main = metric.table == "main" and metric.order is not None
    return (not main, metric.order or 0 if main else 0, metric.tag)


def measure(
    context: MetricContext,
    timeline: Timeline | None,
    percentiles: Sequence[float] = STANDARD_PERCENTILES,
    *,
    internal: bool = False,
) -> dict[str, Result]:
    """Every metric that exists here, by tag; internal and experimental ones only if asked for."""
    results: dict[str, Result] = {}
    for tag, metric in load_all().items():
        if not internal and not metric.is_exported:
            continue
        if metric.needs_streaming and not context.options.streaming:
            continue
        stats: Stats | None = None
        match metric.kind:
            case "request":
                stats = request_stats(metric, context.value(tag), percentiles)
            case "scalar":
                stats = scalar_stats(float(np.asarray(metric.compute(context))) / metric.unit.divisor)
            case "chunks":
                if context.chunks is not None:
                    stats = context.chunks.gaps.stats(metric.unit.divisor, percentiles)
            case "weighted":
                if timeline is not None:
                    values = np.asarray(metric.compute(timeline), dtype=np.float64)
                    stats = weighted_stats(shown(metric, values), timeline.widths, percentiles, equal=timeline.is_cells)
        if stats is not None:
            results[tag] = Result(metric, stats)
    return dict(sorted(results.items(), key=lambda item: _order(item[1].metric)))

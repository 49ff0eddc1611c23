"""From the records to the summary: one pass over the chunks, then everything that reports say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.metrics import METRICS, Bools
from aiperf.metrics.assertions import check_assertions
from aiperf.metrics.cancellation import find_recovery, summarise_cancellation
from aiperf.metrics.certificate import certify
from aiperf.metrics.compute import Result, Results, measure, open_context, rows_of, scan_context, wanted_percentiles
from aiperf.metrics.confidence import estimate_all
from aiperf.metrics.conservation import EngineFacts, check_conservation
from aiperf.metrics.context import MetricContext
from aiperf.metrics.error_table import group_errors
from aiperf.metrics.goodput import Servers, TierResult, merge_tiers, score_tier, servers_needed
from aiperf.metrics.lifecycle import find_lifecycle
from aiperf.metrics.notices import find_notices
from aiperf.metrics.path import find_path
from aiperf.metrics.server import ServerView
from aiperf.metrics.server_findings import ServerFinding, find_server_findings
from aiperf.metrics.slices import Slice, Windows, WindowScan, build_windows, slice_windows
from aiperf.metrics.stalls import find_stalls
from aiperf.metrics.stats import highest, lowest, scalar_stats
from aiperf.metrics.steady import Steady, find_steady
from aiperf.metrics.summary import Counts, Summary, SummaryOptions, phase_mask
from aiperf.metrics.timeline import Timeline
from aiperf.metrics.trend import build_trend
from aiperf.records import Columns

__all__ = ["summarise"]


def count_rows(context: MetricContext) -> Counts:
    kinds = context.error_kind

    def number(mask: Bools) -> int:
        return int(np.count_nonzero(mask))

    return Counts(
        rows=context.num_rows,
        ok=number(context.ok),
        failed=number(context.failed),
        cancelled=number(context.cancelled),
        deliberate=number(kinds == ErrorKind.CANCELLED),
        grace=number(kinds == ErrorKind.GRACE),
        interrupted=number(kinds == ErrorKind.INTERRUPTED),
    )


def _span(context: MetricContext) -> tuple[int | None, int | None]:
    """Epoch ns of the first start and the last end, None if there is none."""
    every, wall = np.ones(context.num_rows, dtype=bool), context.columns.start_wall_ns
    times = lowest(context.start, every), highest(np.fmax(context.finish, context.column("end")), every)
    begin, end = (None if np.isnan(time) else wall + int(time) for time in times)
    return begin, end


def _steady_scan(context: MetricContext, steady: Steady | None) -> WindowScan | None:
    """One window: the steady part, if it is one and not the whole run."""
    if steady is None or not steady.steady_end_ns > steady.warmup_end_ns:
        return None
    edges = np.array([int(steady.warmup_end_ns), int(steady.steady_end_ns)], dtype=np.int64)
    return WindowScan.over(context, Windows(edges, clipped=False)) if edges[1] > edges[0] else None


def _measure(
    context: MetricContext, options: SummaryOptions, percentiles: tuple[float, ...]
) -> tuple[Steady | None, Timeline | None, Results, tuple[Slice, ...], Slice | None]:
    """The pass over the chunks, and what comes of it: of the whole run, of its slices, of its steady part."""
    steady = find_steady(context)
    slice_scan = slice_windows(context, options.slice_ns) if options.slice_ns else None
    part_scan = _steady_scan(context, steady)
    timeline = scan_context(context, [s.sink for s in (slice_scan, part_scan) if s is not None], options.stall_ns)
    whole = measure(context, timeline, percentiles)
    slices = (
        build_windows(context, timeline, slice_scan, options.tiers, wanted_share=options.target_share)
        if slice_scan is not None
        else ()
    )
    part = build_windows(context, timeline, part_scan, options.tiers, percentiles)[0] if part_scan is not None else None
    return steady, timeline, whole, slices, part


def _score(
    context: MetricContext, options: SummaryOptions, slices: Sequence[Slice], part: Slice | None
) -> tuple[TierResult, ...]:
    """Tiers over the run, over the slices that were not excluded, or over the steady part."""
    if options.exclude_slices and slices:
        kept = [s for s in slices if s.index not in options.exclude_slices]
        seconds = sum(s.seconds for s in kept)
        return (
            tuple(merge_tiers([s.tiers[i] for s in kept], seconds) for i in range(len(options.tiers))) if kept else ()
        )
    if options.steady_state and part is not None:
        return part.tiers
    return tuple(score_tier(context, tier) for tier in options.tiers)


def _with_goodput(results: Results, tier: TierResult) -> dict[str, Result]:
    """The goodput metrics replaced by a tier's: with slices left out they differ from those of the whole run."""
    out = dict(results)
    for tag, value in (
        ("goodput", tier.goodput),
        ("good_request_count", float(tier.good)),
        ("good_request_fraction", tier.fraction),
    ):
        stats = scalar_stats(float("nan") if value is None else value)
        out.pop(tag, None)
        if stats is not None:
            out[tag] = Result(METRICS[tag], stats)
    return out


def _servers(options: SummaryOptions, headline: Results, tiers: Sequence[TierResult]) -> Servers | None:
    """How many servers the target rate takes, by throughput and by the first tier's goodput."""
    if options.target_rate is None:
        return None
    rate = headline.get("request_throughput")
    first = tiers[0] if tiers else None
    return servers_needed(
        options.target_rate,
        rate.stats.avg if rate else None,
        first.goodput if first else None,
        first.fraction if first else None,
        options.target_share,
    )


def summarise(columns: Columns, options: SummaryOptions | None = None) -> Summary:
    """Compute everything from the records; pure, one pass over the chunks of each kind of phase."""
    asked = options or SummaryOptions()
    if asked.tiers and not asked.metrics.slos:
        asked = replace(asked, metrics=replace(asked.metrics, slos=asked.tiers[0].slos))
    percentiles = wanted_percentiles(asked.percentiles)
    mask = phase_mask(columns, asked.phases, "profiling")
    if asked.metrics.agents is not None:
        asked, mask = _without_overflows(columns, asked, mask)
    profiling = rows_of(columns, mask)
    context = open_context(profiling, asked.metrics)
    context.energy = asked.energy
    steady, timeline, whole, slices, part = _measure(context, asked, percentiles)
    tiers = _score(context, asked, slices, part)
    headline: Results = part.metrics if asked.steady_state and part is not None else whole
    excluded = tuple(i for i in asked.exclude_slices if i < len(slices))
    if excluded and tiers:
        headline = _with_goodput(headline, tiers[0])
    everything = (
        None if asked.server is None or context.num_rows == columns.num_rows else open_context(columns, asked.metrics)
    )
    checks = check_conservation(context, timeline, asked.facts or EngineFacts(), asked.server, everything)
    begin_ns, end_ns = _span(context)
    duration = part.seconds if asked.steady_state and part is not None else context.duration_s
    recovery = (
        find_recovery(context, g.name, np.array(g.times_ns), np.array(g.levels), counts_requests=g.counts_requests)
        for g in asked.gauges
    )
    summary = Summary(
        metrics=headline,
        whole=whole,
        warmup=_warmup(columns, asked, percentiles),
        counts=count_rows(context),
        errors=group_errors(profiling, context.failed),
        cancellations=group_errors(profiling, context.cancelled),
        count_source=context.count_source,
        begin_ns=begin_ns,
        end_ns=end_ns,
        origin_ns=columns.start_wall_ns,
        duration_s=None if np.isnan(duration) else duration,
        tiers=tiers,
        servers=_servers(asked, headline, tiers),
        slices=slices,
        slice_s=None if asked.slice_ns is None else asked.slice_ns / 1e9,
        excluded=excluded,
        trend=build_trend(slices, excluded),
        steady=steady,
        steady_part=part,
        steady_is_headline=asked.steady_state and part is not None,
        stalls=find_stalls(context, asked.stall_ns),
        cancellation=summarise_cancellation(context, tuple(v for v in recovery if v is not None), asked=asked.cancels),
        intervals=estimate_all(context) if asked.confidence else (),
        certificate=None if asked.facts is None else certify(context, asked.facts, checks),
        checks=checks,
        path=find_path(context),
        server=asked.view,
        server_findings=_server_findings(context, asked, whole),
        stall_ns=asked.stall_ns,
        sweep_resolution_ms=0.0 if timeline is None else timeline.resolution_ns / 1e6,
    )
    summary = replace(summary, assertions=check_assertions(summary, asked.conditions))
    return replace(summary, notices=find_notices(summary, asked.metrics))


def _server_findings(context: MetricContext, options: SummaryOptions, whole: Results) -> tuple[ServerFinding, ...]:
    """Of the scrapes and of what the server told of single requests; nothing if it told nothing."""
    view = options.view
    if view is None:
        if not np.isfinite(context.column("server_prefill_ns")).any():
            return ()
        view = ServerView()
    return find_server_findings(view, context, whole, find_lifecycle(context, view, options.stall_ns))


def _without_overflows(columns: Columns, options: SummaryOptions, mask: Bools) -> tuple[SummaryOptions, Bools]:
    """An agentic replay's requests beyond the context limit end their stream: they are counted, and no part of the metrics."""
    overflowed = mask & (columns.scalar("error_kind") == ErrorKind.CONTEXT_OVERFLOW)
    count = int(np.count_nonzero(overflowed))
    if not count:
        return options, mask
    facts = options.facts
    if facts is not None:
        planned = None if facts.planned is None else facts.planned - count
        every = None if facts.all_requests is None else facts.all_requests - count
        facts = replace(
            facts, sent=None if facts.sent is None else facts.sent - count, planned=planned, all_requests=every
        )
    return replace(options, metrics=replace(options.metrics, overflows=count), facts=facts), mask & ~overflowed


def _warmup(columns: Columns, options: SummaryOptions, percentiles: tuple[float, ...]) -> Results:
    """Metrics of the warm-up phases; empty if there was none."""
    mask = phase_mask(columns, options.phases, "warmup")
    if not mask.any():
        return {}
    r = open_context(rows_of(columns, mask), options.metrics)
    return measure(r, scan_context(r), percentiles)

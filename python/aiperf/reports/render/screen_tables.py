"""Tables of the screen besides the metrics: goodput, slices, trend, cold against warm, gaps, assertions, intervals, cancellation."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from aiperf.metrics import METRICS
from aiperf.metrics.cancellation import Cancellation
from aiperf.metrics.goodput import Servers, TierResult
from aiperf.metrics.slices import Slice
from aiperf.metrics.stalls import Stalls
from aiperf.metrics.stats import TAIL_PERCENTILES, needed_count, percentile_name
from aiperf.metrics.summary import Summary
from aiperf.metrics.trend import TrendLine
from aiperf.reports.cells import number, percent, short

__all__ = [
    "cancellation_lines",
    "cold_warm_table",
    "gate_lines",
    "goodput_lines",
    "interval_table",
    "slice_table",
    "stall_lines",
    "steady_line",
    "trend_lines",
]

_BAR = 30
_TAIL_TAGS = ("time_to_first_token", "inter_token_latency", "inter_chunk_latency", "request_latency")


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_style="bold",
        header_style="bold",
        title_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    return table


def goodput_lines(summary: Summary) -> list[RenderableType]:
    """The demo's block for each tier: throughput, goodput and its share; then how many servers."""
    throughput = summary.stat("request_throughput")
    out: list[RenderableType] = [Text(_tier_text(tier, throughput)) for tier in summary.tiers]
    if summary.excluded and summary.tiers:
        out.append(Text(f"Assertions without slices {', '.join(map(str, summary.excluded))}"))
    if summary.servers is not None:
        out.append(Text(_servers_text(summary.servers, summary.tiers[:1])))
    return out


def _tier_text(tier: TierResult, throughput: float | None) -> str:
    name = "" if tier.name == "slo" else f" ({tier.name})"
    lines = [
        f"Goodput vs. Throughput{name}:",
        f"  Total Throughput: {number(throughput)} requests/sec (100%)",
        f"  Goodput:          {number(tier.goodput)} requests/sec ({percent(tier.share_of_successful, 0)})",
    ]
    shares = percent(tier.share_of_successful), percent(tier.fraction)
    lines.append(
        f"  {tier.good:,} good of {tier.successful:,} successful ({shares[0]}), of {tier.attempted:,} attempted ({shares[1]})"
    )
    for slo in tier.slos:
        metric = METRICS[slo.tag]
        sign = "≥" if metric.larger_is_better else "≤"
        worst = "  ← most often missed" if slo.tag == tier.worst and len(tier.slos) > 1 else ""
        lines.append(
            f"  {metric.header} {sign} {slo.threshold:g} {metric.unit.shown}: {percent(slo.share)} pass{worst}"
        )
    return "\n".join(lines)


def _servers_text(servers: Servers, tiers: tuple[TierResult, ...]) -> str:
    def count(n: int | None) -> str:
        return "–" if n is None else f"{n:,}"

    lines = [f"Servers for {servers.target_rate:,g} requests/sec, each as fast as this one:"]
    lines.append(f"  by throughput: {count(servers.by_throughput)}")
    if tiers:
        ratio = f" ({servers.ratio:.1f}× as many)" if servers.ratio is not None else ""
        lines.append(f"  by goodput:    {count(servers.by_goodput)}{ratio}")
    if servers.meets_share is not None and tiers:
        words = "meets" if servers.meets_share else "misses"
        more = "" if servers.meets_share else "; at this load on each server no number of servers reaches it"
        lines.append(f"  {percent(tiers[0].fraction)} good {words} the wanted {percent(servers.wanted_share, 0)}{more}")
    return "\n".join(lines)


def slice_table(summary: Summary) -> Table:
    """The demo's table: number, window, requests, TTFT and latency avg (p90), tokens/s, and goodput with goals."""
    columns = ["Slice", "Window", "Requests", "TTFT (ms)\navg (p90)", "Latency (ms)\navg (p90)", "Tokens/s"]
    if summary.tiers:
        columns += ["Goodput", "Good", "Success"]
    seconds = summary.slice_s or 0.0
    table = _table(f"Time-sliced performance ({seconds:g}-second slices; requests that ended in the slice)", *columns)
    origin = summary.slices[0].begin_ns if summary.slices else 0.0
    for s in summary.slices:
        left = "*" if not s.is_complete else ""
        window = f"{(s.begin_ns - origin) / 1e9:g}–{(s.end_ns - origin) / 1e9:.4g} s{left}"
        cells = [
            f"{s.index}{' –' if s.index in summary.excluded else ''}",
            window,
            f"{s.ended:,}",
            _pair(s, "time_to_first_token"),
            _pair(s, "request_latency"),
            number(s.stat("output_token_throughput"), 0),
        ]
        if summary.tiers:
            tier = s.tiers[0]
            done = s.ended + s.failed
            cells += [number(tier.goodput), percent(tier.fraction), percent(s.ended / done if done else None)]
        table.add_row(*cells, style="yellow" if s.misses and s.index not in summary.excluded else None)
    notes = ["* cut at the end of the run"] if summary.slices and not summary.slices[-1].is_complete else []
    notes += ["– excluded from the assertions"] if summary.excluded else []
    table.caption, table.caption_justify = "; ".join(notes) or None, "left"
    return table


def _pair(s: Slice, tag: str) -> str:
    average = s.stat(tag)
    return "–" if average is None else f"{average:,.0f} ({number(s.stat(tag, 'p90'), 0)})"


def _trend_text(line: TrendLine) -> str:
    metric = METRICS[line.tag]
    unit = metric.unit.shown
    variation = "" if line.variation is None else f" (variation: {percent(line.variation)})"
    text = f"  {metric.header}: {short(line.lowest)} – {short(line.highest)} {unit}{variation}"
    text += f"; first {short(line.first)}, last {short(line.last)}"
    if line.slope_per_min is not None and line.slope_low is not None and line.slope_high is not None:
        text += f"; drift {line.slope_per_min:+.3g} {unit}/min [{line.slope_low:+.3g}, {line.slope_high:+.3g}]"
        text += " ← drifts" if line.drifts else ""
    if line.load_correlation is not None:
        text += f"; correlation with load {line.load_correlation:+.2f}"
    return text


def trend_lines(summary: Summary) -> list[RenderableType]:
    """Range, first against last, drift with its 95 % interval, correlation with load; and what they say."""
    trend = summary.trend
    if trend is None or not trend.lines:
        return []
    lines = ["Trend:", *map(_trend_text, trend.lines)]
    if trend.warmed_up:
        lines.append("  Warm-up: time to first token is at least 10% higher in the first slice than in any other")
    missing = [s.index for s in summary.slices if s.misses and s.index not in summary.excluded]
    if summary.tiers:
        words = f"slices {', '.join(map(str, missing))}" if missing else "no slice"
        wanted = percent(summary.slices[0].wanted_share, 0)
        lines.append(f"  Fewer than {wanted} of the requests met the goals in {words}")
    if trend.too_few:
        lines.append("  Too few complete slices for a slope")
    return [Text("\n".join(lines))]


def cold_warm_table(summary: Summary) -> list[RenderableType]:
    """Overall, cold and warm averages; the penalty of a cold start against the overall average and against warm."""
    trend = summary.trend
    if trend is None or not trend.cold_warm:
        return []
    numbers = ", ".join(map(str, trend.cold_slices))
    table = _table(f"Cold vs. warm (cold: slice {numbers})", "Metric", "Overall", "Cold", "Warm", "Penalty")
    for row in trend.cold_warm:
        metric = METRICS[row.tag]
        against = "" if row.cold_over_overall is None else f" ({row.cold_over_overall:+.0%})"
        penalty = "–" if row.penalty is None else f"{row.penalty:+.0%}"
        label = f"{metric.header} ({metric.unit.shown})"
        table.add_row(label, short(row.overall), short(row.cold) + against, short(row.warm), penalty)
    return [table]


def steady_line(summary: Summary) -> list[RenderableType]:
    """Where the run was steady, in one line; nothing if there is nothing to tell."""
    s = summary.steady
    if s is None or (not s.changes and not summary.steady_is_headline):
        return []
    begin, end = (s.warmup_end_ns - s.begin_ns) / 1e9, (s.steady_end_ns - s.begin_ns) / 1e9
    parts = [f"Steady state: {begin:.1f} s to {end:.1f} s"]
    if s.has_warmup:
        parts.append(f"warm-up until {begin:.1f} s")
    if s.drift_start_ns is not None:
        parts.append(f"drift from {(s.drift_start_ns - s.begin_ns) / 1e9:.1f} s")
    parts.append(f"drain from {(s.drain_start_ns - s.begin_ns) / 1e9:.1f} s")
    parts.append("shown above" if summary.steady_is_headline else "the table above covers the whole run")
    return [Text("; ".join(parts))]


def stall_lines(stalls: Stalls) -> list[RenderableType]:
    """The distribution of gaps between chunks, and who stalled."""
    most = max(b.count for b in stalls.bins)
    total = sum(b.count for b in stalls.bins)
    lines = ["Inter-chunk latency (ms):"]
    for b in stalls.bins:
        bar = "█" * max(round(_BAR * b.count / most), 1 if b.count else 0)
        high = "∞" if b.high_ms == float("inf") else f"{b.high_ms:g}"
        lines.append(f"  {f'{b.low_ms:g}–{high}':>12}  {bar:<{_BAR}} {b.count:>12,} {percent(b.count / total):>6}")
    lines.append(
        f"  Stalls over {stalls.threshold_ms:g} ms: {stalls.gaps:,} in {stalls.requests:,} of {stalls.streams:,} requests "
        f"({percent(stalls.share)}); longest {number(stalls.longest_ms)} ms at {stalls.longest_at_s:.2f} s"
    )
    return [Text("\n".join(lines))]


def cancellation_lines(c: Cancellation) -> list[RenderableType]:
    """What cancelling did to the others."""
    if not c.count:
        return ["Cancelled on purpose: 0; no request was due to be cancelled while it was still in flight"]
    delay = "–" if c.delay_ms is None else f"{number(c.delay_ms.avg)} ms (max {number(c.delay_ms.max)})"
    lines = [
        f"Cancelled on purpose: {c.count:,}, after {delay} after the request body was sent, {c.before_first_token:,} before any token",
        f"  New connections afterwards: {c.reconnects:,}; errors among neighbours: {c.errors_during:,}, elsewhere: {c.errors_apart:,}",
    ]
    for n in c.neighbours:
        ratio = "–" if n.ratio is None else f"×{n.ratio:.2f}"
        lines.append(
            f"  {METRICS[n.tag].header}: neighbours {number(n.during)} ms ({n.num_during:,}), "
            f"others {number(n.apart)} ms ({n.num_apart:,}), {ratio}"
        )
    for r in c.recovery:
        back = (
            "never returned to baseline" if r.seconds is None else f"back at baseline {r.seconds:.1f} s after the last"
        )
        often = f"; above it in {100 * r.above:.0f}% of {r.samples:,} readings" if r.lingers else ""
        lines.append(f"  {r.name}: {back}{often}")
    return [Text("\n".join(lines))]


def gate_lines(summary: Summary) -> list[RenderableType]:
    """Assertions: ✓ or ✗, the condition, the actual value."""
    out: list[RenderableType] = []
    for g in summary.gates:
        why = f" ({g.reason})" if g.reason and not g.passed else ""
        near = ", within the 95% interval" if g.sure is False else ""
        mark, style = ("✓", "green") if g.passed else ("✗", "red")
        out.append(Text(f"{mark} {g.text}: {g.actual}{near}{why}", style=style))
    return out


def tail_table(summary: Summary) -> Table:
    """p99.9 and p99.99 where the count supports them, else how many values it takes."""
    table = _table("Tail", "Metric", *(percentile_name(p) for p in TAIL_PERCENTILES), "max", "values")
    for tag in _TAIL_TAGS:
        result = summary.metrics.get(tag)
        if result is None or result.stats.count is None:
            continue
        cells = [
            number(v) if (v := result.stats.percentiles.get(p)) is not None else f"– (needs {needed_count(p):,})"
            for p in TAIL_PERCENTILES
        ]
        label = f"{result.metric.header} ({result.unit})"
        table.add_row(label, *cells, number(result.stats.max), f"{result.stats.count:,}")
    return table


def interval_table(summary: Summary) -> Table:
    """95 % intervals of the headline figures and the effective number of values."""
    table = _table("Precision (95% confidence intervals)", "Metric", "stat", "value", "low", "high", "±", "effective n")
    for i in summary.intervals:
        metric = METRICS[i.tag]
        half = i.relative_half_width
        table.add_row(
            f"{metric.header} ({metric.unit.shown})",
            i.stat,
            number(i.value),
            number(i.low),
            number(i.high),
            "–" if half is None else percent(half),
            f"{i.effective:,.0f} of {i.count:,}",
        )
    return table

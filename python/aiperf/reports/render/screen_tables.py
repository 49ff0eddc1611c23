"""What the screen says in lines, not in tables: goodput, trend, steady state, gaps, assertions, cancellation."""

from __future__ import annotations

from aiperf.metrics import METRICS
from aiperf.metrics.cancellation import Cancellation
from aiperf.metrics.goodput import Servers, TierResult
from aiperf.metrics.stalls import Stalls
from aiperf.metrics.summary import Summary
from aiperf.metrics.trend import TrendLine
from aiperf.number_text import exact, signed, significant
from aiperf.reports.cells import number, percent, short
from aiperf.terminal import Part, Text

__all__ = [
    "assertion_lines",
    "cancellation_lines",
    "goodput_lines",
    "stall_lines",
    "steady_line",
    "trend_lines",
]

_BAR = 30


def goodput_lines(summary: Summary) -> list[Part]:
    """The demo's block for each tier: throughput, goodput and its share; then how many servers."""
    throughput = summary.stat("request_throughput")
    out: list[Part] = [Text(_tier_text(tier, throughput)) for tier in summary.tiers]
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
            f"  {metric.header} {sign} {exact(slo.threshold)} {metric.unit.shown}: {percent(slo.share)} pass{worst}"
        )
    return "\n".join(lines)


def _servers_text(servers: Servers, tiers: tuple[TierResult, ...]) -> str:
    def count(n: int | None) -> str:
        return "–" if n is None else f"{n:,}"

    lines = [f"Servers for {significant(servers.target_rate, 6)} requests/sec, each as fast as this one:"]
    lines.append(f"  by throughput: {count(servers.by_throughput)}")
    if tiers:
        ratio = f" ({servers.ratio:.1f}× as many)" if servers.ratio is not None else ""
        lines.append(f"  by goodput:    {count(servers.by_goodput)}{ratio}")
    if servers.meets_share is not None and tiers:
        words = "meets" if servers.meets_share else "misses"
        more = "" if servers.meets_share else "; at this load on each server no number of servers reaches it"
        lines.append(f"  {percent(tiers[0].fraction)} good {words} the wanted {percent(servers.wanted_share, 0)}{more}")
    return "\n".join(lines)


def _trend_text(line: TrendLine) -> str:
    metric = METRICS[line.tag]
    unit = metric.unit.shown
    variation = "" if line.variation is None else f" (variation: {percent(line.variation)})"
    text = f"  {metric.header}: {short(line.lowest)} – {short(line.highest)} {unit}{variation}"
    text += f"; first {short(line.first)}, last {short(line.last)}"
    if line.slope_per_min is not None and line.slope_low is not None and line.slope_high is not None:
        text += f"; drift {signed(line.slope_per_min)} {unit}/min [{signed(line.slope_low)}, {signed(line.slope_high)}]"
        text += " ← drifts" if line.drifts else ""
    if line.load_correlation is not None:
        text += f"; correlation with load {line.load_correlation:+.2f}"
    return text


def trend_lines(summary: Summary) -> list[Part]:
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
        lines.append(f"  Fewer than {wanted} of the requests met the SLOs in {words}")
    if trend.too_few:
        lines.append("  Too few complete slices for a slope")
    return [Text("\n".join(lines))]


def steady_line(summary: Summary) -> list[Part]:
    """Where the run was steady, in one line; nothing if there is nothing to tell."""
    steady = summary.steady
    if steady is None or (not steady.changes and not summary.steady_is_headline):
        return []
    begin, end = (steady.warmup_end_ns - steady.begin_ns) / 1e9, (steady.steady_end_ns - steady.begin_ns) / 1e9
    parts = [f"Steady state: {begin:.1f} s to {end:.1f} s"]
    if steady.has_warmup:
        parts.append(f"warm-up until {begin:.1f} s")
    if steady.drift_start_ns is not None:
        parts.append(f"drift from {(steady.drift_start_ns - steady.begin_ns) / 1e9:.1f} s")
    parts.append(f"drain from {(steady.drain_start_ns - steady.begin_ns) / 1e9:.1f} s")
    parts.append("shown above" if summary.steady_is_headline else "the table above covers the whole run")
    return [Text("; ".join(parts))]


def stall_lines(stalls: Stalls) -> list[Part]:
    """The distribution of gaps between chunks, and who stalled."""
    most = max(b.count for b in stalls.bins)
    total = sum(b.count for b in stalls.bins)
    lines = ["Inter-chunk latency (ms):"]
    for b in stalls.bins:
        bar = "█" * max(round(_BAR * b.count / most), 1 if b.count else 0)
        high = "∞" if b.high_ms == float("inf") else exact(b.high_ms)
        lines.append(f"  {f'{exact(b.low_ms)}–{high}':>12}  {bar:<{_BAR}} {b.count:>12,} {percent(b.count / total):>6}")
    lines.append(
        f"  Stalls over {exact(stalls.threshold_ms)} ms: {stalls.gaps:,} in {stalls.requests:,} of {stalls.streams:,} requests "
        f"({percent(stalls.share)}); longest {number(stalls.longest_ms)} ms at {stalls.longest_at_s:.2f} s"
    )
    return [Text("\n".join(lines))]


def cancellation_lines(cancellation: Cancellation) -> list[Part]:
    """What cancelling did to the others."""
    if not cancellation.count:
        return ["Cancelled on purpose: 0; no request was due to be cancelled while it was still in flight"]
    delay = (
        "–"
        if cancellation.delay_ms is None
        else f"{number(cancellation.delay_ms.avg)} ms (max {number(cancellation.delay_ms.max)})"
    )
    lines = [
        f"Cancelled on purpose: {cancellation.count:,}, after {delay} after the request body was sent, {cancellation.before_first_token:,} before any token",
        f"  New connections afterwards: {cancellation.reconnects:,}; errors among neighbours: {cancellation.errors_during:,}, elsewhere: {cancellation.errors_apart:,}",
    ]
    for n in cancellation.neighbours:
        ratio = "–" if n.ratio is None else f"×{n.ratio:.2f}"
        lines.append(
            f"  {METRICS[n.tag].header}: neighbours {number(n.during)} ms ({n.num_during:,}), "
            f"others {number(n.apart)} ms ({n.num_apart:,}), {ratio}"
        )
    for recovery in cancellation.recovery:
        back = (
            "never returned to baseline"
            if recovery.seconds is None
            else f"back at baseline {recovery.seconds:.1f} s after the last"
        )
        often = (
            f"; above it in {100 * recovery.above:.0f}% of {recovery.samples:,} readings" if recovery.lingers else ""
        )
        lines.append(f"  {recovery.name}: {back}{often}")
    return [Text("\n".join(lines))]


def assertion_lines(summary: Summary) -> list[Part]:
    """Assertions: ✓ or ✗, the condition, the actual value."""
    out: list[Part] = []
    for assertion in summary.assertions:
        why = f" ({assertion.reason})" if assertion.reason and not assertion.passed else ""
        words = ", within the bucket" if "(bucket " in assertion.actual else ", within the 95% interval"
        near = words if assertion.sure is False else ""
        mark, style = ("✓", "green") if assertion.passed else ("✗", "red")
        out.append(Text(f"{mark} {assertion.text}: {assertion.actual}{near}{why}", style=style))
    return out

"""Up to five sentences on a trace, each from one figure by a fixed rule.

| rule | said when |
|---|---|
| largest bin | always: the size bin with most requests |
| tail | P99 of the tokens ≥ 4 × their median, or ≤ 1.5 × it (even sizes) |
| burstiness | whole windows: busiest ≥ 1.5 × their mean, or ≤ 1.2 × it (steady) |
| reuse | a trace with hash ids: hit rate ≥ 30 %, 5 % … 30 %, or less |
| fit | a context limit is given and requests exceed it; else input ÷ output tokens ≥ 10 or ≤ 1 |
"""

from __future__ import annotations

from aiperf.traces.tools.stats import Lengths, TraceStats

__all__ = ["findings"]


def findings(stats: TraceStats) -> list[str]:
    return [f for f in (_bin(stats), _tail(stats), _burstiness(stats), _reuse(stats), _fit(stats)) if f]


def _bin(stats: TraceStats) -> str | None:
    if not stats.bins:
        return None
    top = max(stats.bins, key=lambda b: b.count)
    size = f"{top.low:,} – {top.high:,}" if top.high is not None else f"{top.low:,} and more"
    return f"Largest bin: {top.share:.0%} of the requests have {size} tokens"


def _tail(stats: TraceStats) -> str | None:
    lengths = stats.lengths
    if lengths is None or lengths.count < 100:
        return None
    ratio = lengths.p99 / lengths.median
    if ratio >= 4:
        return f"Heavy tail: 1 % of the requests have more than {lengths.p99:,.0f} tokens, {ratio:.1f} × the median{_most(lengths)}"
    if ratio <= 1.5:
        return f"Even sizes: P99 is {ratio:.1f} × the median"
    return None


def _most(lengths: Lengths) -> str:
    return f"; the longest has {lengths.max:,}"


def _burstiness(stats: TraceStats) -> str | None:
    arrivals = stats.arrivals
    if arrivals is None or arrivals.peak_to_mean is None:
        return None
    peak = arrivals.peak_to_mean
    if peak >= 1.5:
        return f"Bursty: the busiest window has {peak:.1f} × the mean of all windows"
    if peak <= 1.2:
        return f"Steady load: the busiest window has {peak:.2f} × the mean of all windows"
    return None


def _reuse(stats: TraceStats) -> str | None:
    reuse = stats.reuse
    if reuse is None:
        return None
    tokens = reuse.blocks_for_90_percent * reuse.block_size
    if reuse.hit_rate >= 0.3:
        return (
            f"Prefix reuse: {reuse.hit_rate:.0%} of the prompt blocks have been sent before; an LRU cache of "
            f"{tokens:,} tokens serves 90 % of them"
        )
    if reuse.hit_rate >= 0.05:
        return f"Some prefix reuse: {reuse.hit_rate:.0%} of the prompt blocks have been sent before"
    return f"Hardly any prefix reuse: {reuse.hit_rate:.1%} of the prompt blocks have been sent before"


def _fit(stats: TraceStats) -> str | None:
    if stats.over_limit:
        share = stats.over_limit / stats.requests
        return f"Context: {stats.over_limit:,} requests ({share:.1%}) do not fit {stats.context_limit:,} tokens"
    if not stats.output_tokens or not stats.input_tokens:
        return None
    ratio = stats.input_tokens / stats.output_tokens
    if ratio >= 10:
        return f"Prefill-heavy: {ratio:.0f} input tokens for each output token"
    if ratio <= 1:
        return f"Decode-heavy: {1 / ratio:.1f} output tokens for each input token"
    return None

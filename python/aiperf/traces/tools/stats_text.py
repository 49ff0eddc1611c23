"""Statistics of a trace as text (the four blocks of AIPerf's Mooncake demo, then reuse, sessions, findings) and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from aiperf.json_text import json_text
from aiperf.number_text import exact
from aiperf.traces.tools.findings import findings
from aiperf.traces.tools.stats import Arrivals, Bin, Lengths, PrefixReuse, Sessions, TraceStats

__all__ = ["format_duration", "render_json", "render_text", "window_label"]

_WIDTH = 78
_BAR = 40
"""Width of the longest bar of the arrivals, characters."""
_MANY_WINDOWS = 200
_TITLES = {
    "mooncake_trace": "MOONCAKE TRACE",
    "bailian_trace": "BAILIAN TRACE",
    "burst_gpt_trace": "BURSTGPT TRACE",
    "azure": "AZURE LLM INFERENCE TRACE",
    "baseten_trace": "BASETEN TRACE",
}


def render_json(stats: TraceStats) -> str:
    """Every figure, with `findings`; shares and rates 0 … 1, times in seconds. Absent figures are null."""
    return json_text({**asdict(stats), "findings": findings(stats)}, indent=2) + "\n"


def render_text(stats: TraceStats) -> str:
    lines = ["=" * _WIDTH, f"{_TITLES.get(stats.format, 'TRACE')} - DATASET CHARACTERISTICS", "=" * _WIDTH, ""]
    lines += _overall(stats)
    lines += _tokens(stats)
    if stats.bins:
        lines += _bins(stats.bins)
    if stats.arrivals is not None:
        lines += _arrivals(stats.arrivals)
    if stats.reuse is not None:
        lines += _reuse(stats.reuse)
    lines += _sessions(stats.sessions)
    if found := findings(stats):
        lines += ["FINDINGS", *(f"* {f}" for f in found), ""]
    if stats.notes:
        lines += ["NOTES", *(f"* {n.text}" for n in stats.notes), ""]
    lines.append("=" * _WIDTH)
    return "\n".join(lines) + "\n"


def format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:,.1f} seconds"
    return f"{seconds / 60:,.1f} minutes ({seconds:,.0f} seconds)"


def _overall(stats: TraceStats) -> list[str]:
    lines = ["OVERALL STATISTICS", f"Total Requests: {stats.requests:,}"]
    if stats.duration_s is not None:
        lines.append(f"Duration: {format_duration(stats.duration_s)}")
        rate = stats.requests_per_minute
        untimed = "" if stats.timed_requests == stats.requests else f" ({stats.timed_requests:,} have a timestamp)"
        lines.append(f"Avg Request Rate: {f'{rate:,.1f} requests/minute' if rate is not None else '–'}{untimed}")
    else:
        lines += ["Duration: – (no timestamps)"]
    lines.append(f"Total Tokens: {stats.input_tokens:,} input, {stats.output_tokens:,} output")
    if stats.context_limit is not None:
        over = stats.over_limit or 0
        lines.append(
            f"Beyond a context of {stats.context_limit:,} tokens: {over:,} requests ({over / stats.requests:.1%})"
        )
    return [*lines, ""]


def _tokens(stats: TraceStats) -> list[str]:
    out: list[str] = []
    groups = (("Input + Output", stats.lengths), ("Input", stats.input_lengths), ("Output", stats.output_lengths))
    for name, lengths in groups:
        out += [f"TOKEN DISTRIBUTION ({name})", *_lengths(lengths), ""]
    return out


def _lengths(lengths: Lengths | None) -> list[str]:
    if lengths is None:
        return ["– (the trace does not say)"]
    return [
        f"Mean: {lengths.mean:,.0f} tokens",
        f"Median: {lengths.median:,.0f} tokens",
        f"P25: {lengths.p25:,.0f} tokens | P75: {lengths.p75:,.0f} tokens",
        f"P90: {lengths.p90:,.0f} tokens | P99: {lengths.p99:,.0f} tokens",
        f"Max: {lengths.max:,} tokens",
    ]


def bin_label(b: Bin) -> str:
    return f"{b.low:,}+" if b.high is None else f"{b.low:,} - {b.high:,}"


def _bins(bins: Sequence[Bin]) -> list[str]:
    labels = [bin_label(b) for b in bins]
    left, middle = max(17, *map(len, labels)), max(7, *(len(f"{b.count:,}") for b in bins))
    lines = [
        "REQUEST SIZE DISTRIBUTION",
        f"{'Token Range':<{left}} | {'Count':>{middle}} | Percentage | Visualization",
        "─" * _WIDTH,
    ]
    for b, label in zip(bins, labels, strict=True):
        lines.append(f"{label:<{left}} | {b.count:>{middle},} | {b.share:>10.1%} | {'█' * int(b.share * 50)}".rstrip())
    return [*lines, ""]


def window_label(start_s: float, end_s: float, window_s: float) -> str:
    """Whole minutes as the demo prints them, both ends included: `0 - 4 min`; else seconds, the end excluded."""
    if window_s % 60 == 0:
        first, last = int(start_s // 60), int((start_s + window_s) // 60) - 1
        return f"{first} - {last} min" if last > first else f"{first} min"
    return f"{exact(start_s)} - {exact(end_s)} s"


def _arrivals(arrivals: Arrivals) -> list[str]:
    windows = arrivals.windows
    size = arrivals.window_s
    name = f"{exact(size / 60)}-minute" if size % 60 == 0 else f"{exact(size)}-second"
    shown = windows[:_MANY_WINDOWS]
    labels = [window_label(w.start_s, w.end_s, size) for w in shown]
    left, most = max(13, *map(len, labels)), max(w.count for w in windows)
    lines = [
        f"REQUEST ARRIVAL PATTERN ({name} windows)",
        f"{'Time Window':<{left}} | Requests | Load Pattern",
        "─" * _WIDTH,
    ]
    for w, label in zip(shown, labels, strict=True):
        lines.append(f"{label:<{left}} | {w.count:>8,} | {'▓' * round(w.count / most * _BAR)}".rstrip())
    if len(windows) > len(shown):
        lines.append(
            f"… {len(windows) - len(shown):,} more windows (all of them with `--json`, or a longer `--window`)"
        )
    return [*lines, ""]


def _reuse(reuse: PrefixReuse) -> list[str]:
    lines = [
        "PREFIX REUSE (theoretical)",
        f"Blocks: {reuse.total_blocks:,} of {reuse.block_size} tokens, {reuse.unique_blocks:,} unique",
        f"First blocks: {reuse.roots:,} different, {reuse.shared_roots:,} of them shared",
        f"{'Cache':<40} | Hit rate | Per request",
        "─" * _WIDTH,
        f"{'infinite':<40} | {reuse.hit_rate:>8.1%} | {reuse.request_hit_rate:>11.1%}",
    ]
    for c in reversed(reuse.bounded):
        name = f"LRU, {c.blocks:,} blocks ({c.tokens:,} tokens)"
        lines.append(f"{name:<40} | {c.hit_rate:>8.1%} | {c.request_hit_rate:>11.1%}")
    lines.append(
        f"Of the input tokens {reuse.token_hit_rate:.1%} are reusable; requests that reuse nothing: {reuse.requests_without_hit:,}"
    )
    if reuse.reused_blocks:
        blocks = reuse.blocks_for_90_percent
        lines.append(
            f"An LRU cache of {blocks:,} blocks ({blocks * reuse.block_size:,} tokens) serves 90 % of the infinite one's hits"
        )
    if reuse.turns:
        told = " (turns inferred from shared prefixes)" if reuse.turns_inferred else ""
        lines += [
            "",
            f"PREFIX REUSE PER TURN{told}",
            "Turn  | Requests | Hit rate | Shared with the first turn",
            "─" * _WIDTH,
        ]
        for t in reuse.turns:
            lines.append(
                f"{f'{t.turn}+' if t.last else t.turn!s:<5} | {t.requests:>8,} | {_percent(t.hit_rate):>8} | "
                f"{_percent(t.first_turn_share):>26}"
            )
    return [*lines, ""]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _sessions(sessions: Sessions) -> list[str]:
    told = " (inferred from shared prefixes: the trace names no sessions)" if sessions.inferred else ""
    lines = [
        f"SESSION STRUCTURE{told}",
        f"Sessions: {sessions.sessions:,}, {sessions.multi_turn:,} of them with several turns",
        f"Turns per session: mean {sessions.mean_turns:.2f}, median {exact(sessions.median_turns)}, max {sessions.max_turns:,}",
    ]
    if sessions.median_gap_s is not None:
        lines.append(f"Time between turns: median {sessions.median_gap_s:,.1f} s")
    return [*lines, ""]

"""Findings: three to five sentences, each from a figure by a rule that `docs/concepts/findings.md` states.

Every rule is a function of the summary and the rows, None where it does not apply. What is out of the ordinary comes first, in
the order of `_NOTABLE`, at most three; then throughput and where the time goes, which every run has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from aiperf.metrics import METRICS
from aiperf.metrics.error_table import merge_similar
from aiperf.metrics.summary import Summary
from aiperf.number_text import exact
from aiperf.plots import PlotRun
from aiperf.plots.spec import SHORT, number

__all__ = ["Finding", "compare_findings", "run_findings"]

Level = Literal["good", "plain", "warn", "bad"]
_MOST_NOTABLE: Final = 3
_FEWEST: Final = 3
_TAIL: Final = 3.0
_STALL_SHARE: Final = 0.005
_EXPLAINED: Final = 0.3
_OMISSION: Final = 1.2
_MISMATCH: Final = 0.05
_QUEUE: Final = 1.5
_GOOD: Final = 0.95
_COLLAPSE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`rule`: its name in docs/concepts/findings.md. `figure`: the number it rests on. `link`: id of the part of the page."""

    rule: str
    figure: str
    text: str
    level: Level = "plain"
    link: str = ""


_Rule = Callable[[Summary, PlotRun], Finding | None]


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}%"


def _failures(summary: Summary, _: PlotRun) -> Finding | None:
    done = summary.counts.ok + summary.counts.failed
    if not summary.counts.failed or not done:
        return None
    worst = max(merge_similar(summary.errors), key=lambda e: e.count, default=None)
    most = (
        ""
        if worst is None
        else f"; most often `{worst.type}`"
        + (f" ({worst.message[:80]})" if worst.message and worst.message != worst.type else "")
    )
    share = summary.counts.failed / done
    text = f"{summary.counts.failed:,} of {done:,} requests failed{most}"
    return Finding(
        rule="failures", figure=_percent(share), text=text, level="bad" if share >= 0.01 else "warn", link="errors"
    )


def _client(s: Summary, _: PlotRun) -> Finding | None:
    certificate = s.certificate
    if certificate is None or certificate.verdict == "trustworthy":
        return None
    reason = certificate.reasons[0] if certificate.reasons else "see the certificate"
    return Finding(
        rule="client",
        figure=certificate.verdict,
        text=f"The client limited or distorted these results: {reason}",
        level="bad" if certificate.verdict == "client-limited" else "warn",
        link="certificate",
    )


def _goals(s: Summary, _: PlotRun) -> Finding | None:
    if not s.tiers or s.tiers[0].fraction is None:
        return None
    tier = s.tiers[0]
    fraction = tier.fraction or 0.0
    missed = f"; {METRICS[tier.worst].header} is missed most often" if tier.worst is not None and fraction < 1 else ""
    text = f"{tier.good:,} of {tier.attempted:,} requests met every objective{missed}"
    return Finding(
        rule="goals", figure=_percent(fraction), text=text, level="good" if fraction >= _GOOD else "warn", link="goals"
    )


def _drift(s: Summary, _: PlotRun) -> Finding | None:
    if s.steady is None or not s.steady.has_drift or s.steady.drift_start_ns is None:
        return None
    worst = max((c for c in s.steady.changes if c.kind == "drift"), key=lambda c: abs(c.ratio - 1))
    at = (s.steady.drift_start_ns - s.steady.begin_ns) / 1e9
    name = SHORT.get(worst.tag, worst.tag)
    return Finding(
        rule="drift",
        figure=f"×{worst.ratio:.2f}",
        text=f"From {at:.0f} s on {name} leaves its steady level",
        level="warn",
        link="latency_over_time",
    )


def _warmup(summary: Summary, _: PlotRun) -> Finding | None:
    if summary.steady is None or not summary.steady.has_warmup:
        return None
    first = max((c for c in summary.steady.changes if c.kind == "warmup"), key=lambda c: abs(c.ratio - 1))
    at = (summary.steady.warmup_end_ns - summary.steady.begin_ns) / 1e9
    part = (
        "left out of the headline"
        if summary.steady_is_headline
        else "part of the headline (`--steady-state` leaves it out)"
    )
    text = f"{SHORT.get(first.tag, first.tag)} starts at {first.ratio:.2f}× its steady-state level: the first {at:.1f} s are a warm-up, {part}"
    return Finding(rule="warmup", figure=f"{at:.1f} s", text=text, level="warn", link="latency_over_time")


def _queueing(_: Summary, run: PlotRun) -> Finding | None:
    load, ttft = run.load_at_start, run.values("time_to_first_token")
    use = np.isfinite(load) & np.isfinite(ttft)
    if use.sum() < 100:
        return None
    load, ttft = load[use], ttft[use]
    low, high = np.percentile(load, (25, 75))
    if high < 1.25 * low:
        return None
    quiet, busy = float(np.median(ttft[load <= low])), float(np.median(ttft[load >= high]))
    if quiet <= 0 or busy / quiet < _QUEUE:
        return None
    text = f"TTFT follows the load: median {number(busy)} ms with {high:,.0f} or more in flight, {number(quiet)} ms with {low:,.0f} or fewer"
    return Finding(rule="queueing", figure=f"×{busy / quiet:.1f}", text=text, level="warn", link="ttft_by_load")


def _tail(s: Summary, _: PlotRun) -> Finding | None:
    tag = "time_to_first_token" if s.stat("time_to_first_token", "p99") is not None else "request_latency"
    middle, p99 = s.stat(tag, "p50"), s.stat(tag, "p99")
    if middle is None or p99 is None or middle <= 0 or p99 / middle < _TAIL:
        return None
    name = "for the first token" if tag == "time_to_first_token" else "for its answer"
    text = f"One request in 100 waits {number(p99)} ms or more {name}; the median is {number(middle)} ms"
    return Finding(rule="tail", figure=f"×{p99 / middle:.1f}", text=text, level="warn", link="latency_percentiles")


def _stalls(summary: Summary, _: PlotRun) -> Finding | None:
    if summary.stalls is None or summary.stalls.share < _STALL_SHARE:
        return None
    text = (
        f"{summary.stalls.requests:,} of {summary.stalls.streams:,} streams paused for more than {exact(summary.stalls.threshold_ms)} ms; "
        f"the longest pause was {number(summary.stalls.longest_ms)} ms"
    )
    return Finding(rule="stalls", figure=_percent(summary.stalls.share), text=text, level="warn", link="chunk_heatmap")


def _omission(s: Summary, _: PlotRun) -> Finding | None:
    due, sent = s.stat("effective_latency", "p99"), s.stat("request_latency", "p99")
    if due is None or sent is None or sent <= 0 or due / sent < _OMISSION:
        return None
    text = f"Measured from the scheduled send time (no coordinated omission), p99 request latency is {number(due)} ms, not {number(sent)} ms: requests waited before they were sent"
    return Finding(rule="omission", figure=f"×{due / sent:.1f}", text=text, level="warn", link="tables")


def _prompt_length(_: Summary, run: PlotRun) -> Finding | None:
    isl, ttft = run.values("input_sequence_length"), run.values("time_to_first_token")
    use = np.isfinite(isl) & np.isfinite(ttft)
    if use.sum() < 50 or np.ptp(isl[use]) == 0 or np.ptp(ttft[use]) == 0:
        return None
    x, y = isl[use], ttft[use]
    r = float(np.corrcoef(x, y)[0, 1])
    slope = r * float(y.std()) / float(x.std())
    if r <= 0 or r * r < _EXPLAINED:
        return None
    text = f"Each further 1,000 input tokens add {number(1000 * slope)} ms to TTFT; prompt length explains {100 * r * r:.0f}% of its variance"
    return Finding(
        rule="prompt_length", figure=f"{number(1000 * slope)} ms", text=text, level="plain", link="ttft_by_isl"
    )


def _output_length(s: Summary, _: PlotRun) -> Finding | None:
    mismatch, done = s.stat("missed_length_count"), s.stat("request_count")
    if not mismatch or not done or mismatch / done < _MISMATCH:
        return None
    text = f"{mismatch:,.0f} of {done:,.0f} responses did not match the requested output length: throughput and latency are those of other lengths"
    return Finding(rule="output_length", figure=_percent(mismatch / done), text=text, level="warn", link="tables")


def _throughput(s: Summary, _: PlotRun) -> Finding | None:
    rate = s.stat("request_throughput")
    if rate is None:
        return None
    tokens, level = s.stat("output_token_throughput"), s.stat("effective_concurrency")
    words = f"{number(rate)} requests/s" + ("" if tokens is None else f" and {number(tokens)} output tokens/s")
    held = "" if level is None else f", with {number(level)} requests in flight on average"
    figure = f"{number(rate)} req/s" if tokens is None else f"{number(tokens)} tok/s"
    return Finding(
        rule="throughput",
        figure=figure,
        text=f"The server delivered {words}{held}",
        level="plain",
        link="throughput_over_time",
    )


def _split(s: Summary, _: PlotRun) -> Finding | None:
    ttft, latency, itl = s.stat("time_to_first_token"), s.stat("request_latency"), s.stat("inter_token_latency")
    if ttft is None or latency is None or latency <= 0:
        return None
    pace = "" if itl is None else f"; then a token every {number(itl)} ms"
    text = f"The first token takes {number(ttft)} ms of the mean {number(latency)} ms per request{pace}"
    return Finding(rule="split", figure=_percent(ttft / latency, 0), text=text, level="plain", link="request_timeline")


def _spread(s: Summary, _: PlotRun) -> Finding | None:
    middle, p99 = s.stat("request_latency", "p50"), s.stat("request_latency", "p99")
    if middle is None or p99 is None:
        return None
    text = f"Half of the requests take at most {number(middle)} ms, 99 in 100 at most {number(p99)} ms"
    return Finding(rule="spread", figure=f"{number(middle)} ms", text=text, level="plain", link="latency_ecdf")


_NOTABLE: Final[tuple[_Rule, ...]] = (
    _failures,
    _client,
    _goals,
    _drift,
    _warmup,
    _queueing,
    _tail,
    _stalls,
    _omission,
    _output_length,
    _prompt_length,
)


_SERVER_LINKS: Final = {
    "kv_full": "server_cache",
    "prefix_cache": "server_cache",
    "gpu_idle": "gpu",
    "imbalance": "server-replicas",
    "refused": "server",
}


def _server_findings(summary: Summary) -> list[Finding]:
    """The server's, by the rules of `aiperf.metrics.server_findings`; at most three."""
    return [
        Finding(
            rule=finding.rule,
            figure=finding.figure,
            text=finding.text,
            level=finding.level,
            link=_SERVER_LINKS.get(finding.rule, "where_time_went"),
        )
        for finding in summary.server_findings[:_MOST_NOTABLE]
    ]


def run_findings(summary: Summary, run: PlotRun) -> tuple[Finding, ...]:
    """At most five of the client's and three of the server's; three unless the run has too little to say (nothing succeeded)."""
    notable = [f for rule in _NOTABLE if (f := rule(summary, run)) is not None][:_MOST_NOTABLE]
    notable += _server_findings(summary)
    usual = [f for rule in (_throughput, _split) if (f := rule(summary, run)) is not None]
    found = [*notable, *usual]
    if len(found) < _FEWEST and (more := _spread(summary, run)) is not None:
        found.append(more)
    return tuple(found)


def compare_findings(runs: Sequence[PlotRun]) -> tuple[Finding, ...]:
    """Of several runs: highest throughput, best experience, collapse; lowest TTFT. Without claims of significance."""
    out: list[Finding] = []
    rates = [(v, r) for r in runs if (v := r.stat("output_token_throughput")) is not None]
    users = [(v, r) for r in runs if (v := r.stat("output_token_throughput_per_user")) is not None]
    ttft = [(v, r) for r in runs if (v := r.stat("time_to_first_token")) is not None]
    if len(rates) > 1:
        peak, at = max(rates, key=lambda p: p[0])
        lowest = min(rates, key=lambda p: p[0])[0]
        times = f", {peak / lowest:.1f} times the lowest" if lowest > 0 else ""
        out.append(
            Finding(
                rule="peak",
                figure=f"{number(peak)} tok/s",
                text=f"The most output tokens per second at {at.place}{times}",
                level="good",
                link="pareto",
            )
        )
        out += _collapse(rates, at)
    if len(users) > 1:
        best, at = max(users, key=lambda p: p[0])
        out.append(
            Finding(
                rule="experience",
                figure=f"{number(best)} tok/s",
                text=f"The most tokens per second for each user at {at.place}",
                level="good",
                link="pareto",
            )
        )
    if len(ttft) > 1:
        (low, quick), (high, slow) = min(ttft, key=lambda p: p[0]), max(ttft, key=lambda p: p[0])
        text = f"Mean TTFT goes from {number(low)} ms at {quick.place} to {number(high)} ms at {slow.place}"
        out.append(
            Finding(
                rule="ttft_range",
                figure=f"×{high / low:.1f}" if low > 0 else "–",
                text=text,
                level="plain",
                link="latency_by_load",
            )
        )
    failing = [(r, r.summary.counts.failed) for r in runs if r.summary.counts.failed]
    if failing:
        worst, count = max(failing, key=lambda p: p[1])
        out.append(
            Finding(
                rule="failures",
                figure=f"{len(failing)} of {len(runs)}",
                text=f"Runs with failed requests; most at {worst.place}: {count:,}",
                level="warn",
                link="runs",
            )
        )
    return tuple(out[:5])


def _collapse(rates: Sequence[tuple[float, PlotRun]], peak: PlotRun) -> list[Finding]:
    """A higher load that delivers less than 95 % of the peak."""
    if peak.load is None:
        return []
    top = max(v for v, _ in rates)
    beyond = [(v, r) for v, r in rates if r.load is not None and r.load > (peak.load or 0) and v < _COLLAPSE * top]
    if not beyond:
        return []
    low, at = min(beyond, key=lambda p: p[0])
    text = f"Beyond {peak.place} throughput falls: {number(low)} tokens/s at {at.place} (over-saturated)"
    return [
        Finding(
            rule="collapse", figure=f"−{100 * (1 - low / top):.0f}%", text=text, level="bad", link="sweep_multiples"
        )
    ]

"""The measurement certificate: was the client fit to measure this, and what is the measurement's measurement error.

Part by part, against thresholds (`lat` is the median request latency, `gap` the median gap between chunks):

| part | degraded | client-limited |
|---|---|---|
| send lag (start − due) | p99 > max(1 ms, 2 % of lat) | p50 > the same, or p99 > max(20 ms, 20 % of lat) |
| receive lag (user − kernel stamp) | p99 > max(1 ms, gap) | p50 > the same |
| merged chunks (stamp is an upper bound) | > 5 % | > 25 % |
| busiest worker thread | > 70 % of its core | > 90 % |
| ready but not running | > 10 % of the time | > 30 % |
| achieved / requested rate (open loop) | < 98 % | < 95 % |
| conservation | any equation broken | |
| lost records (the disk was full) | | any |
| each generator of a shared load | its own certificate | its own certificate, or lost |
| start skew of the generators | > 50 ms | |

Requests that had to wait at one of the user's own caps (concurrency, prefill concurrency, their ramps) are no fault of the client:
the engine marks them (`capped`), and they are left out of the send lag and of the achieved rate. The verdict is the worst part; it
changes the exit code only under `--assert certificate=trustworthy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import Bools, Floats
from aiperf.metrics.conservation import Check, EngineFacts
from aiperf.metrics.context import MetricContext
from aiperf.metrics.fitness import Part, Verdict, client_parts, judge_part, receive_parts, send_parts, worst_of
from aiperf.metrics.stats import highest, lowest

__all__ = ["Certificate", "Part", "Verdict", "certify"]

_RTT_BOUND: Final = 0.5
_SKEW_MS: Final = 50.0
"""Generators that start further apart than this do not offer the load that was asked for from the beginning."""
_TTFT_APART_MS: Final = 0.5
"""Means of TTFT by kernel and user-space stamps that differ by more are both on the screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Lags in ms, None where not measured; shares 0 to 1. `rtt_bound`: a round trip is at least half the median TTFT.

    `calibrated`: measurement error for TTFT (ms), ITL (ms) and rate (share) against the null server; None: not calibrated.
    `ttft_ms`, `ttft_user_ms`: means by kernel stamps and as the program read it, None where they are the same stamps.
    `lines`: the certificate in two lines; `reasons`: why it is not trustworthy.
    """

    verdict: Verdict
    parts: tuple[Part, ...]
    send_lag_p50_ms: float | None
    send_lag_p99_ms: float | None
    receive_lag_p50_ms: float | None
    receive_lag_p99_ms: float | None
    kernel_stamped: float
    merged: float
    client_cpu: float | None
    cpu_wait: float | None
    requested_rate: float | None
    achieved_rate: float | None
    waited: int
    rtt_ms: float | None
    rtt_bound: bool
    calibrated: tuple[float, float, float] | None
    checks: tuple[Check, ...]
    ttft_ms: float | None = None
    ttft_user_ms: float | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(p.reason for p in self.parts if p.reason is not None)

    @property
    def lines(self) -> tuple[str, str]:
        """Two lines for the screen."""

        def ms(value: float | None) -> str:
            return "–" if value is None else f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"

        def share(value: float | None) -> str:
            return "–" if value is None else f"{100 * value:.0f}%"

        rate = "–" if self.achieved_rate is None else f"{self.achieved_rate:,.1f}"
        rate += " req/s" if self.requested_rate is None else f" of {self.requested_rate:,.1f} req/s target"
        stamps = (
            "kernel timestamps"
            if self.kernel_stamped > 0.99
            else "user-space timestamps"
            if self.kernel_stamped < 0.01
            else (f"{100 * self.kernel_stamped:.0f}% kernel timestamps")
        )
        first = (
            f"Measurement quality: {self.verdict} · send lag p50 {ms(self.send_lag_p50_ms)}, p99 {ms(self.send_lag_p99_ms)}"
            f" · receive lag p99 {ms(self.receive_lag_p99_ms)} ({stamps}) · client CPU {share(self.client_cpu)}"
        )
        broken = [c.name for c in self.checks if c.verdict == "broken"]
        accounting = f"inconsistent ({', '.join(broken)})" if broken else "consistent"
        own = (
            "not calibrated"
            if self.calibrated is None
            else f"measurement error: TTFT ≤ {self.calibrated[0]:.3f} ms (p95), ITL ≤ {self.calibrated[1]:.3f} ms, throughput ≤ {100 * self.calibrated[2]:.2f}%"
        )
        bound = ", TTFT is dominated by network RTT" if self.rtt_bound else ""
        both = ""
        if (
            self.ttft_ms is not None
            and self.ttft_user_ms is not None
            and self.ttft_user_ms - self.ttft_ms > _TTFT_APART_MS
        ):
            both = f" · TTFT {ms(self.ttft_ms)} (kernel timestamps), {ms(self.ttft_user_ms)} (user-space timestamps)"
        second = f"  achieved {rate} · coalesced reads {100 * self.merged:.1f}%{both} · network RTT {ms(self.rtt_ms)}{bound} · request accounting: {accounting} · {own}"
        return first, second


def _percentiles(values: Floats, *p: float) -> tuple[float | None, ...]:
    """Of values of which there may be none; their order is lost."""
    return tuple(np.percentile(values, p, overwrite_input=True).tolist()) if len(values) else (None,) * len(p)


def _median_ms(context: MetricContext, tag: str) -> float | None:
    values = context.value(tag)
    values = values[np.isfinite(values)] / 1e6
    return float(np.median(values, overwrite_input=True)) if len(values) else None


def _send_lag(context: MetricContext, waited: Bools) -> tuple[float | None, ...]:
    """p50 and p99 of start − due, ms, at least 0; of requests that did not wait at a cap."""
    lag = context.start - context.scheduled
    lag = lag[~waited & ~np.isnan(lag)]
    lag /= 1e6
    return _percentiles(np.maximum(lag, 0.0, out=lag), 50, 99)


def _kernel_share(context: MetricContext) -> float:
    """Of the requests with a stamp."""
    source = context.column("stamp_source")
    known = np.count_nonzero(~np.isnan(source))
    return float(np.count_nonzero(source == 1) / known) if known else 0.0


def _ttft_both_ways(context: MetricContext) -> tuple[float | None, float | None]:
    """Means by kernel stamps and as the program read it, ms, of requests that have both; None without any."""
    kernel, user = context.value("time_to_first_token"), context.value("user_space_time_to_first_token")
    both = np.isfinite(user) & np.isfinite(kernel)
    return (float(kernel[both].mean()) / 1e6, float(user[both].mean()) / 1e6) if both.any() else (None, None)


def _round_trip_ms(context: MetricContext) -> float | None:
    rtt = context.column("rtt_ns")
    rtt = rtt[~np.isnan(rtt)] / 1e6
    return float(rtt.mean()) if len(rtt) else None


def _rate_parts(context: MetricContext, facts: EngineFacts, achieved: float | None, *, capped: bool) -> list[Part]:
    if not facts.requested_rate or achieved is None:
        return []
    # Random arrivals scatter: what was due is held against what was asked for with a margin of 4/√n.
    due_rate = _due_rate(context) or achieved
    unplanned = 1 - due_rate / facts.requested_rate - 4 / np.sqrt(max(context.num_rows, 1))
    shortfall = max(1 - achieved / due_rate, float(unplanned))
    text = f"{achieved:,.1f} requests/s were sent of a target of {facts.requested_rate:,.1f}"
    return [judge_part("rate shortfall", None if capped else max(shortfall, 0.0), "share", (0.02, 0.05), text)]


def _accounting_parts(facts: EngineFacts, checks: Sequence[Check]) -> list[Part]:
    """Parts for a clock step, for lost records, and for each accounting check that is broken."""
    parts: list[Part] = []
    if facts.clock_step:
        parts.append(
            Part(
                name="clock",
                value=1.0,
                unit="step",
                verdict="degraded",
                reason="the system clock was adjusted during the run",
            )
        )
    if facts.lost_rows:
        text = f"{facts.lost_rows:,} records are lost (the disk or a worker failed): their requests are in no metric"
        parts.append(
            Part(
                name="lost records",
                value=float(facts.lost_rows),
                unit="requests",
                verdict="client-limited",
                reason=text,
            )
        )
    parts += _generators(facts)
    parts += [
        Part(
            name="conservation",
            value=check.actual - check.expected,
            unit="count",
            verdict="degraded",
            reason=f"{check.name}: {check.text}",
        )
        for check in checks
        if check.verdict == "broken"
    ]
    return parts


def certify(context: MetricContext, facts: EngineFacts, checks: Sequence[Check] = ()) -> Certificate:
    """The certificate of the profiling phases; needs the pass over the chunks for receive lag and merged share."""
    typical = _median_ms(context, "request_latency") or 0.0
    waited = context.column("capped") == 1
    p50, p99 = _send_lag(context, waited)
    parts = send_parts(p50, p99, typical)
    kernel = _kernel_share(context)
    r50 = r99 = None
    merged = 0.0
    if context.chunks is not None and context.chunks.rows.chunks:
        merged = context.chunks.rows.merged / context.chunks.rows.chunks
        gap = context.chunks.gaps.stats(1e6, (50.0,))
        middle = (gap.percentiles[50.0] or 0.0) if gap is not None else 0.0
        if kernel > 0:
            r50, r99 = context.chunks.lags.percentile(50) / 1e6, context.chunks.lags.percentile(99) / 1e6
        parts += receive_parts(r50, r99, merged, middle)
    parts += client_parts(facts.busiest_worker, facts.cpu_wait)
    achieved = _achieved_rate(context)
    parts += _rate_parts(context, facts, achieved, capped=bool(waited.any()))
    parts += _accounting_parts(facts, checks)
    round_trip, ttft = _round_trip_ms(context), _median_ms(context, "time_to_first_token")
    by_kernel, by_user = _ttft_both_ways(context) if kernel > 0 else (None, None)
    bound = round_trip is not None and ttft is not None and round_trip >= _RTT_BOUND * ttft
    return Certificate(
        verdict=worst_of(parts),
        parts=tuple(parts),
        send_lag_p50_ms=p50,
        send_lag_p99_ms=p99,
        receive_lag_p50_ms=r50,
        receive_lag_p99_ms=r99,
        kernel_stamped=kernel,
        merged=merged,
        client_cpu=facts.busiest_worker,
        cpu_wait=facts.cpu_wait,
        requested_rate=facts.requested_rate,
        achieved_rate=achieved,
        waited=int(np.count_nonzero(waited)),
        rtt_ms=round_trip,
        rtt_bound=bound,
        calibrated=facts.calibrated,
        checks=tuple(checks),
        ttft_ms=by_kernel,
        ttft_user_ms=by_user,
    )


def _generators(facts: EngineFacts) -> list[Part]:
    """Of a shared load: the certificate is no better than that of its worst generator."""
    out = [
        Part(
            name=name,
            value=None,
            unit="",
            verdict=verdict,
            reason=None if verdict == "trustworthy" else f"{name} was {verdict}: {'; '.join(reasons)}",
        )
        for name, verdict, reasons in facts.generators
    ]
    out += [
        Part(name="lost generator", value=None, unit="", verdict="client-limited", reason=text)
        for text in facts.lost_generators
    ]
    if facts.start_skew_ns is not None:
        skew = facts.start_skew_ns / 1e6
        bound = "not measured" if facts.clock_bound_ns is None else f"± {facts.clock_bound_ns / 1e6:.2f} ms"
        text = f"the generators started {skew:,.1f} ms apart (clock offsets {bound})"
        out.append(judge_part("start skew", skew, "ms", (_SKEW_MS, float("inf")), text))
    return out


def _achieved_rate(context: MetricContext) -> float | None:
    """Requests per second between the first and the last start; None with fewer than two."""
    return _rate(context.start)


def _due_rate(context: MetricContext) -> float | None:
    return _rate(context.scheduled)


def _rate(times: Floats) -> float | None:
    known = ~np.isnan(times)
    number = int(np.count_nonzero(known))
    span = (highest(times, known) - lowest(times, known)) / 1e9 if number > 1 else 0.0
    return (number - 1) / span if span > 0 else None

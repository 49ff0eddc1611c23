"""What the server's figures say about the run, each sentence from a number by a rule of `docs/concepts/findings.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from aiperf.metrics import Floats
from aiperf.metrics.compute import Results
from aiperf.metrics.context import MetricContext
from aiperf.metrics.lifecycle import Lifecycle
from aiperf.metrics.server import ServerSeries, ServerView
from aiperf.number_text import exact

__all__ = ["ServerFinding", "find_server_findings"]

_QUEUED: Final = 0.2
"""Share of TTFT from which queueing is worth a sentence."""
_FULL: Final = 95.0
"""Percent of the KV cache."""
_IMBALANCE: Final = 1.3
_IDLE_GPU: Final = 60.0
"""Percent of use below which a GPU is not what limits."""
_WAITING: Final = 0.5
"""Requests waiting on average from which "requests waited" holds."""
_CLOCK_NS: Final = 1e6


@dataclass(frozen=True, slots=True)
class ServerFinding:
    """`rule`: its name in docs/concepts/findings.md. `figure`: the number it rests on."""

    rule: str
    figure: str
    text: str
    level: Literal["plain", "warn", "bad"] = "plain"


@dataclass(frozen=True, slots=True)
class _Facts:
    view: ServerView
    context: MetricContext
    client: Results
    lifecycle: Lifecycle | None

    def client_stat(self, tag: str, stat: str) -> float | None:
        found = self.client.get(tag)
        return None if found is None else found.stats.get(stat)


def find_server_findings(
    view: ServerView, context: MetricContext, client: Results, lifecycle: Lifecycle | None
) -> tuple[ServerFinding, ...]:
    """Most serious first; each rule that applies, once."""
    facts = _Facts(view, context, client, lifecycle)
    return tuple(f for rule in _RULES if (f := rule(facts)) is not None)


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _kv_full(facts: _Facts) -> ServerFinding | None:
    course = facts.view.course("kv_cache_usage")
    if course is None:
        return None
    times, values = _arrays(course)
    full = values >= _FULL
    preempted = facts.view.stat("preemptions") or 0.0
    if not full.any() or (not preempted and np.count_nonzero(full) * 10 < len(full)):
        return None
    since = float(times[np.argmax(full)])
    text = f"The KV cache was full (≥ {exact(_FULL)}%) from {_run_seconds(facts, since):.0f} s on: {preempted:,.0f} preemptions"
    ratio = _itl_ratio(facts)
    if ratio is not None:
        text += f"; ITL p99 was ×{ratio:.1f} while they lasted"
    waiting = facts.view.stat("requests_waiting", "max")
    if not preempted and waiting:
        text += f", up to {waiting:,.0f} requests waited"
    return ServerFinding("kv_full", f"{preempted:,.0f}", text, "bad" if preempted else "warn")


def _run_seconds(f: _Facts, at_s: float) -> float:
    """Seconds since the first start, from seconds of run time."""
    start = f.context.start
    first = float(np.nanmin(start)) / 1e9 if np.isfinite(start).any() else 0.0
    return max(0.0, at_s - first)


def _itl_ratio(facts: _Facts) -> float | None:
    """p99 of the ITL of requests that ran while there were preemptions ÷ that of the others; None with fewer than 20 of either."""
    course = facts.view.course("preemptions")
    if course is None:
        return None
    times, values = _arrays(course)
    busy = np.flatnonzero(values > 0)
    if not len(busy):
        return None
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    itl = facts.context.value("inter_token_latency")
    first, last = facts.context.first_content / 1e9, facts.context.finish / 1e9
    during = np.zeros(facts.context.num_rows, dtype=bool)
    for i in busy.tolist():
        during |= (first <= times[i] + step / 2) & (last >= times[i] - step / 2)
    ok = np.isfinite(itl)
    inside, outside = itl[ok & during], itl[ok & ~during]
    if min(len(inside), len(outside)) < 20:
        return None
    calm = float(np.percentile(outside, 99))
    ratio = float(np.percentile(inside, 99)) / calm if calm > 0 else 0.0
    return ratio if ratio >= 1.1 else None


def _queued(facts: _Facts) -> ServerFinding | None:
    per_request = facts.lifecycle is not None and facts.lifecycle.source in {"response", "headers", "spans"}
    if per_request and facts.lifecycle is not None and "server queue" in facts.lifecycle.parts:
        queue = facts.lifecycle.parts["server queue"]
        wait = (facts.context.first_content - facts.context.start)[facts.lifecycle.rows]
        known = np.isfinite(queue) & np.isfinite(wait)
        if known.sum() >= 100:
            tail = known & (wait >= np.percentile(wait[known], 99))
            share = float(queue[tail].sum() / wait[tail].sum())
            return _queue_finding(share, "p99 TTFT", float(queue[tail].mean()) / 1e6)
    queue_p99, ttft_p99 = facts.view.stat("queue_time", "p99"), facts.client_stat("time_to_first_token", "p99")
    found = facts.view.figures.get("queue_time")
    if queue_p99 is not None and ttft_p99 and found is not None:
        low, high = found.bounds.get("p99", (queue_p99, queue_p99))
        # A bucket that is wider than the value says little about its percentile; its mean is exact.
        if high is not None and high - low <= 0.5 * queue_p99:
            return _queue_finding(min(queue_p99 / ttft_p99, 1.0), "p99 TTFT", queue_p99)
    mean, ttft = facts.view.stat("queue_time"), facts.client_stat("time_to_first_token", "avg")
    return _queue_finding(min(mean / ttft, 1.0), "mean TTFT", mean) if mean is not None and ttft else None


def _queue_finding(share: float, what: str, queue_ms: float) -> ServerFinding | None:
    if share < _QUEUED:
        return None
    text = f"Requests queued in the server: {100 * share:.0f}% of {what} is queue time ({_ms(queue_ms)})"
    return ServerFinding("server_queue", f"{100 * share:.0f}%", text, "warn")


def _imbalance(f: _Facts) -> ServerFinding | None:
    for name in ("generation_tokens", "requests_running", "requests"):
        figure = f.view.figures.get(name)
        ratio = None if figure is None else figure.imbalance
        if figure is None or ratio is None or ratio < _IMBALANCE:
            continue
        top = max(figure.replicas, key=lambda r: r.value)
        others = [r.value for r in figure.replicas if r is not top]
        rest = sum(others) / len(others)
        times = f"{top.value / rest:.1f}×" if rest > 0 else "all of"
        text = f"Replica `{top.name}` got {times} the load of the others ({figure.metric.header.lower()}: {top.value:,.0f} against {rest:,.0f} on average)"
        return ServerFinding("imbalance", f"×{ratio:.1f}", text, "warn")
    return None


def _gpu_idle(f: _Facts) -> ServerFinding | None:
    waiting = f.view.stat("requests_waiting")
    used = [float(np.nanmean(_arrays(c)[1])) for c in f.view.courses("gpu_utilization")]
    if waiting is None or waiting < _WAITING or not used or max(used) >= _IDLE_GPU:
        return None
    mean = sum(used) / len(used)
    text = f"GPU utilization was {mean:.0f}% while {waiting:.1f} requests waited on average: the limit is not the GPU"
    return ServerFinding("gpu_idle", f"{mean:.0f}%", text, "warn")


def _refused(f: _Facts) -> ServerFinding | None:
    rejected = f.view.stat("rejected_requests") or 0.0
    aborted = f.view.stat("aborted_requests") or 0.0
    if not rejected and not aborted:
        return None
    words = [f"{n:,.0f} {w}" for n, w in ((rejected, "rejected"), (aborted, "aborted")) if n]
    text = f"The server counted {' and '.join(words)} requests"
    return ServerFinding("refused", f"{rejected + aborted:,.0f}", text, "warn" if rejected else "plain")


def _disagreement(f: _Facts) -> ServerFinding | None:
    lifecycle = f.lifecycle
    if lifecycle is None or not lifecycle.too_long or lifecycle.worst_ns < _CLOCK_NS:
        return None
    text = (
        f"For {lifecycle.too_long:,} requests the server reports more time before the first token than the client measured "
        f"(by up to {_ms(lifecycle.worst_ns / 1e6)}): the charts cut it to the client's time"
    )
    return ServerFinding("server_clock", f"{lifecycle.too_long:,}", text, "warn")


def _where(facts: _Facts) -> ServerFinding | None:
    if facts.lifecycle is None or not facts.lifecycle.has_server:
        return None
    means = facts.lifecycle.means()
    whole = sum(means.values())
    if whole <= 0:
        return None
    named = [f"{name} {100 * value / whole:.0f}%" for name, value in means.items() if value / whole >= 0.005]
    how = {"histogram": "from the server's histograms, on average"}.get(facts.lifecycle.source, "per request")
    top = max(means, key=lambda name: means[name])
    text = f"Of the mean {_ms(whole / 1e6)} from the scheduled send time to the last token: {', '.join(named)} ({how})"
    return ServerFinding("where_time_went", f"{top} {100 * means[top] / whole:.0f}%", text)


def _cache(f: _Facts) -> ServerFinding | None:
    rate = f.view.stat("prefix_hit_rate")
    if rate is None or rate < 1:
        return None
    text = f"{rate:.1f}% of the prompt tokens were found in the server's prefix cache"
    return ServerFinding("prefix_cache", f"{rate:.0f}%", text)


def _arrays(course: ServerSeries) -> tuple[Floats, Floats]:
    values = np.array([np.nan if v is None else v for v in course.values], dtype=np.float64)
    there = np.isfinite(values)
    return np.array(course.times_s)[there], values[there]


_RULES: Final[Sequence[Callable[[_Facts], ServerFinding | None]]] = (
    _kv_full,
    _queued,
    _imbalance,
    _gpu_idle,
    _refused,
    _disagreement,
    _where,
    _cache,
)

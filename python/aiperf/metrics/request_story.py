"""One request told: what it waited for, in parts on one axis, and what ran beside it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from aiperf.metrics import Floats
from aiperf.metrics.context import MetricContext
from aiperf.metrics.lifecycle import Lifecycle, find_lifecycle
from aiperf.metrics.server import ServerView

__all__ = ["Clock", "Segment", "Story", "tell"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time, ms since the scheduled send time. `lane`: "client" or "server"."""

    lane: str
    name: str
    begin_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        return self.end_ms - self.begin_ms


@dataclass(frozen=True, slots=True)
class Clock:
    """How far the server's clock is ahead of the client's, ns, at least and at most; None: its times are placed by what the client saw."""

    low_ns: float
    high_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """`request`: the number in the records. `bound_ms`: how far the server's lane may be off. `words`: sentences."""

    request: int
    request_id: str
    total_ms: float
    bound_ms: float | None
    source: str
    segments: tuple[Segment, ...]
    words: tuple[str, ...]


def tell(
    context: MetricContext,
    row: int,
    request_id: str,
    view: ServerView | None,
    stall_ns: float,
    clock: Clock | None = None,
) -> Story:
    """Of any row, failed or not; what is not known of it is left out."""
    known = find_lifecycle(context, view, stall_ns, np.array([row]))
    start, scheduled = float(context.start[row]), float(context.scheduled[row])
    origin = min(start, scheduled) if np.isfinite(scheduled) else start
    finish = float(context.finish[row])
    segments = [*_client(context, row, origin), *_server(context, row, known, origin)]
    total = (finish - origin) / 1e6
    bound = None
    if known is not None and known.source == "spans" and clock is not None:
        bound = max(0.0, clock.high_ns - clock.low_ns) / 1e6
    elif known is not None and known.has_server:
        bound = sum(_one(known, name) for name in ("network", "network and queue")) / 2
    words = [*_words(context, row, known, total), *_beside(context, row, view)]
    return Story(
        request=int(context.column("request")[row]),
        request_id=request_id,
        total_ms=total,
        bound_ms=bound,
        source="client" if known is None else known.source,
        segments=tuple(s for s in segments if s.length_ms > 0),
        words=tuple(words),
    )


def _one(known: Lifecycle, name: str) -> float:
    """ms; 0 where the request has no such part."""
    values = known.parts.get(name)
    return 0.0 if values is None or not np.isfinite(values[0]) else float(values[0]) / 1e6


def _client(context: MetricContext, row: int, origin: float) -> list[Segment]:
    """From one known moment to the next: together from the first to the last."""
    moments = (
        ("", context.scheduled),
        ("send lag", context.column("started")),
        ("connect", context.column("sent")),
        ("send", context.column("body_sent")),
        ("wait for the first token", context.first_content),
        ("tokens" if np.isfinite(context.first_content[row]) else "wait for the response", context.finish),
    )
    known = [(name, float(at[row])) for name, at in moments if np.isfinite(at[row])]
    return [
        Segment("client", name, (before - origin) / 1e6, (at - origin) / 1e6)
        for (_, before), (name, at) in itertools.pairwise(known)
        if at > before
    ]


def _server(context: MetricContext, row: int, known: Lifecycle | None, origin: float) -> list[Segment]:
    """From its arrival there: by the server's clock, else in the middle of what the network leaves."""
    if known is None or not known.has_server:
        return []
    queue, both, prefill = (_one(known, part) for part in ("server queue", "queue and prefill", "prefill"))
    spare = _one(known, "network") + _one(known, "network and queue")
    arrival = float(context.column("server_arrival")[row])
    at = (
        (float(context.start[row]) - origin) / 1e6 + spare / 2 if not np.isfinite(arrival) else (arrival - origin) / 1e6
    )
    decode = float(context.column("server_decode_ns")[row]) / 1e6
    if not np.isfinite(decode):
        decode = _one(known, "decode") + _one(known, "stalls")
    out: list[Segment] = []
    stages = (("queue", queue), ("prefill", prefill)) if not both else (("queue and prefill", both),)
    for name, length in (*stages, ("decode", decode)):
        out.append(Segment("server", name, at, at + length))
        at += length
    return out


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _words(context: MetricContext, row: int, known: Lifecycle | None, total: float) -> list[str]:
    latency = context.value("request_latency")
    own = float(latency[row])
    out = [f"It took {_ms(total)} from its scheduled send time to its end"]
    ranked = latency[np.isfinite(latency)]
    if np.isfinite(own) and len(ranked) > 1:
        out[0] += f", longer than {100 * float(np.mean(ranked < own)):.1f}% of the successful requests"
    if known is None or not np.isfinite(known.total[0]):
        return out
    parts = {name: float(values[0]) / 1e6 for name, values in known.parts.items() if np.isfinite(values[0])}
    whole = sum(parts.values())
    for name, value in sorted(parts.items(), key=lambda p: -p[1]):
        if whole > 0 and value / whole >= 0.01:
            out.append(f"{100 * value / whole:.0f}% of it was {_PHRASES[name]} ({_ms(value)})")
    isl, cached = float(context.input_tokens[row]), float(context.column("usage_cached")[row])
    if np.isfinite(isl):
        text = f"Its prompt has {isl:,.0f} tokens"
        out.append(text + (f", {cached:,.0f} of them found in the prefix cache" if np.isfinite(cached) else ""))
    return out


_PHRASES = {
    "client send lag": "send lag of the client",
    "network": "network, HTTP and tokenizing",
    "network and queue": "network, HTTP, tokenizing and the server's queue, which it does not report",
    "server queue": "time in the server's queue",
    "queue and prefill": "queue and prefill in the server, which reports only their sum",
    "prefill": "prefill",
    "before the first token": "before the first token",
    "decode": "decode",
    "stalls": "a stall of the stream",
}


def _beside(context: MetricContext, row: int, view: ServerView | None) -> list[str]:
    """Requests in flight with it, those whose first token came while it waited, and the server's own load then."""
    start, first, finish = float(context.start[row]), float(context.first_content[row]), float(context.finish[row])
    if not np.isfinite(start) or not np.isfinite(finish):
        return []
    overlap = (context.start < finish) & (context.finish > start)
    overlap[row] = False
    count = int(np.count_nonzero(overlap))
    out = [f"{count:,} other requests were in flight at some time during it"]
    if np.isfinite(first):
        with np.errstate(invalid="ignore"):
            prefilled = overlap & (context.first_content > start) & (context.first_content < first)
        if prefilled.any():
            isl = np.where(prefilled, context.input_tokens, np.nan)
            text = f"{int(np.count_nonzero(prefilled)):,} of them got their first token while it waited for its own"
            if np.isfinite(isl).any():
                longest = int(np.nanargmax(isl))
                number = int(context.column("request")[longest])
                text += f"; the longest prompt among these has {float(isl[longest]):,.0f} tokens (request {number})"
            out.append(text)
    if view is not None:
        middle = (start + (first if np.isfinite(first) else finish)) / 2e9
        levels = [(word, _at(view, name, middle)) for word, name in _LEVELS]
        said = [
            f"{word} {value:,.0f}{unit}"
            for (word, value), (_, _, unit) in zip(levels, _UNITS, strict=True)
            if value is not None
        ]
        if said:
            out.append(f"While it waited the server reported: {', '.join(said)}")
    return out


_UNITS = (
    ("requests running", "requests_running", ""),
    ("requests waiting", "requests_waiting", ""),
    ("KV cache", "kv_cache_usage", "%"),
)
_LEVELS = tuple((word, name) for word, name, _ in _UNITS)


def _at(view: ServerView, name: str, at_s: float) -> float | None:
    course = view.course(name)
    if course is None:
        return None
    times = np.array(course.times_s)
    values: Floats = np.array([np.nan if v is None else v for v in course.values])
    there = np.isfinite(values)
    return float(np.interp(at_s, times[there], values[there])) if there.any() else None

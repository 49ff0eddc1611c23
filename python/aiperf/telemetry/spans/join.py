"""Spans to columns of the records: queue, prefill, decode and arrival of each request, with what is known of the server's clock.

| Server | Span | Queue, prefill, decode |
|---|---|---|
| vLLM | `llm_request` | `gen_ai.latency.time_in_queue`, `…time_in_model_prefill`, `…time_in_model_decode`, `…e2e`, s |
| TGI | `generate`, `generate_stream` | `queue_time`, `inference_time`, `total_time`, as Rust writes a duration: `12.5ms` |
| SGLang, gateways | a span per stage | durations of the spans whose name has `queue` or `wait`, `prefill`, `decode` in it |
| Dynamo | `http-request`, `handle_payload`, … | none but its engine's: arrival and total alone |

A clock of the server's that is ahead by x makes each arrival x late: no request arrives before it was sent, and no work is done for it
after its last token was seen, so x lies between the latest and the earliest that all requests allow. Work is what a span measures: the
start of each, its latencies, a stage; the end of an HTTP server's span comes when it pleases. Without a contradiction the x nearest to 0
is taken, and the width of the range is its error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ErrorKind, Note
from aiperf.records import Columns
from aiperf.telemetry.spans.span import Span

__all__ = ["ATTRIBUTES", "ClockOffset", "Joined", "SpanTimes", "collect", "join", "span_columns"]

Floats = NDArray[np.float64]

_PARTS_IN_S: Final = {
    "gen_ai.latency.time_in_queue": "queue",
    "llm.latency.time_in_queue": "queue",
    "gen_ai.latency.time_in_model_prefill": "prefill",
    "gen_ai.latency.time_in_model_decode": "decode",
    "gen_ai.latency.time_to_first_token": "first",
    "llm.latency.time_to_first_token": "first",
    "gen_ai.latency.e2e": "total",
    "llm.latency.e2e": "total",
}
_PARTS_AS_TEXT: Final = {"queue_time": "queue", "inference_time": "inference", "total_time": "total"}
ATTRIBUTES: Final = frozenset((*_PARTS_IN_S, *_PARTS_AS_TEXT))
"""Those that are read here."""
_AT_WORK: Final = frozenset({"first", "total"})
"""Latencies from the arrival on, during which the server works for the request."""
_STAGES: Final = {
    "queue": re.compile(r"queue|wait", re.IGNORECASE),
    "prefill": re.compile(r"prefill", re.IGNORECASE),
    "decode": re.compile(r"decode", re.IGNORECASE),
}
_DURATION: Final = re.compile(r"([\d.]+)\s*(ns|µs|us|ms|s)")
_UNITS: Final = {"ns": 1.0, "µs": 1e3, "us": 1e3, "ms": 1e6, "s": 1e9}
_SPANS: Final = 3.0
"""The number of spans in the column `server_source`."""


@dataclass(slots=True)
class SpanTimes:
    """Of one trace, ns; NaN where no span says it. `arrival`, `end`: since the epoch, by the server's clock. `worked`: the last moment
    at which it worked for the request for sure.
    """

    arrival: int
    end: int
    worked: float
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def queue(self) -> float:
        return self._one("queue")

    @property
    def prefill(self) -> float:
        return self._one("prefill")

    @property
    def decode(self) -> float:
        return self._one("decode")

    @property
    def total(self) -> float:
        return self._one("total")

    def _one(self, name: str) -> float:
        return float(resolve_parts([self])[name][0])


def resolve_parts(found: Sequence[SpanTimes]) -> dict[str, Floats]:
    """(traces,) ns of queue, prefill, decode and total: as told, else what the others leave; NaN where that is not known either."""
    told = {
        name: np.array([t.parts.get(name, math.nan) for t in found])
        for name in ("queue", "prefill", "decode", "first", "inference", "total")
    }

    def known(name: str, rest: Floats) -> Floats:
        return np.where(np.isnan(told[name]), rest, told[name])

    prefill = known("prefill", told["first"] - told["queue"])
    total = known("total", np.array([float(t.end - t.arrival) for t in found]))
    rest = told["inference"] - prefill
    decode = known("decode", np.where(np.isnan(rest), total - told["first"], rest))
    return {"queue": told["queue"], "prefill": prefill, "decode": decode, "total": total}


def collect(spans: Iterable[Span]) -> dict[str, SpanTimes]:
    """Trace id → what its spans say together. A trace whose spans say nothing of queue, prefill or decode has its bounds only."""
    out: dict[str, SpanTimes] = {}
    for span in spans:
        times = out.get(span.trace)
        if times is None:
            times = out[span.trace] = SpanTimes(span.start_ns, span.end_ns, span.start_ns)
        else:
            times.arrival = min(times.arrival, span.start_ns)
            times.end = max(times.end, span.end_ns)
        worked = span.start_ns
        if span.attributes:
            worked += int(_read_attributes(span.attributes, times.parts))
        part = _stage(span.name)
        if part is not None:
            worked = span.end_ns
            times.parts[part] = times.parts.get(part, 0.0) + (span.end_ns - span.start_ns)
        times.worked = max(times.worked, worked)
    return out


@lru_cache(maxsize=1024)
def _stage(name: str) -> str | None:
    """Which part a span of that name is; servers have few names."""
    return next((part for part, pattern in _STAGES.items() if pattern.search(name)), None)


def _read_attributes(attributes: Mapping[str, str | float | bool], parts: dict[str, float]) -> float:
    """How long after this span's start the server was at work for sure, ns."""
    worked = 0.0
    for name, value in attributes.items():
        part = _PARTS_IN_S.get(name)
        if part is not None and isinstance(value, int | float) and not isinstance(value, bool):
            ns = float(value) * 1e9
        elif (part := _PARTS_AS_TEXT.get(name)) is not None and isinstance(value, str):
            length = _DURATION.fullmatch(value.strip())
            if length is None:
                continue
            ns = float(length[1]) * _UNITS[length[2]]
        else:
            continue
        parts[part] = ns
        if part in _AT_WORK:
            worked = max(worked, ns)
    return worked


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How far the server's clock is ahead of the client's, ns: within [`low`, `high`]; `best` is taken. `low` > `high`: it jumped."""

    low: float
    high: float

    @property
    def is_consistent(self) -> bool:
        return self.low <= self.high

    @property
    def best(self) -> float:
        return min(max(0.0, self.low), self.high) if self.is_consistent else (self.low + self.high) / 2

    @property
    def bound(self) -> float:
        return max(abs(self.high - self.best), abs(self.best - self.low))


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """`matched`: requests with a span of theirs; `strangers`: traces of no request. `offset` None: nothing matched."""

    times: Mapping[str, SpanTimes] = field(repr=False)
    matched: int
    sent: int
    strangers: int
    offset: ClockOffset | None

    def notes(self) -> tuple[Note, ...]:
        out: list[Note] = []
        if not self.times:
            text = (
                "no spans came from the server: its exporter may point elsewhere, or traces of others only are sampled"
            )
            return (Note("spans_missing", text),)
        if self.matched < self.sent:
            text = f"{self.matched:,} of {self.sent:,} requests have spans of the server"
            out.append(Note("spans_incomplete", text, {"matched": self.matched, "requests": self.sent}))
        if self.strangers:
            text = f"{self.strangers:,} traces belong to no request of this run and were left out"
            out.append(Note("spans_of_strangers", text, {"traces": self.strangers}))
        if self.offset is not None and not self.offset.is_consistent:
            text = (
                f"the server's clock moved against the client's by at least {(self.offset.low - self.offset.high) / 1e6:,.1f} ms during "
                "the run: durations hold, arrival times are approximate"
            )
            out.append(Note("server_clock_jumped", text))
        return tuple(out)


def join(times: Mapping[str, SpanTimes], columns: Columns) -> Joined:
    """Spans against the rows of a run, by request id; the offset of the clocks from all that match."""
    ids = [_trace_of(i) for i in columns.strings("request_id")]
    sent, finish = columns.scalar("sent"), columns.scalar("end")
    wall = columns.start_wall_ns
    rows = [i for i, trace in enumerate(ids) if trace in times]
    found = [times[ids[i]] for i in rows]
    offset = None
    if rows:
        arrivals = np.array([t.arrival - wall for t in found], dtype=np.float64)
        worked = np.array([t.worked - wall for t in found], dtype=np.float64)
        high = arrivals - sent[rows]
        # Who has gone, on purpose or not, bounds nothing: the server may work on.
        is_ok = columns.scalar("error_kind")[rows] == ErrorKind.OK
        low = np.where(is_ok, worked - finish[rows], np.nan)
        if np.isfinite(low).any():
            offset = ClockOffset(float(np.nanmax(low)), float(np.nanmin(high)))
    known = set(ids)
    strangers = sum(trace not in known for trace in times)
    num_sent = int(np.count_nonzero(np.isfinite(sent)))
    return Joined(times=times, matched=len(rows), sent=num_sent, strangers=strangers, offset=offset)


def _trace_of(request_id: str | None) -> str:
    return "" if request_id is None else request_id.replace("-", "")


def span_columns(joined: Joined, columns: Columns) -> dict[str, Floats]:
    """(rows,) `server_*` of a batch of rows: from the spans where a request has some that say more than when it came and went, else what
    the records have.
    """
    names = (
        "server_queue_ns",
        "server_prefill_ns",
        "server_decode_ns",
        "server_total_ns",
        "server_arrival",
        "server_source",
    )
    out = {name: columns.scalar(name).copy() for name in names}
    out["server_source"] = np.nan_to_num(out["server_source"])
    shift = 0.0 if joined.offset is None else joined.offset.best
    traces = [_trace_of(i) for i in columns.strings("request_id")]
    rows = np.array([i for i, trace in enumerate(traces) if trace in joined.times], dtype=np.int64)
    if not len(rows):
        return out
    found = [joined.times[traces[i]] for i in rows.tolist()]
    # Spans that say no more than when it came and went leave what the response said.
    says_more = np.array([bool(t.parts) for t in found]) | (out["server_source"][rows] == 0)
    for name, values in resolve_parts(found).items():
        told = np.where(values >= 0, values, np.nan)
        out[f"server_{name}_ns"][rows[says_more]] = told[says_more]
    out["server_source"][rows[says_more]] = _SPANS
    out["server_arrival"][rows] = np.array([t.arrival - columns.start_wall_ns for t in found]) - shift
    return out

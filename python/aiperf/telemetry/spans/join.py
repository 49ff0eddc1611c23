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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ErrorKind, Note
from aiperf.records import Columns
from aiperf.telemetry.spans.span import Value
from aiperf.telemetry.spans.table import SpanTable

__all__ = ["ATTRIBUTES", "ClockOffset", "Joined", "SpanTimes", "Traces", "collect", "join", "span_columns"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

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
_PARTS: Final = ("queue", "prefill", "decode", "first", "inference", "total")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanTimes:
    """Of one trace, ns; NaN where no span says it."""

    queue: float
    prefill: float
    decode: float
    total: float


class Traces(Mapping[str, SpanTimes]):
    """What the spans of each trace say together, as columns. A trace whose spans say nothing of queue, prefill or decode has its bounds only.

    `arrivals`: ns from an instant, by the server's clock; `worked`: the last moment at which it worked for the request for sure.
    """

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        """Trace id → row."""
        self._columns = {name: np.zeros(0, dtype=np.int64) for name in ("arrival", "end", "worked")}
        self._parts = {name: np.zeros(0) for name in _PARTS}

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[str]:
        return iter(self.index)

    def __contains__(self, trace: object) -> bool:
        return trace in self.index

    def __getitem__(self, trace: str) -> SpanTimes:
        told = self.parts(np.array([self.index[trace]]))
        return SpanTimes(**{name: float(values[0]) for name, values in told.items()})

    def arrivals(self, rows: Rows, wall_ns: int) -> Floats:
        return (self._columns["arrival"][rows] - wall_ns).astype(np.float64)

    def worked(self, rows: Rows, wall_ns: int) -> Floats:
        return (self._columns["worked"][rows] - wall_ns).astype(np.float64)

    def says_more(self, rows: Rows) -> NDArray[np.bool_]:
        """(rows,) is more known than when the request came and went?"""
        out: NDArray[np.bool_] = np.any([np.isfinite(values[rows]) for values in self._parts.values()], axis=0)
        return out

    def parts(self, rows: Rows) -> dict[str, Floats]:
        """(rows,) ns of queue, prefill, decode and total: as told, else what the others leave; NaN where that is not known either."""
        told = {name: values[rows] for name, values in self._parts.items()}

        def known(name: str, rest: Floats) -> Floats:
            return np.where(np.isnan(told[name]), rest, told[name])

        prefill = known("prefill", told["first"] - told["queue"])
        total = known("total", (self._columns["end"][rows] - self._columns["arrival"][rows]).astype(np.float64))
        rest = told["inference"] - prefill
        decode = known("decode", np.where(np.isnan(rest), total - told["first"], rest))
        return {"queue": told["queue"], "prefill": prefill, "decode": decode, "total": total}

    def add(self, table: SpanTable) -> None:
        """What a request of the server's exporter holds."""
        index = self.index
        rows = np.array([index.setdefault(trace, len(index)) for trace in table.traces], dtype=np.int64)
        self._grow(len(index))
        np.minimum.at(self._columns["arrival"], rows, table.starts_ns)
        np.maximum.at(self._columns["end"], rows, table.ends_ns)
        np.maximum.at(self._columns["worked"], rows, table.starts_ns)
        self._add_attributes(table, rows)
        stages = {name: part for name in set(table.names) if (part := _stage(name)) is not None}
        for part in set(stages.values()):
            found = np.array([i for i, name in enumerate(table.names) if stages.get(name) == part], dtype=np.int64)
            values = self._parts[part]
            values[rows[found]] = np.nan_to_num(values[rows[found]])
            np.add.at(values, rows[found], (table.ends_ns - table.starts_ns)[found].astype(np.float64))
            np.maximum.at(self._columns["worked"], rows[found], table.ends_ns[found])

    def _add_attributes(self, table: SpanTable, rows: Rows) -> None:
        for key, name in enumerate(table.key_names):
            part = _PARTS_IN_S.get(name) or _PARTS_AS_TEXT.get(name)
            if part is None:
                continue
            at = np.flatnonzero(table.keys == key)
            ns = np.array([_duration_ns(name, table.values[i]) for i in at.tolist()])
            is_told = ~np.isnan(ns)
            spans, ns = table.rows[at][is_told], ns[is_told]
            self._parts[part][rows[spans]] = ns
            if part in _AT_WORK:
                np.maximum.at(self._columns["worked"], rows[spans], table.starts_ns[spans] + ns.astype(np.int64))

    def _grow(self, size: int) -> None:
        """To at least twice as many rows as there were, so that many small tables cost little."""
        have = len(self._columns["end"])
        if size <= have:
            return
        more = max(size, 2 * have) - have
        ends = {"arrival": np.iinfo(np.int64).max}
        for name, column in self._columns.items():
            self._columns[name] = np.concatenate([column, np.full(more, ends.get(name, np.iinfo(np.int64).min))])
        for name, values in self._parts.items():
            self._parts[name] = np.concatenate([values, np.full(more, math.nan)])


def collect(tables: Iterable[SpanTable]) -> Traces:
    """What all spans say, by trace."""
    out = Traces()
    for table in tables:
        out.add(table)
    return out


@lru_cache(maxsize=1024)
def _stage(name: str) -> str | None:
    """Which part a span of that name is; servers have few names."""
    return next((part for part, pattern in _STAGES.items() if pattern.search(name)), None)


def _duration_ns(name: str, value: Value) -> float:
    """NaN if the attribute is no duration."""
    if name in _PARTS_IN_S:
        return float(value) * 1e9 if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    length = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    return math.nan if length is None else float(length[1]) * _UNITS[length[2]]


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

    times: Traces = field(repr=False)
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


def join(times: Traces, columns: Columns) -> Joined:
    """Spans against the rows of a run, by request id; the offset of the clocks from all that match."""
    ids = [_trace_of(i) for i in columns.strings("request_id")]
    sent, finish = columns.scalar("sent"), columns.scalar("end")
    wall = columns.start_wall_ns
    rows, traces = _matches(times, ids)
    offset = None
    if len(rows):
        worked = times.worked(traces, wall)
        high = times.arrivals(traces, wall) - sent[rows]
        # Who has gone, on purpose or not, bounds nothing: the server may work on.
        is_ok = columns.scalar("error_kind")[rows] == ErrorKind.OK
        low = np.where(is_ok, worked - finish[rows], np.nan)
        if np.isfinite(low).any():
            offset = ClockOffset(float(np.nanmax(low)), float(np.nanmin(high)))
    strangers = len(times) - len(set(traces.tolist()))
    num_sent = int(np.count_nonzero(np.isfinite(sent)))
    return Joined(times=times, matched=len(rows), sent=num_sent, strangers=strangers, offset=offset)


def _matches(times: Traces, ids: Sequence[str]) -> tuple[Rows, Rows]:
    """Rows of the records that have spans, and of the traces that are theirs."""
    at = np.array([times.index.get(trace, -1) for trace in ids], dtype=np.int64)
    rows = np.flatnonzero(at >= 0)
    return rows, at[rows]


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
    rows, matched = _matches(joined.times, traces)
    if not len(rows):
        return out
    # Spans that say no more than when it came and went leave what the response said.
    says_more = joined.times.says_more(matched) | (out["server_source"][rows] == 0)
    for name, values in joined.times.parts(matched).items():
        told = np.where(values >= 0, values, np.nan)
        out[f"server_{name}_ns"][rows[says_more]] = told[says_more]
    out["server_source"][rows[says_more]] = _SPANS
    out["server_arrival"][rows] = joined.times.arrivals(matched, columns.start_wall_ns) - shift
    return out

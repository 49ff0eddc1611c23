"""Runs from literals: a `Row` is one request, times in ms; `columns_of` puts rows into columns in two chunk batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aiperf.records import ChunkBatch, Columns

WALL = 1_795_491_051_000_000_000
CONTENT, REASONING, TOOL, ROLE, USAGE = 1, 2, 3, 4, 5
MERGED = 0x80


@dataclass(frozen=True)
class Chunk:
    """`at`: ms of run time; `text`: bytes of text."""

    at: float
    text: int = 4
    kind: int = CONTENT
    lag: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """Times in ms of run time, None where it did not happen."""

    sent: float | None
    chunks: tuple[Chunk, ...] = ()
    scheduled: float | None = None
    started: float | None = None
    end: float | None = None
    reused: bool | None = True
    connect: float | None = None
    dns: float | None = None
    tls: float | None = None
    body_sent: float | None = None
    headers: float | None = None
    first_byte: float | None = None
    cancelled_at: float | None = None
    kind: int = 0
    status: int | None = 200
    message: str | None = None
    isl: int | None = 10
    output: int | None = None
    reasoning: int | None = 0
    requested: int | None = None
    usage: tuple[int | None, int | None, int | None, int | None] = (None, None, None, None)
    usage_json: str | None = None
    speculation: str | None = None
    phase: int = 0
    rtt: float | None = None
    bytes_out: int = 1024
    bytes_in: int = 4096
    capped: bool = False

    @property
    def content(self) -> list[Chunk]:
        return [c for c in self.chunks if c.kind & 0x7F in (CONTENT, REASONING, TOOL)]


def stream(
    sent: float, *at: float, output: int | None = None, text: int = 4, end: float | None = None, **more: object
) -> Row:
    """A successful stream with content chunks at those times; one token per chunk unless told otherwise."""
    chunks = tuple(Chunk(t, text) for t in at)
    last = at[-1] if at else sent
    row = Row(sent=sent, chunks=chunks, output=len(at) if output is None else output, end=last if end is None else end)
    return replace(row, **more)  # type: ignore[arg-type]


def _ns(value: float | None) -> float:
    return float("nan") if value is None else float(round(value * 1e6))


def _plain(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def columns_of(rows: Sequence[Row], split: int | None = None) -> Columns:
    """Columns of the rows; chunks in batches of `split` rows (default: two batches)."""
    firsts = [r.content[0] if r.content else None for r in rows]
    visible = [next((c for c in r.content if c.kind & 0x7F != REASONING), None) for r in rows]
    scalars: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}

    def put(name: str, values: list[float]) -> None:
        scalars[name] = np.array(values, dtype=np.float64)

    put("phase", [r.phase for r in rows])
    put("scheduled", [_ns(r.sent if r.scheduled is None else r.scheduled) for r in rows])
    put("started", [_ns(r.sent if r.started is None else r.started) for r in rows])
    put("sent", [_ns(r.sent) for r in rows])
    put("body_sent", [_ns(r.sent if r.body_sent is None else r.body_sent) for r in rows])
    put("headers", [_ns(r.headers) for r in rows])
    put(
        "first_byte",
        [
            _ns(r.first_byte if r.first_byte is not None else c.at if c else None)
            for r, c in zip(rows, firsts, strict=True)
        ],
    )
    put("first_content", [_ns(c.at if c else None) for c in firsts])
    put("first_content_user", [_ns(c.at + c.lag if c else None) for c in firsts])
    put("first_output", [_ns(c.at if c else None) for c in visible])
    put("last_content", [_ns(r.content[-1].at if r.content else None) for r in rows])
    put("end", [_ns(r.end) for r in rows])
    put("cancelled_at", [_ns(r.cancelled_at) for r in rows])
    put("stamp_source", [1.0 if any(c.lag for c in r.chunks) else 0.0 for r in rows])
    put("dns_ns", [_ns(r.dns) for r in rows])
    put("connect_ns", [_ns(r.connect) for r in rows])
    put("tls_ns", [_ns(r.tls) for r in rows])
    put("reused", [float("nan") if r.reused is None else float(r.reused) for r in rows])
    put("capped", [float(r.capped) for r in rows])
    put("status", [_plain(r.status) for r in rows])
    put("error_kind", [r.kind for r in rows])
    put("bytes_out", [r.bytes_out for r in rows])
    put("bytes_in", [r.bytes_in for r in rows])
    put("isl", [_plain(r.isl) for r in rows])
    put("requested_osl", [_plain(r.requested) for r in rows])
    for i, name in enumerate(("prompt", "completion", "reasoning", "cached")):
        put(f"usage_{name}", [_plain(r.usage[i]) for r in rows])
    put("counted_output", [_plain(r.output) for r in rows])
    put("counted_reasoning", [_plain(r.reasoning if r.output is not None else None) for r in rows])
    put("rtt_ns", [_ns(r.rtt) for r in rows])
    put("num_chunks", [len(r.chunks) for r in rows])
    put("num_content_chunks", [len(r.content) for r in rows])
    put("session_num", list(range(len(rows))))
    put("session", list(range(len(rows))))
    put("turn", [0.0] * len(rows))
    put("worker", [0.0] * len(rows))
    size = split or max((len(rows) + 1) // 2, 1)
    batches = tuple(_batch(i, rows[i : i + size]) for i in range(0, len(rows), size))
    strings: dict[str, list[str | None]] = {
        "request_id": [f"00000000-0000-4000-8000-{i:012d}" for i in range(len(rows))],
        "correlation_id": [f"10000000-0000-4000-8000-{i:012d}" for i in range(len(rows))],
        "error_message": [r.message for r in rows],
        "usage_json": [r.usage_json for r in rows],
        "speculation_json": [r.speculation for r in rows],
    }
    return Columns.from_arrays(scalars, batches, strings, WALL)


def _batch(row0: int, rows: Sequence[Row]) -> ChunkBatch:
    chunks = [c for r in rows for c in r.chunks]
    offsets = np.concatenate(([0], np.cumsum([len(r.chunks) for r in rows]))).astype(np.int64)
    return ChunkBatch(
        row0=row0,
        offsets=offsets,
        chunk_ns=np.array([round(c.at * 1e6) for c in chunks], dtype=np.int64),
        chunk_lag_ns=np.array([round(c.lag * 1e6) for c in chunks], dtype=np.int32),
        chunk_bytes=np.array([c.text + 150 for c in chunks], dtype=np.uint32),
        chunk_text_bytes=np.array([c.text for c in chunks], dtype=np.uint32),
        chunk_kind=np.array([c.kind for c in chunks], dtype=np.uint8),
    )


@dataclass(frozen=True)
class Goals:
    """What the command line gives for --goodput."""

    limits: tuple[tuple[str, float], ...]
    name: str | None = None
    timed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What the command line gives for --assert."""

    tag: str
    op: str
    value: float | str
    stat: str | None = None
    unit: str | None = None
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text or f"{self.tag}{':' + self.stat if self.stat else ''} {self.op} {self.value}{self.unit or ''}"

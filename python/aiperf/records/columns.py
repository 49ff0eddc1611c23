"""Record columns as numpy arrays.

A `Columns` is what metrics are computed from. Scalar columns are whole arrays; list columns (chunks) come in batches, so
that a report of a million requests never holds all chunks at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aiperf.records.cache import Keeper

__all__ = ["LIST_COLUMNS", "SCALAR_COLUMNS", "STRING_COLUMNS", "ChunkBatch", "Columns"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
ScanChunks: TypeAlias = Callable[[Bools, Floats | None, Sequence[Any], Bools | None], None]
"""(keep, row_tokens, sinks, chosen): the native pass over all chunks, `aiperf._core.scan_records`."""
ChunkArrays = tuple[Ints, Ints, NDArray[np.int32], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint8]]

SCALAR_COLUMNS: Final = (
    "phase",
    "worker",
    "connection",
    "url",
    "model",
    "session",
    "session_num",
    "turn",
    "request",
    "scheduled",
    "started",
    "sent",
    "body_sent",
    "headers",
    "first_byte",
    "first_content",
    "first_content_user",
    "first_output",
    "last_content",
    "end",
    "cancelled_at",
    "stamp_source",
    "merged",
    "dns_ns",
    "connect_ns",
    "tls_ns",
    "reused",
    "capped",
    "resent",
    "status",
    "error_kind",
    "cancelled",
    "bytes_out",
    "bytes_in",
    "isl",
    "requested_osl",
    "usage_prompt",
    "usage_completion",
    "usage_reasoning",
    "usage_cached",
    "counted_output",
    "counted_reasoning",
    "rtt_ns",
    "num_chunks",
    "num_content_chunks",
    "first_chunk_usage",
    "is_whole",
    "http_chunks",
    "server_queue_ns",
    "server_prefill_ns",
    "server_decode_ns",
    "server_total_ns",
    "server_arrival",
    "server_source",
    "generator",
)
LIST_COLUMNS: Final = ("chunk_ns", "chunk_lag_ns", "chunk_bytes", "chunk_text_bytes", "chunk_kind")
STRING_COLUMNS: Final = (
    "request_id",
    "correlation_id",
    "error_message",
    "finish_reason",
    "text",
    "reasoning",
    "tool",
    "usage_json",
    "speculation_json",
    "content_type",
    "content_encoding",
    "intermediary",
    "http_trace",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkBatch:
    """Chunks of consecutive rows [row0, row0 + len(offsets) − 1); chunk j of row i is at offsets[i] ≤ j < offsets[i + 1].

    chunk_ns int64 ns since run start; chunk_lag_ns int32 ns; chunk_bytes, chunk_text_bytes uint32; chunk_kind uint8 (1 content,
    2 reasoning, 3 tool, 4 role or empty, 5 usage, 6 other; bit 7: merged).
    """

    row0: int
    offsets: Ints
    chunk_ns: Ints
    chunk_lag_ns: NDArray[np.int32]
    chunk_bytes: NDArray[np.uint32]
    chunk_text_bytes: NDArray[np.uint32]
    chunk_kind: NDArray[np.uint8]

    @classmethod
    def of(cls, row0: int, arrays: ChunkArrays) -> ChunkBatch:
        """`arrays`: as the native core hands them over."""
        offsets, ns, lag_ns, num_bytes, text_bytes, kind = arrays
        return cls(
            row0=row0,
            offsets=offsets,
            chunk_ns=ns,
            chunk_lag_ns=lag_ns,
            chunk_bytes=num_bytes,
            chunk_text_bytes=text_bytes,
            chunk_kind=kind,
        )

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def is_content(self) -> Bools:
        """(chunks,) bool: chunks with text, reasoning or tool data (kinds 1 to 3)."""
        kind = self.chunk_kind & 0x7F
        return (kind >= 1) & (kind <= 3)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Rows of one run. `scalar(name)` gives float64 with NaN where absent; ids and flags have int/bool views below.

    `load`: reads a scalar column on first use. `strings`: reads a string column (list of str or None). `chunks`: iterates
    the list columns in row order. `start_wall_ns`: epoch ns of run time 0. Of many rows only the columns used last are kept.
    `scan`: the native pass over the chunks, None where they are no native records. `native_texts`: reads a string column for another
    native function.
    """

    num_rows: int
    load: Callable[[str], Floats]
    strings: Callable[[str], list[str | None]]
    batches: Callable[[], Iterator[ChunkBatch]]
    start_wall_ns: int = 0
    scan: ScanChunks | None = None
    native_texts: Callable[[str], Sequence[str | None]] | None = None
    keeper: Keeper = field(default_factory=Keeper, init=False)

    @classmethod
    def from_arrays(
        cls,
        scalars: Mapping[str, NDArray[np.generic]],
        chunks: tuple[ChunkBatch, ...] = (),
        strings: Mapping[str, list[str | None]] | None = None,
        start_wall_ns: int = 0,
    ) -> Columns:
        """Columns from literals, for tests and for imported results; missing scalar columns are all NaN."""
        num = len(next(iter(scalars.values()))) if scalars else 0
        texts = strings or {}

        def load(name: str) -> Floats:
            return scalars[name].astype(np.float64) if name in scalars else np.full(num, np.nan)

        return cls(
            num_rows=num,
            load=load,
            strings=lambda n: texts.get(n, [None] * num),
            batches=lambda: iter(chunks),
            start_wall_ns=start_wall_ns,
        )

    def scalar(self, name: str) -> Floats:
        """(rows,) float64: the column `name` of SCALAR_COLUMNS, NaN where absent."""
        return self.keeper.get(name, lambda: self.load(name))

    def texts(self, name: str) -> Sequence[str | None]:
        """(rows,) strings, for what does not look at each."""
        return self.strings(name) if self.native_texts is None else self.native_texts(name)

    def __getattr__(self, name: str) -> Floats:
        if name in SCALAR_COLUMNS:
            return self.scalar(name)
        raise AttributeError(name)

    def select(self, mask: Bools) -> Columns:
        """The rows where `mask` is true, in order; chunk batches are filtered lazily."""
        if mask.all():
            return self
        outer = self

        def batches() -> Iterator[ChunkBatch]:
            row = 0
            for b in outer.batches():
                keep = mask[b.row0 : b.row0 + b.num_rows]
                if keep.any():
                    yield _select_rows(b, keep, row)
                row += int(keep.sum())

        def strings(name: str) -> list[str | None]:
            values = outer.strings(name)
            return list(itertools.compress(values, mask.tolist()))

        num_rows = int(np.count_nonzero(mask))
        return Columns(
            num_rows=num_rows,
            load=lambda n: outer.scalar(n)[mask],
            strings=strings,
            batches=batches,
            start_wall_ns=self.start_wall_ns,
            scan=None if self.scan is None else _scan_of_rows(self.scan, mask),
        )


def _scan_of_rows(scan: ScanChunks, mask: Bools) -> ScanChunks:
    """The pass over the rows where `mask` is true."""

    def scan_chosen(keep: Bools, row_tokens: Floats | None, sinks: Sequence[Any], chosen: Bools | None) -> None:
        rows = mask
        if chosen is not None:
            rows = np.zeros(len(mask), dtype=np.bool_)
            rows[np.flatnonzero(mask)[chosen]] = True
        scan(keep, row_tokens, sinks, rows)

    return scan_chosen


def _select_rows(batch: ChunkBatch, keep: Bools, row0: int) -> ChunkBatch:
    if keep.all():
        return ChunkBatch(
            row0=row0,
            offsets=batch.offsets,
            chunk_ns=batch.chunk_ns,
            chunk_lag_ns=batch.chunk_lag_ns,
            chunk_bytes=batch.chunk_bytes,
            chunk_text_bytes=batch.chunk_text_bytes,
            chunk_kind=batch.chunk_kind,
        )
    counts = np.diff(batch.offsets)
    of_chunk = np.repeat(keep, counts)
    lo, hi = int(batch.offsets[0]), int(batch.offsets[-1])
    offsets = np.concatenate(([0], np.cumsum(counts[keep])))
    return ChunkBatch(
        row0=row0,
        offsets=offsets,
        chunk_ns=batch.chunk_ns[lo:hi][of_chunk],
        chunk_lag_ns=batch.chunk_lag_ns[lo:hi][of_chunk],
        chunk_bytes=batch.chunk_bytes[lo:hi][of_chunk],
        chunk_text_bytes=batch.chunk_text_bytes[lo:hi][of_chunk],
        chunk_kind=batch.chunk_kind[lo:hi][of_chunk],
    )

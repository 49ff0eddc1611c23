"""The pass over chunks in numpy: what the native one (`aiperf._core.scan_chunks`) is tested against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiperf.metrics import Bools, Floats, Ints
from aiperf.records import ChunkBatch, Columns

__all__ = ["ContentPiece", "content_pieces", "flow_steps"]

_PIECE_CHUNKS: Final = 1 << 4


@dataclass(frozen=True, kw_only=True)
class ContentPiece:
    """Content chunks (text, reasoning, tool) of some rows, in row order.

    `rows`: (r,) row numbers in the columns; chunk j of rows[i] is at offsets[i] ≤ j < offsets[i + 1], at least one each.
    `stamps`: (c,) int64 ns since run start; `text_bytes`: (c,) bytes of text; `merged`: (c,) the stamp is an upper bound;
    `lags`: (c,) int32 ns the program read the chunk after the kernel had it. `row_tokens`: (r,) tokens of each row, 0 if unknown.
    """

    rows: Ints
    offsets: Ints
    stamps: Ints
    text_bytes: Floats
    merged: Bools
    lags: NDArray[np.int32]
    row_tokens: Floats

    @cached_property
    def counts(self) -> Ints:
        return np.diff(self.offsets)

    @cached_property
    def _inner(self) -> Bools:
        """(c − 1,) true where chunk j + 1 belongs to the same row as chunk j."""
        inner = np.ones(max(len(self.stamps) - 1, 0), dtype=bool)
        inner[self.offsets[1:-1] - 1] = False
        return inner

    @cached_property
    def gaps(self) -> Ints:
        """(c − r,) int64 ns between consecutive chunks of a row; row i has counts[i] − 1 of them."""
        all_gaps: Ints = np.diff(self.stamps)
        return all_gaps if len(self.rows) == 1 else all_gaps[self._inner]

    @cached_property
    def gap_offsets(self) -> Ints:
        return self.offsets - np.arange(len(self.offsets))

    @cached_property
    def tokens(self) -> Floats:
        """(c,) tokens in each chunk: one in each with text if they are as many; else in proportion to text bytes; evenly if there is no text."""
        total = np.add.reduceat(self.text_bytes, self.offsets[:-1])
        even = total == 0
        factor = np.where(even, 0.0, self.row_tokens / np.where(even, 1.0, total))
        tokens: Floats = self.text_bytes * np.repeat(factor, self.counts)
        if even.any():
            tokens += np.repeat(np.where(even, self.row_tokens / self.counts, 0.0), self.counts)
        with_text = self.text_bytes > 0
        each: Bools = ~even & (np.add.reduceat(with_text.astype(np.int64), self.offsets[:-1]) == self.row_tokens)
        return np.where(np.repeat(each, self.counts), with_text, tokens)


def content_pieces(columns: Columns, keep: Bools, row_tokens: Floats | None = None) -> Iterator[ContentPiece]:
    """Pieces of the rows where `keep` is true; rows without content chunks are left out.

    `row_tokens`: (rows,) tokens to spread over the chunks, NaN where unknown; None if nobody asks for them.
    """
    for batch in columns.batches():
        yield from _pieces_of(batch, keep, row_tokens)


def _pieces_of(batch: ChunkBatch, keep: Bools, row_tokens: Floats | None) -> Iterator[ContentPiece]:
    offsets = np.asarray(batch.offsets, dtype=np.int64)
    row, last = 0, len(offsets) - 1
    while row < last:
        stop = int(np.searchsorted(offsets, offsets[row] + _PIECE_CHUNKS, side="right")) - 1
        stop = min(max(stop, row + 1), last)
        piece = _piece(batch, offsets, row, stop, keep, row_tokens)
        if piece is not None:
            yield piece
        row = stop


def _piece(
    batch: ChunkBatch, offsets: Ints, row: int, stop: int, keep: Bools, row_tokens: Floats | None
) -> ContentPiece | None:
    lo, hi = int(offsets[row]), int(offsets[stop])
    if lo == hi:
        return None
    kind = batch.chunk_kind[lo:hi]
    bare = kind & 0x7F
    use = (bare - 1) < 3  # kinds 1 to 3; 0 wraps to 255
    local = offsets[row : stop + 1] - lo
    kept_rows = keep[batch.row0 + row : batch.row0 + stop]
    if not kept_rows.all():
        use &= np.repeat(kept_rows, np.diff(local))
    before = np.concatenate(([0], np.cumsum(use, dtype=np.int64)))[local]
    counts = np.diff(before)
    rows = np.flatnonzero(counts)
    if not len(rows):
        return None
    chosen = np.flatnonzero(use)
    whole = len(chosen) == hi - lo
    stamps = batch.chunk_ns[lo:hi] if whole else batch.chunk_ns[lo:hi][chosen]
    text = batch.chunk_text_bytes[lo:hi] if whole else batch.chunk_text_bytes[lo:hi][chosen]
    merged = (kind if whole else kind[chosen]) > 0x7F
    lags = batch.chunk_lag_ns[lo:hi] if whole else batch.chunk_lag_ns[lo:hi][chosen]
    piece_offsets = np.concatenate(([0], np.cumsum(counts[rows])))
    rows += batch.row0 + row
    tokens = np.zeros(len(rows)) if row_tokens is None else np.nan_to_num(row_tokens[rows])
    return ContentPiece(
        rows=rows,
        offsets=piece_offsets,
        stamps=stamps,
        text_bytes=text.astype(np.float64),
        merged=merged,
        lags=lags,
        row_tokens=tokens,
    )


def flow_steps(piece: ContentPiece) -> tuple[Ints, Floats, Floats]:
    """(instants, change of the decode rate at each in tokens/s, tokens that arrive at each)."""
    tokens = piece.tokens
    stamps = piece.stamps
    first = np.zeros(len(stamps), dtype=bool)
    first[piece.offsets[:-1]] = True
    later = np.empty(len(stamps), dtype=bool)
    later[0] = True
    np.greater(stamps[1:], stamps[:-1], out=later[1:])
    instant = np.flatnonzero(first | later)
    if len(instant) < len(stamps):
        tokens = np.add.reduceat(tokens, instant)
        first = first[instant]
        stamps = stamps[instant]
    rate = np.zeros(len(stamps))
    np.divide(tokens[1:] * 1e9, np.diff(stamps), out=rate[1:], where=~first[1:])
    # At an instant the rate of its own gap ends and the next gap's begins.
    steps = -rate
    steps[:-1] += np.where(first[1:], 0.0, rate[1:])
    return stamps, steps, tokens

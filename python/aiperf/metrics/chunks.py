"""One pass over the chunks of a run: gaps, second token, stalls, and when which tokens arrived.

Chunks never exist all at once: batches are cut into pieces of whole rows (about a quarter of a million chunks each, which
stay in the processor's cache), and accumulators take what they need from each piece.

A chunk is not a token. A reply's counted tokens are spread over its content chunks in proportion to the UTF-8 bytes of
text in each, so bundled chunks (speculative decoding, parsers that hold text back) get their share and empty ones none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aiperf.metrics import Bools, Floats, Ints
from aiperf.metrics.stats import STANDARD_PERCENTILES, Stats, inner, needed_count, percentiles_of_sorted
from aiperf.records import ChunkBatch, Columns

__all__ = [
    "Accumulator",
    "ChunkFacts",
    "ContentPiece",
    "GapPool",
    "LagPool",
    "LongestGap",
    "RowFacts",
    "content_pieces",
    "scan",
    "scan_rows",
]

_PIECE_CHUNKS: Final = 1 << 18
_EXACT_GAPS: Final = 20_000_000
"""Gaps kept for exact percentiles (160 MB); beyond that a histogram with relative bins of 2⁻¹⁰."""
_MANTISSA_BITS: Final = 10
_SHIFT: Final = 23 - _MANTISSA_BITS


@dataclass(frozen=True)
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
        """(c,) tokens in each chunk: the row's tokens in proportion to text bytes; evenly if no chunk has text."""
        total = np.add.reduceat(self.text_bytes, self.offsets[:-1])
        even = total == 0
        factor = np.where(even, 0.0, self.row_tokens / np.where(even, 1.0, total))
        tokens: Floats = self.text_bytes * np.repeat(factor, self.counts)
        if even.any():
            tokens += np.repeat(np.where(even, self.row_tokens / self.counts, 0.0), self.counts)
        return tokens


class Accumulator(Protocol):
    """Takes one piece after another."""

    def add(self, piece: ContentPiece) -> None: ...


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
    return ContentPiece(rows, piece_offsets, stamps, text.astype(np.float64), merged, lags, tokens)


def scan(columns: Columns, keep: Bools, accumulators: Sequence[Accumulator], row_tokens: Floats | None = None) -> None:
    """One pass over the chunks of the rows where `keep` is true; `row_tokens` as `content_pieces` takes them."""
    for piece in content_pieces(columns, keep, row_tokens):
        for accumulator in accumulators:
            accumulator.add(piece)


@dataclass(frozen=True, slots=True)
class LongestGap:
    """The longest gap between content chunks of all: ns, its row, and the stamp at which it began. The first of equal ones."""

    gap: int
    row: int
    begin: int


@dataclass
class RowFacts:
    """Per row, from its chunks; NaN where there is none.

    `second_content`: stamp of the second content chunk. `longest_gap`: the longest gap between chunks, ns. `first_share`: share
    of the text in the first chunk. `merged`: content chunks with an upper bound for a stamp.
    """

    num_rows: int
    merged: int = 0
    chunks: int = 0
    longest: LongestGap | None = None
    _arrays: dict[str, Floats] = field(default_factory=dict)

    @property
    def second_content(self) -> Floats:
        return self._array("second_content")

    @property
    def longest_gap(self) -> Floats:
        return self._array("longest_gap")

    @property
    def first_share(self) -> Floats:
        return self._array("first_share")

    def _array(self, name: str) -> Floats:
        found = self._arrays.get(name)
        return np.full(self.num_rows, np.nan) if found is None else found

    def _put(self, name: str, rows: Ints, values: Floats | Ints) -> None:
        """Arrays are made by the first value: whole replies have no second chunk and no gap."""
        if name not in self._arrays:
            self._arrays[name] = np.full(self.num_rows, np.nan)
        self._arrays[name][rows] = values

    def add(self, piece: ContentPiece) -> None:
        starts = piece.offsets[:-1]
        self.merged += int(np.count_nonzero(piece.merged))
        self.chunks += len(piece.stamps)
        total = np.add.reduceat(piece.text_bytes, starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(total > 0, piece.text_bytes[starts] / total, 1.0 / piece.counts)
        self._put("first_share", piece.rows, share)
        several = np.flatnonzero(piece.counts > 1)
        if not len(several):
            return
        rows = piece.rows[several]
        self._put("second_content", rows, piece.stamps[starts[several] + 1])
        longest = np.maximum.reduceat(piece.gaps, piece.gap_offsets[several])
        self._put("longest_gap", rows, longest)
        at = int(np.argmax(longest))
        if self.longest is None or longest[at] > self.longest.gap:
            i = int(several[at])
            own = piece.gaps[piece.gap_offsets[i] : piece.gap_offsets[i + 1]]
            begin = piece.stamps[piece.offsets[i] + int(np.argmax(own))]
            self.longest = LongestGap(int(longest[at]), int(rows[at]), int(begin))


@dataclass
class GapPool:
    """All gaps between content chunks, for inter-chunk latency.

    Up to 20 million gaps are kept and give exact percentiles; beyond that they come from a histogram with bins 2⁻¹⁰ wide
    relative to their value (midpoints: error ≤ 0.05 %); mean, std, min and max are exact either way. Memory ≤ 170 MB.
    """

    expected: int | None = None
    exact_limit: int = _EXACT_GAPS
    threshold_ns: int | None = None
    count: int = 0
    over_threshold: int = 0
    total: float = 0.0
    squares: float = 0.0
    smallest: int = 0
    largest: int = 0
    _kept: Floats | None = None
    _bins: Ints | None = None

    def add(self, piece: ContentPiece) -> None:
        gaps = piece.gaps
        if not len(gaps):
            return
        if self.threshold_ns is not None:
            self.over_threshold += int(np.count_nonzero(gaps > self.threshold_ns))
        low, high = int(gaps.min()), int(gaps.max())
        self.smallest = low if self.count == 0 else min(self.smallest, low)
        self.largest = max(self.largest, high)
        values = gaps.astype(np.float64)
        self.total += float(values.sum())
        self.squares += inner(values, values)
        before, self.count = self.count, self.count + len(gaps)
        if self._bins is None and max(self.count, self.expected or 0) <= self.exact_limit:
            if self._kept is None:
                self._kept = np.empty(min(self.expected or self.exact_limit, self.exact_limit))
            if self.count > len(self._kept):
                grown = np.empty(self.exact_limit)
                grown[:before] = self._kept[:before]
                self._kept = grown
            self._kept[before : self.count] = values
            return
        if self._bins is None:
            self._bins = np.zeros(0, dtype=np.int64)
            if self._kept is not None:
                self._count_bins(self._kept[:before])
                self._kept = None
        self._count_bins(values)

    def _count_bins(self, values: Floats) -> None:
        # The bits of a positive float32 are its logarithm, piecewise linear: exponent, then mantissa.
        found = np.bincount(np.maximum(values, 0).astype(np.float32).view(np.int32) >> _SHIFT)
        bins = self._bins
        assert bins is not None  # noqa: S101 — set by the only caller
        if len(found) > len(bins):
            bins = np.concatenate((bins, np.zeros(len(found) - len(bins), dtype=np.int64)))
        bins[: len(found)] += found
        self._bins = bins

    def _exact(self, kept: Floats, divisor: float, percentiles: Sequence[float]) -> Stats:
        """As `compute_stats(kept / divisor)` without its copies: the gaps are the largest thing in memory. Sorts `kept`."""
        kept.sort()
        mean = min(max(self.total / self.count, float(kept[0])), float(kept[-1]))
        squares = 0.0
        for start in range(0, self.count, _PIECE_CHUNKS):
            off = kept[start : start + _PIECE_CHUNKS] - mean
            squares += inner(off, off)
        asked = [p for p in percentiles if self.count >= needed_count(p)]
        found: dict[float, float | None] = dict.fromkeys(percentiles)
        values = percentiles_of_sorted(kept, asked)
        found.update((p, v / divisor) for p, v in zip(asked, values, strict=True))
        std = float(np.sqrt(squares / self.count))
        return Stats(
            mean / divisor, float(kept[0]) / divisor, float(kept[-1]) / divisor, std / divisor, self.total / divisor,
            self.count, found,
        )  # fmt: skip

    def stats(self, divisor: float, percentiles: Sequence[float] = STANDARD_PERCENTILES) -> Stats | None:
        """Statistics in ns / divisor; None if there is no gap."""
        if not self.count:
            return None
        if self._bins is None and self._kept is not None:
            return self._exact(self._kept[: self.count], divisor, percentiles)
        mean = self.total / self.count
        std = np.sqrt(max(0.0, self.squares / self.count - mean * mean))
        found: dict[float, float | None] = {}
        for p in percentiles:
            found[p] = self._quantile(p / 100) / divisor if self.count >= needed_count(p) else None
        return Stats(
            mean / divisor, self.smallest / divisor, self.largest / divisor, float(std) / divisor,
            self.total / divisor, self.count, found, 2.0 ** -(_MANTISSA_BITS + 1),
        )  # fmt: skip

    def counts_between(self, edges_ns: Sequence[float]) -> list[int]:
        """Gaps in [edges[i], edges[i + 1]); from the histogram, a gap within 0.1 % of an edge may be on its other side."""
        if self._kept is not None:
            kept = self._kept[: self.count]
            kept.sort()
            before = np.searchsorted(kept, edges_ns)
        elif self._bins is not None:
            total = np.concatenate(([0], np.cumsum(self._bins)))
            capped = np.minimum(np.asarray(edges_ns, dtype=np.float64), 2.0**62).astype(np.float32)
            before = total[np.minimum(capped.view(np.int32) >> _SHIFT, len(self._bins))]
            before = np.where(np.isinf(edges_ns), self.count, before)
        else:
            return [0] * (len(edges_ns) - 1)
        return [int(c) for c in np.diff(before)]

    def _quantile(self, q: float) -> float:
        bins = self._bins
        assert bins is not None  # noqa: S101 — only without kept values
        rank = q * (self.count - 1)
        index = int(np.searchsorted(np.cumsum(bins), rank, side="right"))
        edges = (np.array([index, index + 1], dtype=np.int32) << _SHIFT).view(np.float32)
        middle = 0.0 if index == 0 else float(edges.mean(dtype=np.float64))
        return min(max(middle, float(self.smallest)), float(self.largest))


@dataclass
class LagPool:
    """Receive lags (user-space stamp − kernel stamp) in a histogram with bins 2⁻⁷ wide; ns."""

    count: int = 0
    largest: int = 0
    _bins: Ints = field(default_factory=lambda: np.zeros(1 << 15, dtype=np.int64))

    def add(self, piece: ContentPiece) -> None:
        lags = np.maximum(piece.lags, 0)
        self.count += len(lags)
        self.largest = max(self.largest, int(lags.max()))
        self._bins += np.bincount(lags.astype(np.float32).view(np.int32) >> 16, minlength=len(self._bins))

    def percentile(self, p: float) -> float:
        """ns, the bin's middle (error ≤ 0.4 %); NaN without chunks."""
        if not self.count:
            return float("nan")
        index = int(np.searchsorted(np.cumsum(self._bins), p / 100 * (self.count - 1), side="right"))
        edges = (np.array([index, index + 1], dtype=np.int32) << 16).view(np.float32)
        return 0.0 if index == 0 else min(float(edges.mean(dtype=np.float64)), float(self.largest))


@dataclass(frozen=True)
class ChunkFacts:
    """What the pass found: facts per row, the pool of gaps and that of receive lags."""

    rows: RowFacts
    gaps: GapPool
    lags: LagPool


def scan_rows(
    columns: Columns,
    keep: Bools,
    more: Sequence[Accumulator] = (),
    threshold_ns: int | None = None,
    row_tokens: Floats | None = None,
) -> ChunkFacts:
    """The usual pass: facts per row, gaps, and further accumulators."""
    expected = _expected_gaps(columns, keep)
    facts = ChunkFacts(RowFacts(columns.num_rows), GapPool(expected or None, threshold_ns=threshold_ns), LagPool())
    scan(columns, keep, (facts.rows, facts.gaps, facts.lags, *more), row_tokens)
    return facts


def _expected_gaps(columns: Columns, keep: Bools) -> int | None:
    """None if it is not known before the pass."""
    content = columns.scalar("num_content_chunks")[keep]
    known = len(content) > 0 and not np.isnan(content).any()
    return int(np.maximum(content - 1, 0).sum()) if known else None

"""One pass over the chunks of a run: gaps, second token, stalls, and when which tokens arrived.

The pass is native (`aiperf._core.scan_records`): each row's content chunks (text, reasoning, tool calls) go to every sink while they are in
the processor's cache. Chunks of a run never exist all at once: they come in batches of rows.

A chunk is not a token. A response with as many tokens as content chunks with text has one in each of them. Otherwise its counted tokens are spread over its
content chunks in proportion to the UTF-8 bytes of text in each, so bundled chunks (speculative decoding, parsers that hold text
back) get their share and empty ones none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np

from aiperf._core import Flow, GapHeat, GapLists, RowStamps, TokenCurve, WindowGaps, scan_chunks
from aiperf._core import GapPool as GapSink
from aiperf._core import LagPool as LagSink
from aiperf._core import RowFacts as RowSink
from aiperf.metrics import Bools, Floats
from aiperf.metrics.stats import STANDARD_PERCENTILES, Stats, interpolated, needed_count
from aiperf.records import Columns

__all__ = ["ChunkScan", "ChunkSink", "GapPool", "LagPool", "LongestGap", "RowChunks", "scan", "scan_rows"]

ChunkSink: TypeAlias = RowSink | GapSink | GapLists | LagSink | Flow | WindowGaps | GapHeat | TokenCurve | RowStamps
"""Takes what it needs from each row's content chunks."""

_EXACT_GAPS: Final = 20_000_000
"""Gaps kept for exact percentiles (80 MB); beyond that a histogram with relative bins of 2⁻¹⁰."""
_GAP_ERROR: Final = 2.0**-11


def scan(columns: Columns, keep: Bools, sinks: Sequence[ChunkSink], row_tokens: Floats | None = None) -> None:
    """One pass over the content chunks of the rows where `keep` is true.

    `row_tokens`: (rows,) tokens to spread over the chunks, NaN where unknown; None if no sink asks for them.
    """
    if columns.scan is not None:
        columns.scan(keep, row_tokens, list(sinks), None)
        return
    for batch in columns.batches():
        scan_chunks(
            batch.row0,
            batch.offsets,
            batch.chunk_ns,
            batch.chunk_lag_ns,
            batch.chunk_text_bytes,
            batch.chunk_kind,
            keep,
            row_tokens,
            list(sinks),
        )


@dataclass(frozen=True, slots=True)
class LongestGap:
    """The longest gap between content chunks of all: ns, its row, and the timestamp at which it began. The first of equal ones."""

    gap: int
    row: int
    begin: int


@dataclass
class RowChunks:
    """Per row, from its chunks, when the pass is over; NaN where there is none.

    `second_content`: timestamp of the second content chunk. `longest_gap`: the longest gap between chunks, ns. `first_share`: share
    of the text in the first chunk. `with_text`: content chunks that have text. `merged`: content chunks with an upper bound for a timestamp.
    """

    num_rows: int
    sink: RowSink = field(init=False)

    def __post_init__(self) -> None:
        self.sink = RowSink(self.num_rows)

    @property
    def merged(self) -> int:
        return self.sink.coalesced

    @property
    def chunks(self) -> int:
        return self.sink.chunks

    @property
    def longest(self) -> LongestGap | None:
        found = self.sink.longest
        return None if found is None else LongestGap(*found)

    # Taken once: whole responses have no second chunk and no gap, and then no array.
    @cached_property
    def _second_content(self) -> Floats | None:
        return self.sink.take_second_content()

    @cached_property
    def _longest_gap(self) -> Floats | None:
        return self.sink.take_longest_gap()

    @cached_property
    def _first_share(self) -> Floats | None:
        return self.sink.take_first_share()

    @cached_property
    def _with_text(self) -> Floats | None:
        return self.sink.take_with_text()

    @property
    def second_content(self) -> Floats:
        return self._or_absent(self._second_content)

    @property
    def longest_gap(self) -> Floats:
        return self._or_absent(self._longest_gap)

    @property
    def first_share(self) -> Floats:
        return self._or_absent(self._first_share)

    @property
    def with_text(self) -> Floats:
        return self._or_absent(self._with_text)

    def _or_absent(self, values: Floats | None) -> Floats:
        return np.full(self.num_rows, np.nan) if values is None else values


@dataclass
class GapPool:
    """All gaps between content chunks, for inter-chunk latency.

    Up to 20 million gaps are kept (in four bytes each) and give exact percentiles; beyond that they come from a histogram with bins
    2⁻¹⁰ wide relative to their value (midpoints: error ≤ 0.05 %); mean, std, min and max are exact either way.
    """

    expected: int | None = None
    exact_limit: int = _EXACT_GAPS
    threshold_ns: int | None = None
    sink: GapSink = field(init=False)

    def __post_init__(self) -> None:
        self.sink = GapSink(self.expected, self.exact_limit, self.threshold_ns)

    @property
    def count(self) -> int:
        return self.sink.count

    @property
    def over_threshold(self) -> int:
        return self.sink.over_threshold

    def stats(self, divisor: float, percentiles: Sequence[float] = STANDARD_PERCENTILES) -> Stats | None:
        """Statistics in ns / divisor; None if there is no gap."""
        pool, count = self.sink, self.sink.count
        if not count:
            return None
        smallest, largest = float(pool.smallest), float(pool.largest)
        # The mean of equal gaps may differ from them in the last bit; it must not leave [min, max].
        mean = min(max(pool.total / count, smallest), largest)
        by_percentile: dict[float, float | None] = dict.fromkeys(percentiles)
        asked = [p for p in percentiles if count >= needed_count(p)]
        if pool.is_exact:
            values = interpolated(count, asked, lambda ranks: pool.order(ranks).astype(np.float64))
        else:
            values = [pool.at_rank(p / 100 * (count - 1)) for p in asked]
        by_percentile.update((p, value / divisor) for p, value in zip(asked, values, strict=True))
        return Stats(
            avg=mean / divisor,
            min=smallest / divisor,
            max=largest / divisor,
            std=pool.std / divisor,
            sum=pool.total / divisor,
            count=count,
            percentiles=by_percentile,
            error=0.0 if pool.is_exact else _GAP_ERROR,
        )

    def counts_between(self, edges_ns: Sequence[float]) -> list[int]:
        """Gaps in [edges[i], edges[i + 1]); from the histogram, a gap within 0.1 % of an edge may be on its other side."""
        below = self.sink.below(list(edges_ns))
        return [upper - lower for lower, upper in itertools.pairwise(below)]


@dataclass
class LagPool:
    """Receive lags (user-space timestamp − kernel timestamp) in a histogram with bins 2⁻⁷ wide; ns."""

    sink: LagSink = field(default_factory=LagSink)

    def percentile(self, p: float) -> float:
        """ns, the bin's middle (error ≤ 0.4 %); NaN without chunks."""
        return self.sink.quantile(p / 100)


@dataclass(frozen=True)
class ChunkScan:
    """What the pass found: facts per row, the pool of gaps and that of receive lags."""

    rows: RowChunks
    gaps: GapPool
    lags: LagPool


def scan_rows(
    columns: Columns,
    keep: Bools,
    more: Sequence[ChunkSink] = (),
    threshold_ns: int | None = None,
    row_tokens: Floats | None = None,
) -> ChunkScan:
    """The usual pass: facts per row, gaps, and further sinks."""
    expected = _expected_gaps(columns, keep)
    facts = ChunkScan(RowChunks(columns.num_rows), GapPool(expected or None, threshold_ns=threshold_ns), LagPool())
    scan(columns, keep, (facts.rows.sink, facts.gaps.sink, facts.lags.sink, *more), row_tokens)
    return facts


def _expected_gaps(columns: Columns, keep: Bools) -> int | None:
    """None if it is not known before the pass."""
    content = columns.scalar("num_content_chunks")[keep]
    known = len(content) > 0 and not np.isnan(content).any()
    return int(np.maximum(content - 1, 0).sum()) if known else None

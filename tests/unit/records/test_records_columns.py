"""`Columns` in memory: what metrics rely on."""

from __future__ import annotations

import numpy as np
import pytest

from aiperf.records import ChunkBatch, Columns


def _batch(row0: int, counts: list[int], first: int = 0) -> ChunkBatch:
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    num = int(offsets[-1])
    return ChunkBatch(
        row0=row0,
        offsets=offsets,
        chunk_ns=np.arange(first, first + num, dtype=np.int64),
        chunk_lag_ns=np.zeros(num, np.int32),
        chunk_bytes=np.full(num, 9, np.uint32),
        chunk_text_bytes=np.full(num, 4, np.uint32),
        chunk_kind=np.array([1, 0x82, 4, 5], np.uint8)[np.arange(num) % 4],
    )


def test_selecting_rows_keeps_their_chunks_and_renumbers_them() -> None:
    """Guards against chunks of a warm-up request ending up in a profiling request."""
    batches = (_batch(0, [2, 0, 3]), _batch(3, [1, 4], first=5))
    columns = Columns.from_arrays({"sent": np.arange(5.0)}, batches, {"text": ["a", None, "c", "d", "e"]})
    chosen = columns.select(np.array([False, True, True, False, True]))
    assert chosen.num_rows == 3
    assert chosen.sent.tolist() == [1.0, 2.0, 4.0]
    assert chosen.strings("text") == [None, "c", "e"]
    parts = list(chosen.batches())
    assert [p.row0 for p in parts] == [0, 2]
    assert [p.offsets.tolist() for p in parts] == [[0, 0, 3], [0, 4]]
    assert [p.chunk_ns.tolist() for p in parts] == [[2, 3, 4], [6, 7, 8, 9]]


def test_content_is_text_reasoning_and_tools_merged_or_not() -> None:
    assert _batch(0, [4]).is_content.tolist() == [True, True, False, False]


def test_a_name_that_is_no_column_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = Columns.from_arrays({"sent": np.zeros(1)}).sendt

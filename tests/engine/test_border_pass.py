"""The native pass over records: the same as over their numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aiperf import _core
from aiperf.metrics.chunks import GapPool, LagPool, RowChunks, scan
from aiperf.records import Columns, finalise, open_run

Drawn = tuple[list[int], list[bool], list[bool], list[bool]]


def write_run(folder: Path, chunks: Sequence[int]) -> None:
    rng = np.random.default_rng(0)
    total, rows = sum(chunks), len(chunks)
    lists: dict[str, NDArray[np.int64] | NDArray[np.int32] | NDArray[np.uint32] | NDArray[np.uint8]] = {
        "offsets": np.concatenate(([0], np.cumsum(chunks, dtype=np.int64))),
        "chunk_ns": np.cumsum(rng.integers(1, 10**7, total)),
        "chunk_lag_ns": rng.integers(1, 10**5, total).astype(np.int32),
        "chunk_text_bytes": rng.integers(0, 9, total).astype(np.uint32),
        "chunk_kind": rng.integers(1, 7, total).astype(np.uint8),
    }
    columns: dict[str, NDArray[np.int64] | NDArray[np.bool_]] = {
        "sent": np.arange(rows),
        "reused": np.ones(rows, dtype=np.bool_),
    }
    _core.write_records(folder / "records.parquet", columns, lists)


def facts_of(columns: Columns, keep: list[bool]) -> tuple[object, ...]:
    rows, gaps, lags = RowChunks(columns.num_rows), GapPool(), LagPool()
    curve = _core.TokenCurve(np.array([0.0, 1e7, 3e7, 1e9]))
    scan(
        columns,
        np.array(keep, dtype=np.bool_),
        (rows.sink, gaps.sink, lags.sink, curve),
        np.arange(1.0, columns.num_rows + 1),
    )
    facts = [a.tolist() for a in map(np.nan_to_num, (rows.second_content, rows.longest_gap, rows.first_share))]
    return facts, rows.chunks, rows.longest, gaps.stats(1.0), lags.sink.count, curve.tokens().tolist()


def run_and_masks(draw: st.DrawFn) -> Drawn:
    chunks = draw(st.lists(st.integers(0, 6), min_size=1, max_size=12))
    flags = st.lists(st.booleans(), min_size=12, max_size=12)
    first, second, keep = (draw(flags)[: len(chunks)] for _ in range(3))
    return chunks, first, second, keep


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(drawn=st.composite(run_and_masks)())
def test_chosen_rows_are_passed_as_their_arrays_would_be(tmp_path: Path, drawn: Drawn) -> None:
    chunks, first, second, keep = drawn
    write_run(tmp_path, chunks)
    native = open_run(tmp_path)
    plain = replace(native, scan=None)
    once = (native.select(np.array(first)), plain.select(np.array(first)))
    twice = tuple(c.select(np.array(second)[np.array(first)]) for c in once)
    for ours, theirs in ((native, plain), once, twice):
        assert ours.num_rows == theirs.num_rows
        assert facts_of(ours, keep[: ours.num_rows]) == facts_of(theirs, keep[: theirs.num_rows])


def test_a_piece_is_passed_as_its_arrays_would_be(tmp_path: Path) -> None:
    write_run(tmp_path, [3, 0, 5, 1])
    pieces: list[Columns] = []
    finalise(tmp_path, None, pieces.append)
    (piece,) = pieces
    keep = [True, True, False, True]
    assert facts_of(piece, keep) == facts_of(replace(piece, scan=None), keep)


def test_a_pass_over_other_rows_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, [3, 0, 5])
    records = _core.Records(tmp_path / "records.parquet")
    few, all_rows = np.ones(2, dtype=np.bool_), np.ones(3, dtype=np.bool_)
    for keep, chosen in ((few, None), (few, all_rows), (all_rows, few)):
        with pytest.raises(ValueError, match="chunk_ns"):
            _core.scan_records(records, keep, None, [_core.RowFacts(3)], chosen=chosen)


def test_texts_are_a_sequence(tmp_path: Path) -> None:
    ids: list[str | None] = ["a9c5aee6-21a2-4aeb-a671-7303c992d0df", "00000000-0000-0000-0000-00000000000f"]
    path = tmp_path / "records.parquet"
    strings: dict[str, list[str | None]] = {"request_id": ids, "finish_reason": ['"stop"\n', None]}
    _core.write_records(path, {"sent": np.arange(2)}, None, strings)
    (piece,) = _core.Records(path).pieces()
    texts = piece.texts("request_id")
    assert (len(texts), list(texts), texts[-1], piece.strings("request_id")) == (2, ids, ids[1], ids)
    assert list(piece.texts("finish_reason")) == ['"stop"\n', None]
    assert list(piece.texts("text")) == [None, None]
    with pytest.raises(IndexError):
        texts[2]
    with pytest.raises(ValueError, match="no record column `nothing`"):
        piece.texts("nothing")


def test_columns_of_one_value_read_as_any_other(tmp_path: Path) -> None:
    write_run(tmp_path, [1, 2, 3])
    records, columns = _core.Records(tmp_path / "records.parquet"), open_run(tmp_path)
    for name in ("reused", "headers", "sent", "num_chunks"):
        for _ in range(2):
            columns.keeper.clear()
            np.testing.assert_array_equal(columns.scalar(name), records.scalar(name))

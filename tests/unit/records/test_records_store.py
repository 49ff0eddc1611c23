"""`records.parquet` through the border: written from columns, read back, finalised, recounted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aiperf import _core
from aiperf.errors import ResultError
from aiperf.records import Columns, finalise, open_records, open_run
from aiperf.records.columns import LIST_COLUMNS, SCALAR_COLUMNS, STRING_COLUMNS
from aiperf.records.schema import COLUMNS, RECORDS_FILE, SCHEMA_VERSION

START_NS = 1_795_491_051_200_108_995
ID = "a9c5aee6-21a2-4aeb-a671-7303c992d0df"


def _write(run_dir: Path, rows: int = 4, *, texts: bool = True) -> None:
    """Row i has i chunks 1 ms apart, `sent` i seconds, no `headers` in odd rows."""
    counts = np.arange(rows)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    index = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], counts)
    sent = counts * 1_000_000_000
    columns = {
        "sent": sent,
        "headers": np.where(counts % 2, np.nan, sent + 1.0),
        "isl": counts.astype(np.uint32),
        "status": np.full(rows, 200, np.uint16),
        "reused": counts > 0,
    }
    lists = {
        "offsets": offsets,
        "chunk_ns": np.repeat(sent, counts) + index * 1_000_000,
        "chunk_kind": np.where(index == 1, 0x82, 1).astype(np.uint8),
    }
    strings: dict[str, list[str | None]] = {"request_id": [ID] * rows, "finish_reason": ["stop"] * (rows - 1) + [None]}
    if texts:
        strings |= {"text": [f"reply number {i}" if i else None for i in range(rows)], "reasoning": [None] * rows}
    path = run_dir / RECORDS_FILE
    assert _core.write_records(path, columns, lists, strings, metadata=json.dumps({"start_wall_ns": START_NS})) == rows


def test_columns_come_back_as_written(tmp_path: Path) -> None:
    _write(tmp_path)
    run = open_run(tmp_path)
    assert (run.num_rows, run.start_wall_ns) == (4, START_NS)
    assert run.sent.tolist() == [0.0, 1e9, 2e9, 3e9]
    np.testing.assert_array_equal(run.headers, [1.0, np.nan, 2e9 + 1, np.nan])
    assert run.reused.tolist() == [0.0, 1.0, 1.0, 1.0]
    assert run.strings("request_id") == [ID] * 4
    assert run.strings("finish_reason") == ["stop", "stop", "stop", None]
    assert run.strings("text") == [None, "reply number 1", "reply number 2", "reply number 3"]


def test_columns_left_out_follow_from_the_rest(tmp_path: Path) -> None:
    _write(tmp_path)
    run = open_run(tmp_path)
    assert run.num_chunks.tolist() == [0, 1, 2, 3]
    assert run.num_content_chunks.tolist() == [0, 1, 2, 3]
    assert run.merged.tolist() == [0, 0, 1, 1]
    assert run.request.tolist() == [0, 1, 2, 3]
    assert np.isnan(run.counted_output).all()
    assert run.error_kind.tolist() == [0, 0, 0, 0]


def test_chunks_come_in_batches_with_offsets_from_zero(tmp_path: Path) -> None:
    _write(tmp_path, rows=3000)  # 4.5 million chunks: more than one row group
    run = open_run(tmp_path)
    row, total = 0, 0
    for batch in run.batches():
        assert batch.row0 == row
        assert batch.offsets[0] == 0
        assert np.diff(batch.offsets).tolist() == list(range(row, row + batch.num_rows))
        assert batch.offsets[-1] == len(batch.chunk_ns) == len(batch.chunk_kind) < 3_000_000
        filled = np.diff(batch.offsets) > 0
        first = batch.chunk_ns[batch.offsets[:-1][filled]]
        np.testing.assert_array_equal(first, run.sent[row : row + batch.num_rows][filled])
        row += batch.num_rows
        total += len(batch.chunk_ns)
    assert (row, total) == (3000, 3000 * 2999 // 2)


def test_schema_and_native_columns_agree(tmp_path: Path) -> None:
    """Guards against a column that one side has and the other does not know."""
    _write(tmp_path)
    records = open_records(tmp_path)
    assert records.columns == [c.name for c in COLUMNS]
    lists = [c.name for c in COLUMNS if c.dtype.startswith("list")]
    strings = [c.name for c in COLUMNS if c.dtype in {"utf8", "large_utf8", "uuid"}]
    assert lists == list(LIST_COLUMNS)
    assert set(strings) == set(STRING_COLUMNS)
    assert {c.name for c in COLUMNS} - set(lists) - set(strings) == set(SCALAR_COLUMNS)
    for name in SCALAR_COLUMNS:
        assert records.scalar(name).shape == (4,)
    for name in STRING_COLUMNS:
        assert len(records.strings(name)) == 4


def test_texts_are_not_kept_unless_given(tmp_path: Path) -> None:
    _write(tmp_path, texts=False)
    records = open_records(tmp_path)
    assert records.columns == [c.name for c in COLUMNS if c.kept != "raw"]
    assert records.strings("text") == [None] * 4
    with pytest.raises(ValueError, match="no record column `txt`"):
        records.strings("txt")


def test_a_finalised_run_is_read_again_with_its_counts(tmp_path: Path) -> None:
    """`aiperf report` reuses the counts: no tokenizer is asked."""
    _write(tmp_path)
    before = (tmp_path / RECORDS_FILE).read_bytes()
    seen: list[Columns] = []
    done = finalise(tmp_path, lambda _: pytest.fail("counted"), seen.append)
    assert (done.num_rows, done.is_complete) == (4, True)
    assert [c.num_rows for c in seen] == [4]
    assert next(seen[0].batches()).offsets.tolist() == [0, 0, 1, 3, 6]
    assert (tmp_path / RECORDS_FILE).read_bytes() == before


def test_recount_counts_the_texts_kept(tmp_path: Path) -> None:
    _write(tmp_path)
    asked: list[list[str]] = []

    def count(texts: list[str]) -> np.ndarray:
        asked.append(texts)
        return np.array([len(t.split()) for t in texts])

    seen: list[Columns] = []
    finalise(tmp_path, count, seen.append, recount=True)
    assert asked == [["reply number 1", "reply number 2", "reply number 3"]]
    for columns in (seen[0], open_run(tmp_path)):
        np.testing.assert_array_equal(columns.counted_output, [np.nan, 3, 3, 3])
        np.testing.assert_array_equal(columns.counted_reasoning, [np.nan, 0, 0, 0])
    assert open_run(tmp_path).start_wall_ns == START_NS
    assert [p.name for p in tmp_path.iterdir()] == [RECORDS_FILE]


def test_recount_needs_the_texts(tmp_path: Path) -> None:
    _write(tmp_path, texts=False)
    with pytest.raises(ResultError, match="were not kept"):
        finalise(tmp_path, lambda t: np.zeros(len(t), np.int64), lambda _: None, recount=True)


def test_a_failing_report_leaves_the_old_file_alone(tmp_path: Path) -> None:
    _write(tmp_path)
    before = (tmp_path / RECORDS_FILE).read_bytes()

    def fail(_: Columns) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        finalise(tmp_path, None, fail, recount=True)
    assert [p.name for p in tmp_path.iterdir()] == [RECORDS_FILE]
    assert (tmp_path / RECORDS_FILE).read_bytes() == before


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"neither `records\.parquet` nor `journal/`"):
        open_run(tmp_path)
    (tmp_path / RECORDS_FILE).write_bytes(b"PAR1 not really")
    with pytest.raises(ResultError, match=str(tmp_path / RECORDS_FILE)):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sendt": np.zeros(2)}, "column `sendt`: is not a record column"),
        ({"sent": np.zeros(2), "isl": np.zeros(3)}, "column `(sent|isl)`: has [23] rows, not [23]"),
        ({"status": np.array([70_000])}, "column `status`: 70000 does not fit u16"),
        ({"request": np.array([np.nan])}, "column `request`: must have a value in every row"),
        ({"sent": np.zeros((2, 2))}, "expected a 1-dimensional numpy array"),
    ],
)
def test_columns_that_make_no_sense_are_refused(tmp_path: Path, columns: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.write_records(tmp_path / RECORDS_FILE, columns)
    assert not list(tmp_path.iterdir())


def test_other_arrow_libraries_read_the_records(tmp_path: Path) -> None:
    """`run.records` goes to polars, pandas, DuckDB and pyarrow without a copy of ours."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not a dependency")
    _write(tmp_path)
    table = pyarrow.table(open_records(tmp_path))
    assert table.num_rows == 4
    assert table.schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    assert table["chunk_ns"].to_pylist()[2] == [2_000_000_000, 2_001_000_000]
    assert table["headers"].null_count == 2

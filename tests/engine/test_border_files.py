"""Small functions of the border: files, tokens, JSONL."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aiperf import _core
from aiperf.reports.requests_jsonl import (
    Choices,
    ErrorColumns,
    JsonlBatch,
    ListColumn,
    NumberColumn,
    TextColumn,
    render_jsonl,
)


def test_compressed_files_read_like_plain_ones(tmp_path: Path) -> None:
    data = b'{"input_length": 1}\n' * 1000
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    assert _core.read_bytes(tmp_path / "a.jsonl") == _core.read_bytes(str(tmp_path / "a.jsonl.gz")) == data


def test_errors_of_the_system_are_builtin_and_of_the_content_value_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        _core.read_bytes(tmp_path / "nowhere")
    assert missing.value.filename == str(tmp_path / "nowhere")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(bytes(range(256)) * 10)[:-20])
    with pytest.raises(ValueError, match=r"cut\.gz"):
        _core.read_bytes(tmp_path / "cut.gz")
    (tmp_path / "text.zst").write_bytes(b"plain")
    with pytest.raises(ValueError, match="not Zstandard data"):
        _core.read_bytes(tmp_path / "text.zst")
    (tmp_path / "no.parquet").write_bytes(b"plain")
    with pytest.raises(ValueError, match=r"no\.parquet"):
        _core.read_parquet_columns(tmp_path / "no.parquet")


def test_any_parquet_file_comes_as_arrays_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    lists = {"offsets": np.array([0, 2, 2]), "chunk_ns": np.array([5, 6])}
    _core.write_records(path, {"sent": np.array([1.0, np.nan])}, lists, {"text": ["é", None]})
    table = _core.read_parquet_columns(path, ["text", "chunk_ns", "no such column", "sent", "request"])
    assert list(table) == ["text", "chunk_ns", "sent", "request"]
    assert table["text"] == ["é", None]
    assert table["chunk_ns"] == [[5, 6], []]
    assert table["sent"] == [1, None]
    assert isinstance(table["request"], np.ndarray)
    assert table["request"].tolist() == [0, 1]
    assert table["request"].dtype == np.uint64


def test_the_builtin_tokenizer_counts_what_it_encodes() -> None:
    texts = ["", "hello world", "naïve – ‘quoted’", "x" * 10_000, *(f"line {i}\n" * i for i in range(300))]
    counts = _core.builtin_count(texts)
    assert counts.dtype == np.uint32
    assert counts.tolist() == [len(_core.builtin_encode(t)) for t in texts]
    for text in texts:
        assert _core.builtin_decode(_core.builtin_encode(text)) == text


def test_known_token_ids_of_o200k_base() -> None:
    """From OpenAI's tiktoken: `encode("hello world")` of `o200k_base`."""
    assert _core.builtin_encode("hello world") == [24912, 2375]


def test_half_a_character_decodes_to_the_replacement_and_an_unknown_id_is_refused() -> None:
    ids = _core.builtin_encode("\U0001f9ff")
    assert len(ids) > 1
    assert "\ufffd" in _core.builtin_decode(ids[:1])
    with pytest.raises(ValueError, match="no token 4000000"):
        _core.builtin_decode([4_000_000])


_floats = st.floats(allow_infinity=False) | st.integers(-(2**53), 2**53).map(float) | st.just(float("nan"))
_texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def _batches(draw: st.DrawFn) -> JsonlBatch:
    rows = draw(st.integers(0, 6))

    def some(of: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(of, min_size=rows, max_size=rows))

    values = np.array(some(_floats), dtype=np.float64)
    whole = np.array([np.nan if v is None else v for v in some(st.none() | st.integers(-(2**53), 2**53))], np.float64)
    exact = np.array(some(st.integers(-(2**63), 2**63 - 1)), np.int64)
    counts = np.array(some(st.integers(0, 3)), np.int64)
    items = st.lists(
        st.floats(allow_nan=False, allow_infinity=False), min_size=int(counts.sum()), max_size=int(counts.sum())
    )
    failed = np.flatnonzero(np.array(some(st.booleans()), np.bool_))
    return JsonlBatch(
        num_rows=rows,
        metadata=(
            TextColumn("x_request_id", [None if t is None else str(t) for t in some(_texts)]),
            NumberColumn(key="request_start_ns", unit="", values=whole, integers=True, exact=exact),
            Choices("was_cancelled", np.array(some(st.integers(-1, 1)), np.int32), ("false", "true")),
        ),
        metrics=(
            NumberColumn(key="request_latency", unit="ms", values=values),
            NumberColumn(key="output_token_count", unit="tokens", values=whole, integers=True),
            ListColumn(
                "inter_chunk_latency",
                "ms",
                np.array(draw(items)),
                np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            ),
        ),
        errors=ErrorColumns(
            failed,
            np.array([-1 if i % 2 else 500 for i in failed], np.int64),
            [f"Type{i}" for i in failed],
            [draw(st.text(st.characters(codec="utf-8"), max_size=12)) for _ in failed],
        ),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(batch=_batches())
def test_native_jsonl_is_the_reference_byte_for_byte(tmp_path: Path, batch: JsonlBatch) -> None:
    path = tmp_path / "profile_export.jsonl"
    path.unlink(missing_ok=True)
    reference = render_jsonl(batch)
    assert _core.write_jsonl(str(path), batch) == len(reference)
    assert path.read_bytes() == reference
    assert _core.write_jsonl(path, batch) == len(reference)
    assert path.read_bytes() == reference * 2
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 2 * batch.num_rows + 1
    for line in lines[:-1]:
        json.loads(line)


def test_columns_of_a_wrong_length_are_named(tmp_path: Path) -> None:
    none = ErrorColumns(np.zeros(0, np.int64), np.zeros(0, np.int64), (), ())
    batch = JsonlBatch(
        num_rows=2,
        metadata=(),
        metrics=(NumberColumn(key="request_latency", unit="ms", values=np.zeros(1)),),
        errors=none,
    )
    with pytest.raises(ValueError, match="`request_latency`: does not fit a batch of 2 rows"):
        _core.write_jsonl(tmp_path / "x.jsonl", batch)


def test_the_engine_model_runs_a_load_in_virtual_time() -> None:
    prompts, outputs = np.full(8, 100, np.uint32), np.full(8, 5, np.uint32)
    table = _core.simulate('"tiny"', prompts, outputs, concurrency=2, count=20, keep_tokens=True)
    assert table["output_tokens"].tolist() == [5] * 20
    assert np.diff(table["token_offsets"]).tolist() == [5] * 20
    assert (table["sent"] <= table["scheduled"]).all()
    assert (table["scheduled"] < table["first"]).all()
    np.testing.assert_array_equal(table["token_ns"][table["token_offsets"][:-1]], table["first"])
    np.testing.assert_array_equal(table["token_ns"][table["token_offsets"][1:] - 1], table["last"])
    arrivals = np.arange(8) * 1_000_000
    open_loop = _core.simulate('{"preset": "tiny"}', prompts, outputs, arrivals_ns=arrivals)
    assert open_loop["sent"].tolist() == arrivals.tolist()
    assert len(open_loop["token_ns"]) == 0


@pytest.mark.parametrize(
    ("options", "concurrency", "arrivals_ns", "message"),
    [
        ('"nowhere"', 1, None, "no engine preset `nowhere`"),
        ('"tiny"', None, None, "give `arrivals_ns` or `concurrency`"),
        ('"tiny"', None, np.array([5, 1]), "must be ascending"),
    ],
)
def test_loads_that_make_no_sense_are_refused(
    options: str, concurrency: int | None, arrivals_ns: NDArray[np.int64] | None, message: str
) -> None:
    one = np.ones(1, np.uint32)
    with pytest.raises(ValueError, match=message):
        _core.simulate(options, one, one, concurrency=concurrency, arrivals_ns=arrivals_ns)


def test_the_simulated_server_answers_and_stops() -> None:
    with _core.SimServer('{"osl": 3}') as server:
        assert server.url.endswith(f":{server.port}")
        with urlopen(f"{server.url}/health", timeout=10) as reply:
            assert reply.status == 200
        assert isinstance(json.loads(server.stats()), dict)
    server.stop()
    with pytest.raises(ValueError, match="cannot read the options"):
        _core.SimServer('{"no such option": 1}')

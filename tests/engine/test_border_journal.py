"""From the engine's journal to `records.parquet`: what a run leaves behind, whole or killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aiperf import _core
from aiperf.config.engine_settings import ClosedLoad, EngineSettings, PhaseSettings, PointerSettings
from aiperf.records import Columns, finalise, open_records, open_run
from aiperf.records.columns import SCALAR_COLUMNS
from aiperf.records.schema import JOURNAL_DIR, RECORDS_FILE

REQUESTS = 40
OSL = 6
NONE = 2**32 - 1
BODY = json.dumps(
    {"model": "sim", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_completion_tokens": OSL}
)


def _plan() -> _core.Plan:
    one = np.zeros(1, np.int64)
    columns: dict[str, np.ndarray] = {
        "session": one.astype(np.uint32),
        "at_ns": one - 1,
        "delay_ns": one,
        "isl": np.array([7], np.uint32),
        "osl": np.array([OSL], np.uint32),
        "model": one.astype(np.uint16),
        "path": one.astype(np.uint16),
        "seg_offsets": np.array([0, 1], np.uint32),
        "seg_kind": one.astype(np.uint8),
        "seg_a": one.astype(np.uint64),
        "seg_b": one.astype(np.uint32),
    }
    return _core.Plan(columns, [BODY.encode()])


def _settings(url: str, run_dir: Path) -> str:
    pointers = PointerSettings(
        text=("/choices/0/delta/content",), finish=("/choices/0/finish_reason",), usage=("/usage",)
    )
    return EngineSettings(
        urls=(url,),
        paths=("/v1/chat/completions",),
        models=("sim",),
        framing="sse",
        pointers=pointers,
        plain_pointers=pointers,
        phases=(PhaseSettings(name="profiling", load=ClosedLoad(), concurrency=4, requests=REQUESTS),),
        run_dir=str(run_dir),
    ).model_dump_json()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The directory of a run of 40 streamed requests, not finalised."""
    with _core.SimServer(json.dumps({"ttft_ms": 1, "itl_ms": 0.1})) as server:
        engine = _core.Engine(_settings(server.url, tmp_path), _plan())
        assert engine.wait(60.0)
    return tmp_path


def test_finalising_changes_nothing_but_the_counts(run_dir: Path) -> None:
    journal = open_run(run_dir)
    before = {name: journal.scalar(name) for name in SCALAR_COLUMNS}
    texts = journal.strings("text")
    ids = journal.strings("request_id")
    assert journal.num_rows == REQUESTS
    assert np.isnan(before["counted_output"]).all()
    pieces: list[Columns] = []
    done = finalise(run_dir, _core.builtin_count, pieces.append)
    assert (done.num_rows, done.is_complete) == (REQUESTS, True)
    assert not (run_dir / JOURNAL_DIR).exists()

    run = open_run(run_dir)
    expected = before | {
        "counted_output": _core.builtin_count([t or "" for t in texts]).astype(np.float64),
        "counted_reasoning": np.zeros(REQUESTS),
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(run.scalar(name), values, err_msg=name)
        np.testing.assert_array_equal(np.concatenate([p.scalar(name) for p in pieces]), values, err_msg=name)
    assert run.strings("request_id") == ids
    assert len(set(ids)) == REQUESTS
    assert run.start_wall_ns == journal.start_wall_ns > 1_600_000_000 * 10**9
    assert run.strings("text") == [None] * REQUESTS


def test_chunks_are_the_same_in_journal_pieces_and_file(run_dir: Path) -> None:
    journal = [b.chunk_ns.tolist() for b in open_run(run_dir).batches()]
    pieces: list[list[int]] = []
    finalise(run_dir, None, lambda c: pieces.extend(b.chunk_ns.tolist() for b in c.batches()), keep_texts=True)
    run = open_run(run_dir)
    assert [b.chunk_ns.tolist() for b in run.batches()] == pieces == journal
    content = sum(int(b.is_content.sum()) for b in run.batches())
    assert content == run.num_content_chunks.sum() == REQUESTS * OSL
    assert all(t for t in run.strings("text"))


def test_a_killed_run_gives_every_whole_batch(run_dir: Path) -> None:
    """`kill -9` leaves the last segment cut anywhere."""
    segment = max((run_dir / JOURNAL_DIR).glob("*.arrows"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-8])  # without its end mark
    records = open_records(run_dir)
    assert (records.num_rows, records.is_complete) == (REQUESTS, False)
    segment.write_bytes(whole[:-100])
    assert open_records(run_dir).num_rows < REQUESTS
    done = finalise(run_dir, None, lambda _: None)
    assert not done.is_complete
    assert done.num_rows == open_run(run_dir).num_rows < REQUESTS


def test_an_interrupted_finalise_starts_over(run_dir: Path) -> None:
    def fail(_: Columns) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finalise(run_dir, None, fail)
    assert not (run_dir / RECORDS_FILE).exists()
    assert not list(run_dir.glob("*.part"))
    assert finalise(run_dir, None, lambda _: None).num_rows == REQUESTS


def test_records_of_a_run_that_goes_on_are_read_and_left_alone(tmp_path: Path) -> None:
    """Guards against `aiperf report` removing the journal under an engine that still writes it."""
    with _core.SimServer(json.dumps({"ttft_ms": 3_600_000})) as server:
        engine = _core.Engine(_settings(server.url, tmp_path), _plan())
        assert open_records(tmp_path).is_live
        done = finalise(tmp_path, None, lambda _: None)
        assert (done.is_live, done.is_complete) == (True, False)
        assert not (tmp_path / RECORDS_FILE).exists()
        engine.stop(2)
        assert engine.wait(60.0)
    assert not open_records(tmp_path).is_live
    assert not finalise(tmp_path, None, lambda _: None).is_live
    assert open_run(tmp_path).error_kind.all()

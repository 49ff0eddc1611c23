"""From the table to what is sent and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.traces.trace_tables import DATA, read, write_lines

from aiperf.errors import DatasetError
from aiperf.session import Synthetic
from aiperf.traces import TraceOptions, TraceTable
from aiperf.traces.reading.detect import read_trace
from aiperf.traces.replay import Replay, block_seeds, prepare

MS = 1_000_000


def table_of(tmp_path: Path, *lines: object) -> TraceTable:
    return read_trace(write_lines(tmp_path / "x.jsonl", lines), "mooncake_trace")[2]


def timed(tmp_path: Path, *times: float) -> TraceTable:
    return table_of(
        tmp_path, *({"timestamp": t, "input_length": 10 + i, "output_length": 5} for i, t in enumerate(times))
    )


def play(table: TraceTable, **options: object) -> Replay:
    return prepare(table, TraceOptions(path=table.path, **options), np.random.default_rng(0))


def test_every_prompt_has_exactly_its_input_length() -> None:
    columns = play(read("mooncake_trace.jsonl")).columns
    sums = np.add.reduceat(columns.seg_tokens, columns.seg_offsets[:-1])
    assert (sums == columns.isl).all()
    assert columns.isl.sum() == read("mooncake_trace.jsonl").input_length.sum()


def test_blocks_are_equal_exactly_where_ids_are() -> None:
    table = read("mooncake_trace.jsonl")
    columns = play(table).columns
    _, by_id = np.unique(table.hash_ids, return_inverse=True)
    _, by_seed = np.unique(columns.seg_seed, return_inverse=True)
    pairs = set(zip(by_id.tolist(), by_seed.tolist(), strict=True))
    assert len(pairs) == by_id.max() + 1 == by_seed.max() + 1


def splitmix64(state: int) -> int:
    """The first output for the state, as published (Steele, Lea, Flood 2014; Vigna's reference code)."""
    m = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & m
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & m
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & m
    return z ^ (z >> 31)


def test_seeds_of_ids_are_the_same_on_every_machine() -> None:
    """Changing them silently would break comparisons between versions."""
    assert block_seeds(np.array([0, 46, -1])).tolist() == [splitmix64(0), splitmix64(46), splitmix64(2**64 - 1)]
    assert (block_seeds(np.arange(99)) != block_seeds(np.arange(99), 1)).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=2))
def test_different_ids_have_different_seeds(ids: list[int]) -> None:
    assert len(set(block_seeds(np.array(ids)).tolist())) == len(ids)


def test_what_hash_ids_do_not_cover_is_fresh_text(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [1]})
    (session,) = play(table).sessions()
    first, rest = session.turns[0].messages[0].parts
    assert isinstance(first, Synthetic)
    assert (first.tokens, first.unique) == (512, False)
    assert isinstance(rest, Synthetic)
    assert (rest.tokens, rest.unique) == (588, True)


def test_surplus_hash_ids_are_ignored(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"timestamp": 0, "input_length": 100, "output_length": 5, "hash_ids": [1, 2, 3]})
    assert play(table).columns.seg_tokens.tolist() == [100]


def test_with_loop_the_blocks_are_fresh_at_each_repetition() -> None:
    table = read("mooncake_trace.jsonl")
    assert (play(table).columns.seg_kind == 1).all()
    assert (play(table, loop=True).columns.seg_kind == 2).all()


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({}, [0, 100, 400]),
        ({"auto_offset": False}, [1000, 1100, 1400]),
        ({"start_offset_ms": 1100}, [0, 300]),
        ({"start_offset_ms": 1050}, [50, 350]),
        ({"end_offset_ms": 1100}, [0, 100]),
        ({"speedup": 2}, [0, 50, 200]),
        ({"idle_gap_cap_s": 0.2}, [0, 100, 300]),
        ({"idle_gap_cap_s": 0.2, "speedup": 4}, [0, 25, 75]),
    ],
)
def test_due_times(options: dict[str, object], due: list[int], tmp_path: Path) -> None:
    """Offsets are inclusive and count in the trace's own time; gaps are capped before the speedup."""
    assert (play(timed(tmp_path, 1000, 1100, 1400), **options).columns.at_ns // MS).tolist() == due


def test_lines_are_sent_in_the_order_of_their_times(tmp_path: Path) -> None:
    columns = play(timed(tmp_path, 50, 10, 30)).columns
    assert columns.row.tolist() == [1, 2, 0]
    assert columns.session.tolist() == [0, 1, 2]


def test_start_offset_and_auto_offset_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        play(timed(tmp_path, 1), auto_offset=True, start_offset_ms=1)
    with pytest.raises(ValueError, match="is after"):
        play(timed(tmp_path, 1), start_offset_ms=5, end_offset_ms=1)


def test_a_conversation_keeps_its_turns_together_and_its_delays(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {"session_id": "b", "timestamp": 500, "input_length": 10, "output_length": 5},
        {"session_id": "a", "timestamp": 100, "input_length": 20, "output_length": 5},
        {"session_id": "b", "delay": 4000, "input_length": 30, "output_length": 5},
        {"session_id": "a", "timestamp": 900, "input_length": 40, "output_length": 5},
    )
    replay = play(table, speedup=2, delay_cap_s=3)
    assert replay.session_ids() == ["a", "b"]
    assert replay.columns.session.tolist() == [0, 0, 1, 1]
    assert replay.columns.isl.tolist() == [20, 40, 10, 30]
    assert (replay.columns.at_ns / MS).tolist() == [0, 400, 200, -1 / MS]
    assert (replay.columns.delay_ns / MS).tolist() == [0, 0, 0, 1500]


def test_turns_before_the_start_are_left_out_with_what_follows_them_at_once(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {"session_id": "a", "timestamp": 0, "input_length": 10, "output_length": 5},
        {"session_id": "a", "delay": 10, "input_length": 11, "output_length": 5},
        {"session_id": "a", "timestamp": 5000, "input_length": 12, "output_length": 5},
    )
    assert play(table, start_offset_ms=1000).columns.isl.tolist() == [12]


def test_what_exceeds_the_context_is_skipped_and_counted() -> None:
    table = read("mooncake_trace.jsonl")
    needed = table.input_length.astype(int) + table.output_length
    replay = play(table, context_limit=8192)
    assert replay.columns.row.tolist() == np.flatnonzero(needed <= 8192).tolist()
    (note,) = replay.notes
    assert (note.kind, note.data) == ("context_limit", {"count": int((needed > 8192).sum()), "context_limit": 8192})


def test_a_turn_that_adds_needs_room_for_its_history(tmp_path: Path) -> None:
    lines = [{"session_id": "a", "timestamp": t, "input_length": 100, "output_length": 50} for t in range(4)]
    assert play(table_of(tmp_path, *lines), context_limit=450).columns.row.tolist() == [0, 1, 2]


def test_lengths_can_be_limited(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {"timestamp": 0, "input_length": 10, "output_length": 500},
        {"timestamp": 1, "input_length": 99, "output_length": 5},
        {"timestamp": 2, "input_length": 20, "output_length": 0},
    )
    replay = play(table, max_isl=50, max_osl=100)
    assert replay.columns.osl.tolist() == [100, 1]
    assert {n.kind: n.data["count"] for n in replay.notes} == {"no_output": 1, "max_isl": 1, "osl_capped": 1}


def test_a_share_of_the_sessions_is_drawn_whole() -> None:
    table = read("mooncake_trace.jsonl")
    a, b = (play(table, session_sample_ratio=0.3).columns.row.tolist() for _ in range(2))
    assert a == b
    assert 10 < len(a) < 40


def test_nothing_left_to_send_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is left to send: requests before 50 ms, left out: 2"):
        play(timed(tmp_path, 1, 2), start_offset_ms=50)


def test_timing_can_be_ignored(tmp_path: Path) -> None:
    assert play(timed(tmp_path, 5, 1), ignore_timing=True).columns.at_ns.tolist() == [-1, -1]


def test_the_excerpt_is_a_plan_of_columns_alone() -> None:
    replay = play(read("mooncake_trace.jsonl"))
    assert replay.is_synthetic
    assert not play(read("mooncake_mixed.jsonl")).is_synthetic
    assert replay.duration_ns == read("mooncake_trace.jsonl").at_ns.max()
    assert DATA.exists()

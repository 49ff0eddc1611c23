"""Recorded agent sessions: streams, prompts, bonds and lanes, against examples worked out by hand."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.traces.weka_sessions import (
    FORK,
    OVERLAPPING,
    SUBAGENTS,
    SYSTEM,
    agent,
    request,
    session,
    write_sessions,
)

from aiperf.errors import DatasetError
from aiperf.traces.agents import NONE, AgentTable, Layout, lay_out
from aiperf.traces.as_trace import as_trace
from aiperf.traces.lanes import StartOptions, draw_order, first_plays, start_instant_ms, starts_of


def table(tmp_path: Path, *sessions: dict[str, Any], **options: object) -> AgentTable:
    path = write_sessions(tmp_path / "traces.jsonl", sessions)
    return lay_out(path, Layout(share_parent=True, **options))  # type: ignore[arg-type]


def prompts(table_of_agents: AgentTable, stream: str) -> list[str]:
    """`s128 u202` for each prompt of a stream."""
    first = table_of_agents.first_rows()
    s = table_of_agents.names.index(stream)
    out = []
    for row in range(first[s], first[s + 1]):
        part = slice(table_of_agents.message_offsets[row], table_of_agents.message_offsets[row + 1])
        sizes = table_of_agents.message_blocks[part] * 64 + table_of_agents.message_tail[part]
        out.append(" ".join(f"{'sua'[r]}{n}" for r, n in zip(table_of_agents.message_role[part], sizes, strict=True)))
        assert sizes.sum() == table_of_agents.isl[row]
    return out


def test_prompts_delays_and_hits_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    found = table(tmp_path, SYSTEM)
    assert prompts(found, "system") == ["s128 u202", "s128 u192 a128 u152", "s128 u192 a128 u128 u64"]
    assert (found.delay_ns / 1e9).tolist() == [0, 8, 8.5]
    assert found.hits.tolist() == [0, 5, 9]
    assert found.blocks.tolist() == [5, 9, 10]


def test_overlapping_requests_are_other_agents_that_the_main_agent_waits_for(tmp_path: Path) -> None:
    agents = table(tmp_path, OVERLAPPING)
    assert agents.names == ["overlapping", "overlapping::aux:000", "overlapping::aux:001"]
    assert agents.spawn_row.tolist() == [NONE, 0, 0]
    assert (agents.branch_start_ns[1:] / 1e6).tolist() == [100, 100]
    assert agents.joins.tolist() == [1, 2]
    assert np.flatnonzero(np.diff(agents.join_offsets)).tolist() == [1]
    assert agents.delay_ns[1] == 1e9


def test_a_fork_shares_its_parents_messages_and_keeps_the_recorded_order(tmp_path: Path) -> None:
    agents = table(tmp_path, FORK)
    assert agents.names == ["fork", "fork::fa:000", "fork::fa:001"]
    assert prompts(agents, "fork::fa:000") == ["u19200 a128 u512 a128 u192 u1600"]
    assert agents.spawn_row.tolist() == [NONE, 2, 2]
    assert agents.spawn_at_send.tolist() == [0, 1, 1]
    assert (agents.spawn_offset_ns / 1e9).tolist() == [0, 1, 2]
    gates = [agents.gates[agents.gate_offsets[r] : agents.gate_offsets[r + 1]].tolist() for r in range(agents.num_rows)]
    assert gates == [[], [], [], [4, 5], [1], [2]]
    flat = table(tmp_path, FORK, rules={"split": False})
    assert flat.names == ["fork"]


def test_sub_agents_are_spawned_and_joined_by_the_order_of_the_file(tmp_path: Path) -> None:
    agents = table(tmp_path, SUBAGENTS)
    assert agents.names == ["agents", "agents::sa:a1", "agents::sa:a2"]
    assert (agents.t_ns / 1e9).tolist() == [0, 20, 3.5, 7, 4]
    assert agents.joins.tolist() == [1, 2]
    assert agents.spawn_at_send.tolist() == [0, 0, 0]
    assert agents.inner.tolist() == [NONE, NONE, 0, 1, 0]


def test_one_relative_time_makes_the_whole_corpus_relative(tmp_path: Path) -> None:
    other = session("other", [request(0, 64, 1, [1]), agent(2, "x", [request(5, 64, 1, [2])]), request(20, 64, 1, [3])])
    assert table(tmp_path, other).t_ns.tolist()[2:] == [5_000_000_000]
    both = table(tmp_path, other, SUBAGENTS)
    assert both.t_ns[both.session == both.names.index("other::sa:x")].tolist() == [7_000_000_000]
    with pytest.raises(DatasetError, match="before its sub-agent's marker"):
        table(tmp_path, SUBAGENTS, basis="absolute")


def test_every_problem_of_every_session_is_named_at_once(tmp_path: Path) -> None:
    bad = [
        session("one", [request(-1, 64, 1, [1])]),
        session("two", [request(0, 64, 1, [1, 2, 3])], hash_id_scope="global"),
        session("good", [request(0, 64, 1, [1])]),
        session("three", [request(0, 64, 1, ["x"])]),
    ]
    with pytest.raises(DatasetError) as caught:
        table(tmp_path, *bad)
    text = str(caught.value)
    for part in (
        "4 problems",
        "traces.jsonl:1`, session `one`, requests[0]: `t` is -1",
        "traces.jsonl:2`, session `two`: `hash_id_scope`",
        "requests[0]: `hash_ids` 3 blocks of 64 tokens are more than the 64 tokens of `in`",
        "session `three`, requests[0]: `hash_ids` must be a list of whole numbers",
    ):
        assert part in text
    left = lay_out(tmp_path / "traces.jsonl", Layout(), skip_invalid=True)
    assert left.trace_ids == ["good"]
    assert left.notes[0].data["sessions"] == 3


def test_sub_agents_of_sub_agents_are_refused_where_they_stand(tmp_path: Path) -> None:
    """The format has none: whose times and joins they would be is not known."""
    inner = agent(1, "inner", [request(0, 64, 5, [3])])
    nested = session("nested", [request(0, 64, 5, [1]), agent(1, "outer", [request(0, 64, 5, [2]), inner])])
    with pytest.raises(
        DatasetError, match=r"session `nested`, requests\[1\]\.requests\[1\]: `type` sub-agents do not nest"
    ):
        table(tmp_path, nested)


def test_turns_that_wrote_nothing_ask_for_one_token(tmp_path: Path) -> None:
    """No server takes a limit of 0; what they read is in the prompts that follow, and nothing of a response."""
    inner = agent(1, "x", [request(0, 64, 0, [2])])
    silent = session("silent", [request(0, 64, 0, [1]), inner, request(9, 192, 0, [1, 4, 5])])
    found = table(tmp_path, silent)
    assert (found.isl.tolist(), found.osl.tolist()) == ([64, 192, 64], [1, 1, 1])
    assert prompts(found, "silent") == ["u64", "u64 u128"]


def test_a_session_with_fewer_blocks_than_its_tools_is_left_out_by_name(tmp_path: Path) -> None:
    short = session("short", [request(0, 64, 1, [1])], tool_tokens=1000)
    found = table(tmp_path, short, SYSTEM)
    assert found.trace_ids == ["system"]
    assert "`short`" in found.notes[0].text


def test_sessions_that_do_not_fit_are_left_out_and_counted(tmp_path: Path) -> None:
    found = table(tmp_path, FORK, SYSTEM, max_context=1000)
    assert found.trace_ids == ["system"]
    with pytest.raises(DatasetError, match="the smallest needs 645 tokens"):
        table(tmp_path, FORK, SYSTEM, max_context=100)
    assert table(tmp_path, FORK, SYSTEM, OVERLAPPING, entries=2).trace_ids == ["fork", "system"]


def test_files_are_read_however_they_are_packed(tmp_path: Path) -> None:
    sessions = [SYSTEM, FORK]
    text = "".join(json.dumps(s) + "\n" for s in sessions).encode()
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(text))
    folder = tmp_path / "folder"
    folder.mkdir()
    for s in sessions:
        (folder / f"{s['id']}.json").write_text(json.dumps(s, indent=1), encoding="utf-8")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="f")
    for path in (tmp_path / "x.jsonl.gz", folder, tmp_path / "x.tar.gz"):
        assert sorted(lay_out(path, Layout()).trace_ids) == ["fork", "system"], path


def test_the_requests_of_a_trace_are_there_for_its_tools(tmp_path: Path) -> None:
    found = table(tmp_path, SUBAGENTS)
    trace = as_trace(tmp_path, found)
    assert trace.input_length.tolist() == [640, 320, 200, 384, 900]
    assert np.diff(trace.hash_offsets).tolist() == [10, 5, 3, 6, 14]
    assert trace.hash_ids[:12].tolist() == [*range(1, 11), 1, 2]


def test_a_lane_begins_where_numpys_generator_says(tmp_path: Path) -> None:
    """Seed 42, a session named trace_0199 from 0 to 72 s: the instants AIPerf draws for its lanes 0, 1 and 2."""
    named = session("trace_0199", [request(t, 640, 1, range(1, 11)) for t in (0, 34, 72)])
    found = table(tmp_path, named)
    options = StartOptions(min_ratio=0, max_ratio=1, seed=42)
    drawn = [start_instant_ms(found, 0, lane, options) for lane in range(3)]
    assert drawn == pytest.approx([18396.843895, 7674.256606, 58858.661211], abs=1e-6)
    starts = starts_of(found, np.zeros(3, np.int64), options)
    assert [(s.streams[0].row, s.streams[0].primer) for s in starts] == [(1, 0), (1, 0), (2, 1)]
    assert starts[0].streams[0].offset_ns / 1e6 == pytest.approx(15603.156105)
    assert starts[2].streams[0].lead_ns == pytest.approx(24_858_661_211, abs=2)


def test_streams_that_are_over_or_not_yet_spawned_are_no_part_of_a_start(tmp_path: Path) -> None:
    found = table(tmp_path, SUBAGENTS)
    for ratio, expected in ((0.0, [0]), (0.3, [1, 3]), (1.0, [1])):
        start = starts_of(found, np.zeros(1, np.int64), StartOptions(min_ratio=ratio, max_ratio=ratio))[0]
        assert [s.row for s in start.streams] == expected, ratio


def test_lanes_draw_from_one_order_that_wraps_if_it_may() -> None:
    assert draw_order(3, "sequential", 1).tolist() == [0, 1, 2]
    shuffled = draw_order(50, "shuffle", 1)
    assert sorted(shuffled.tolist()) == list(range(50))
    assert (shuffled == draw_order(50, "shuffle", 1)).all()
    assert first_plays(np.arange(3), 3, 5, wraps=True).tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(DatasetError, match="5 lanes"):
        first_plays(np.arange(3), 3, 5, wraps=False)

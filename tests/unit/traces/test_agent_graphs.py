"""Recorded agents that say what each request waits for: Dynamo's agentic Mooncake and request trace, by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.traces.trace_tables import DATA

from aiperf.errors import DatasetError
from aiperf.traces.agents import NONE, AgentTable, Layout
from aiperf.traces.formats import agentic_mooncake, dynamo_request_trace
from aiperf.traces.reading.detect import detect

MS = 1_000_000
HEADER = {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 64, "hash_id_scope": "local", "source": {}}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def node(name: str, session: str, at: float, after: dict[str, tuple[str, float]], **more: object) -> dict[str, Any]:
    edges = [{"request_id": o, "trigger": t, "delay_ms": d, "relation": "sequence"} for o, (t, d) in after.items()]
    return {
        "request_id": name,
        "play_id": "p",
        "session_id": session,
        "model": "m",
        "input_length": 640,
        "output_length": 5,
        "hash_ids": [],
        "not_before_ms": at,
        "dependencies": edges,
        **more,
    }


def play(tmp_path: Path, *rows: Mapping[str, Any], **layout: Any) -> AgentTable:
    return agentic_mooncake.read_agents(write(tmp_path / "a.jsonl", [HEADER, *rows]), Layout(**layout))


def gates(table: AgentTable) -> dict[str, list[tuple[int, bool, float]]]:
    """By the line of the file: (line waited for, only until it is sent, ms)."""
    out = {}
    for row in range(table.num_rows):
        part = slice(table.gate_offsets[row], table.gate_offsets[row + 1])
        waits = zip(table.gates[part], table.gate_at_send[part], table.gate_delay_ns[part], strict=True)
        out[str(table.outer[row])] = [(int(table.outer[o]), bool(s), d / MS) for o, s, d in waits]
    return out


def test_a_request_goes_on_with_the_stream_it_waits_for_or_begins_one() -> None:
    table = agentic_mooncake.read_agents(DATA / "agentic_mooncake.jsonl", Layout())
    assert table.names[:3] == ["p1", "p1::left", "p1::deep"]
    assert (table.kind[:3].tolist(), table.trace_ids) == ([0, 2, 2], ["p1", "p2"])
    assert table.outer[:5].tolist() == [2, 6, 3, 4, 5], "lines, the root's stream first"
    # left: 30 ms after the root was sent; deep: 20 ms after the end of left's second request.
    assert table.spawn_row[:3].tolist() == [NONE, 0, 3]
    assert table.spawn_at_send[:3].tolist() == [0, 1, 0]
    assert (table.spawn_offset_ns[:3] / MS).tolist() == [0, 30, 20]
    assert (table.delay_ns[:5] / MS).tolist() == [0, 60, 0, 30, 0]
    assert gates(table)["6"] == [(4, False, 40), (5, True, 60)]
    assert table.keeps_times
    assert (table.t_ns[:5] / MS).tolist() == [0, 200, 30, 80, 120]
    (note,) = table.notes
    assert note.data["fields"] == {"priority": 2}


def test_blocks_are_shared_in_a_play_and_not_between_plays() -> None:
    table = agentic_mooncake.read_agents(DATA / "agentic_mooncake.jsonl", Layout())
    assert table.hits.tolist() == [0, 10, 10, 11, 0] * 2
    assert table.inherited[:5].tolist() == [0, 10, 0, 10, 0], "a flat prompt where only the first message is shared"
    assert table.block_seed[0] != table.block_seed[1]


def test_requests_of_a_session_that_do_not_wait_for_each_other_are_streams_of_their_own(tmp_path: Path) -> None:
    table = play(
        tmp_path,
        node("a", "s", 0, {}),
        node("b", "s", 10, {"a": ("completion", 5)}),
        node("c", "s", 10, {"a": ("completion", 7)}),
        node("d", "s", 40, {"b": ("completion", 1), "c": ("completion", 2)}),
    )
    assert table.names == ["p", "p::s:1"]
    assert table.kind.tolist() == [0, 1]
    assert table.spawn_row.tolist() == [NONE, 0]
    assert gates(table)["5"] == [(4, False, 2)]


def test_delays_can_be_capped_or_left_out(tmp_path: Path) -> None:
    rows = (node("a", "s", 0, {}), node("b", "s", 10, {"a": ("completion", 9000)}))
    assert play(tmp_path, *rows, delay_cap_s=2.0).delay_ns.tolist() == [0, 2_000_000_000]
    left_out = play(tmp_path, *rows, ignore_delays=True)
    assert (left_out.delay_ns.tolist(), left_out.keeps_times) == ([0, 0], False)


def test_limits_leave_out_whole_plays_and_count_them(tmp_path: Path) -> None:
    rows = (node("a", "s", 0, {}), node("b", "t", 0, {}, play_id="q", input_length=9000))
    table = play(tmp_path, *rows, max_context=1000)
    assert (table.trace_ids, [n.kind for n in table.notes]) == (["p"], ["sessions_too_long"])
    with pytest.raises(DatasetError, match="the smallest needs 645 tokens"):
        play(tmp_path, *rows, max_context=100)
    assert play(tmp_path, *rows, max_isl=1000).trace_ids == ["p"]
    assert play(tmp_path, *rows, entries=1).trace_ids == ["p"]
    with pytest.raises(DatasetError, match="would wait for ever"):
        play(tmp_path, *rows, from_s=1.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"version": 1}, "`version`: expected `2`"), ({"hash_id_scope": "global"}, "expected `local`"), ({}, None)],
)
def test_another_header_is_refused(tmp_path: Path, changed: dict[str, object], said: str | None) -> None:
    path = write(tmp_path / "a.jsonl", [{**HEADER, **changed}, node("a", "s", 0, {})])
    if said is None:
        assert agentic_mooncake.read_agents(path, Layout()).num_rows == 1
        return
    with pytest.raises(DatasetError, match=said):
        agentic_mooncake.read_agents(path, Layout())


def test_plays_with_problems_can_be_left_out() -> None:
    table = agentic_mooncake.read_agents(DATA / "agentic_mooncake_bad.jsonl", Layout(), skip_invalid=True)
    assert table.trace_ids == ["p1"]
    assert table.notes[-1].kind == "invalid_lines"


def test_a_request_trace_has_its_sub_agents_and_their_waits() -> None:
    table = dynamo_request_trace.read_agents(DATA / "dynamo_request_trace.jsonl", Layout())
    assert table is not None
    assert table.names == ["run:planner", "run:planner::run:search", "run:planner::run:read", "other"]
    # search began 400 ms after r1 was received, which took 1 s; read 500 ms after the end of r1: by a tool event.
    assert table.spawn_row.tolist() == [NONE, 0, 0, NONE]
    assert table.spawn_at_send.tolist() == [0, 1, 0, 0]
    assert (table.spawn_offset_ns / MS).tolist() == [0, 400, 500, 0]
    lines = {int(o): (d / MS) for o, d in zip(table.outer, table.delay_ns, strict=True)}
    # r5 waits for r1 and for search, whose end (1500) is the later one; r6 for r5 and for read (2200).
    assert (lines[7], lines[8], lines[3]) == (500, 600, 300)
    assert gates(table)["7"] == [(3, False, 500)]
    assert gates(table)["8"] == [(4, False, 600)]
    assert not table.keeps_times


def test_hashes_of_a_request_trace_are_those_of_the_text_in_all_sessions() -> None:
    table = dynamo_request_trace.read_agents(DATA / "dynamo_request_trace.jsonl", Layout())
    assert table is not None
    by_line = dict(zip(table.outer.tolist(), table.hits.tolist(), strict=True))
    assert by_line == {1: 0, 2: 1, 9: 2, 3: 2, 4: 0, 7: 3, 8: 5}
    assert len(set(table.block_seed.tolist())) == 1
    kinds = {n.kind: n.data for n in table.notes}
    assert kinds["events_skipped"]["count"] == 1
    assert kinds["unused_fields"]["fields"] == {"event_source": 7, "request.cached_tokens": 7}


def test_a_request_trace_without_agents_is_a_trace(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (DATA / "dynamo_request_trace.jsonl").read_text().splitlines()]
    plain = [{k: v for k, v in r.items() if k != "agent_context"} for r in rows if r["event_type"] == "request_end"]
    path = write(tmp_path / "plain.jsonl", plain)
    assert dynamo_request_trace.read_agents(path, Layout()) is None
    table = dynamo_request_trace.read(path, dynamo_request_trace.Options(path=path))
    assert np.diff(table.at_ns).tolist() == [n * MS for n in (400, 800, 300, 500, 1000, -2500)]
    assert table.num_sessions == 7
    mixed = write(tmp_path / "mixed.jsonl", [plain[0], rows[1]])
    with pytest.raises(DatasetError, match="1 requests have an `agent_context`, 1 have none"):
        dynamo_request_trace.read_agents(mixed, Layout())


def test_shards_of_a_folder_are_one_trace_and_events_may_be_wrapped(tmp_path: Path) -> None:
    text = (DATA / "dynamo_request_trace.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{"timestamp": 1, "event": json.loads(line)} for line in text]
    write(tmp_path / "t.000001.jsonl", rows[:4])
    write(tmp_path / "t.000002.jsonl", rows[4:])
    assert detect(tmp_path) == "dynamo_request_trace"
    table = dynamo_request_trace.read_agents(tmp_path, Layout())
    assert table is not None
    assert table.num_rows == 7


def test_sessions_without_their_parent_and_overlapping_requests_are_told(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (DATA / "dynamo_request_trace.jsonl").read_text().splitlines()]
    lost = [r for r in rows if r.get("agent_context", {}).get("session_id") != "run:planner"]
    lost[1]["request"]["request_received_ms"] -= 700
    table = dynamo_request_trace.read_agents(write(tmp_path / "x.jsonl", lost), Layout())
    assert table is not None
    assert {n.kind: n.data.get("count") for n in table.notes}.items() >= {
        "parents_missing": 2,
        "requests_overlapped": 1,
    }.items()
    assert table.num_traces == 3

"""Agents in other formats against the simulated server: who starts whom, who waits for whom, what is shared, what is sent of tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds, simulate, summary_of
from tests.unit.traces.weka_sessions import request, session, write_sessions

from aiperf.errors import ConfigError, ErrorKind
from aiperf.records.agents import read_agent_facts
from aiperf.run.run import Run

DATA = Path(__file__).parents[2] / "data"
FAST: dict[str, object] = {
    "isl": None,
    "osl": None,
    "request_count": None,
    "concurrency": 2,
    "export_level": "raw",
}


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with simulate(tmp_path, ttft_ms=5) as server:
        yield server


def bodies_of(run: Run) -> list[dict[str, Any]]:
    """In the order in which they were sent."""
    lines = (run.dir / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines), key=lambda r: int(r["metadata"]["request_start_ns"]))
    return [r["payload"] for r in rows]


def sent_and_ended(run: Run) -> dict[int, tuple[float, float]]:
    """By the line of the file, ms."""
    facts = read_agent_facts(run.dir)
    assert facts is not None
    rows = facts.rows(run.columns.scalar("session"), run.columns.scalar("turn"))
    times = zip(run.columns.scalar("sent") / 1e6, run.columns.scalar("end") / 1e6, strict=True)
    return dict(zip(facts.outer[rows].tolist(), times, strict=True))


def test_an_agentic_mooncake_trace_keeps_its_dependencies_and_its_times(sim: Sim) -> None:
    run = sim.run(input_file=DATA / "traces" / "agentic_mooncake.jsonl", **FAST)
    assert kinds(run) == {ErrorKind.OK: 10}
    at = sent_and_ended(run)
    for first in (2, 7):  # lines of the two plays: root, left, left-next, grandchild, root-next
        root, left, left_next, grandchild, last = (at[first + k] for k in range(5))
        assert left[0] - root[0] >= 30
        assert left_next[0] - left[1] >= 30
        assert grandchild[0] - left_next[1] >= 20
        assert last[0] >= max(root[1] + 60, left_next[1] + 40, grandchild[0] + 60) - 0.1
        for found, recorded in zip((left, left_next, grandchild, last), (30, 80, 120, 200), strict=True):
            assert recorded - 1 < found[0] - root[0] < recorded + 100
    assert any(n.kind == "format_guessed" and "agentic_mooncake" in n.text for n in run.notes)
    hit = summary_of(run)["theoretical_prefix_cache_hit"]
    assert (hit["sum"], hit["count"]) == (62, 2 * (10 + 11 + 12 + 4 + 13))


def test_a_failed_parent_lets_its_tree_go_on_and_nothing_hangs(tmp_path: Path) -> None:
    fault = {"kind": "status", "status": 500, "rate": 1.0}
    with simulate(tmp_path, faults=[fault]) as broken:
        run = broken.run(input_file=DATA / "traces" / "agentic_mooncake.jsonl", failed_request_threshold=1, **FAST)
    assert kinds(run) == {ErrorKind.HTTP_STATUS: 10}


def test_a_request_trace_shares_blocks_between_its_sessions(tmp_path: Path) -> None:
    from aiperf._core import builtin_count

    with simulate(tmp_path, ledger_prompts=True, ledger_prefixes=True) as server:
        run = server.run(
            input_file=DATA / "traces" / "dynamo_request_trace.jsonl", system_idle_gap_cap_seconds=0.01, **FAST
        )
        rows = server.by_id()
    facts = read_agent_facts(run.dir)
    assert facts is not None
    plan = facts.rows(run.columns.scalar("session"), run.columns.scalar("turn"))
    shared_blocks = {}
    for name, row in zip(run.columns.strings("request_id"), plan.tolist(), strict=True):
        seen = rows[str(name)]
        shared = seen["prompt"].encode()[: seen["shared_prefix_bytes"]].decode(errors="ignore")
        shared_blocks[int(facts.outer[row])] = (int(builtin_count([shared])[0]) + 2) // 64
    # Line 9 is another session: it shares the system prompt's blocks with the first one, whichever came first.
    assert shared_blocks.pop(1) + shared_blocks.pop(9) == 2
    assert shared_blocks == {2: 1, 3: 2, 4: 0, 7: 3, 8: 5}


def test_a_transcript_is_replayed_with_its_tools_and_recorded_history(sim: Sim) -> None:
    run = sim.run(input_file=DATA / "datasets" / "chat_transcript.jsonl", **FAST)
    assert kinds(run) == {ErrorKind.OK: 5}
    (note,) = [n for n in run.notes if n.kind == "rows_taken_for"]
    assert note.data["rows"] == {"transcripts": 2}
    bodies = sorted(bodies_of(run), key=lambda b: len(b["messages"]))
    assert [len(b["messages"]) for b in bodies] == [1, 2, 5, 7, 9]
    assert bodies[0]["temperature"] == 0.2
    last = bodies[-1]["messages"]
    assert [m["role"] for m in last[2:6]] == ["assistant", "tool", "tool", "assistant"]
    assert (last[2]["tool_calls"][0]["id"], last[3]["tool_call_id"]) == ("a", "a")
    assert last[5]["content"] == "A semicolon is missing in line 3."
    assert "delay_ms" not in json.dumps(last)
    assert bodies[-1]["tools"][0]["function"]["name"] == "grep"
    # As many tokens as the recorded response has, its calls included; the last request has no response on record.
    assert [b.get("max_completion_tokens") is not None for b in bodies] == [True, True, True, True, False]


def test_delays_of_tools_are_waited_for(sim: Sim) -> None:
    run = sim.run(input_file=DATA / "datasets" / "chat_transcript.jsonl", inter_turn_delay_cap_seconds=0.5, **FAST)
    turns = run.columns.scalar("turn")
    names = np.array([run.session_ids[int(s)] for s in run.columns.scalar("session")])
    at = {int(t): i for i, t in enumerate(turns) if names[i] == "fix"}
    sent, end = run.columns.scalar("sent") / 1e6, run.columns.scalar("end") / 1e6
    waited = [sent[at[k]] - end[at[k - 1]] for k in (1, 2, 3)]
    # The slower of two tools; a person, up to the cap; a tool.
    for found, expected in zip(waited, (420, 500, 15), strict=True):
        assert expected - 1 < found < expected + 100


def test_live_history_has_the_servers_words_and_the_recorded_calls(sim: Sim) -> None:
    run = sim.run(input_file=DATA / "datasets" / "chat_transcript.jsonl", agentic_history="live", **FAST)
    assert kinds(run) == {ErrorKind.OK: 5}
    longest = max(bodies_of(run), key=lambda b: len(b["messages"]))["messages"]
    assert longest[2]["tool_calls"][0]["id"] == "a"
    assert longest[2]["content"]
    assert longest[5]["content"] != "A semicolon is missing in line 3."


def rows_of(sim: Sim, *rows: dict[str, Any], **flags: object) -> list[list[str]]:
    """Roles of each request's messages, in order of arrival."""
    path = sim.dir / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    run = sim.run(input_file=path, **{**FAST, "concurrency": 1, **flags})
    return [[m["role"] for m in body["messages"]] for body in bodies_of(run)]


USER, BOT = {"role": "user", "content": "And?"}, {"role": "assistant", "content": "So."}


def test_rows_of_a_session_are_recognised_as_whole_prompts_or_additions(sim: Sim) -> None:
    whole = [{"session_id": "s", "messages": [USER, BOT] * k + [USER]} for k in range(3)]
    expected = [["user"], ["user", "assistant", "user"], ["user", "assistant", "user", "assistant", "user"]]
    assert rows_of(sim, *whole) == expected
    added = [{"session_id": "s", "messages": [USER] if k == 0 else [BOT, {**USER, "content": "No."}]} for k in range(3)]
    assert rows_of(sim, *added) == expected
    assert rows_of(sim, *whole, dataset_option={"rows": "additions"}) != expected


def test_captured_requests_are_sent_at_their_times_with_their_bodies(sim: Sim) -> None:
    folder = sim.dir / "capture" / "2026" / "11"
    folder.mkdir(parents=True)
    text = (DATA / "datasets" / "sagemaker_data_capture.jsonl").read_text(encoding="utf-8")
    (folder / "10.jsonl").write_text(text, encoding="utf-8")
    run = sim.run(
        input_file=sim.dir / "capture", fixed_schedule=True, replay_speedup=20, **{**FAST, "concurrency": None}
    )
    assert kinds(run) == {ErrorKind.OK: 3}
    assert np.diff(np.sort(run.columns.scalar("scheduled"))).tolist() == [150_000_000, 250_000_000]
    bodies = bodies_of(run)
    assert [m["content"] for m in bodies[0]["messages"]] == ["Be short.", "Say hello."]
    assert (bodies[1]["max_completion_tokens"], bodies[1]["temperature"]) == (64, 0.7)
    assert {n.kind for n in run.notes} >= {"unused_fields"}


def test_tool_results_of_agents_are_messages_of_their_own_when_asked_for(sim: Sim) -> None:
    tool = {"input_types": ["tool_result"]}
    agent = session(
        "tools",
        [
            {**request(0, 640, 70, range(1, 11), 0.01), "stop": "tool_use"},
            {**request(0.02, 900, 70, range(1, 15), 0.01), **tool, "stop": "end_turn"},
            {**request(0.04, 1100, 5, range(1, 18), 0.01), "input_types": ["user_input"]},
        ],
    )
    path = write_sessions(sim.dir / "t.jsonl", [agent])
    run = sim.run(input_file=path, agentic_tool_messages=True, **{**FAST, "concurrency": 1})
    assert kinds(run) == {ErrorKind.OK: 3}
    bodies = bodies_of(run)
    assert [[m["role"] for m in b["messages"]] for b in bodies] == [
        ["user"],
        ["user", "assistant", "tool"],
        ["user", "assistant", "tool", "assistant", "user"],
    ]
    call = bodies[2]["messages"][1]["tool_calls"][0]
    assert (call["id"], bodies[2]["messages"][2]["tool_call_id"]) == ("call_turn_1", "call_turn_1")
    assert call["function"]["name"] == bodies[0]["tools"][0]["function"]["name"] == "recorded_tool"
    with pytest.raises(ConfigError, match="chat API"):
        sim.run(input_file=path, agentic_tool_messages=True, endpoint_type="messages", **{**FAST, "concurrency": 1})


def test_options_of_agents_are_refused_where_nothing_reads_them(sim: Sim) -> None:
    with pytest.raises(ConfigError, match="no choice of history"):
        sim.run(input_file=DATA / "datasets" / "multi_turn.jsonl", agentic_history="recorded", **FAST)
    for more in ({"agentic_history": "live"}, {"agentic_tool_messages": True}):
        with pytest.raises(ConfigError):
            sim.run(**more)

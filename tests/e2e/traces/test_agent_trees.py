"""What becomes of trees of agents when things go wrong, what the lines of results say of them, and what a prefix cache makes of them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds, simulate, summary_of
from tests.unit.traces.weka_sessions import FORK, SUBAGENTS, SYSTEM, agent, request, session, write_sessions

from aiperf.errors import ErrorKind
from aiperf.records.agents import AgentFacts, read_agent_facts
from aiperf.run.run import Run
from aiperf.traces.agents import Layout, lay_out
from aiperf.traces.as_trace import as_trace
from aiperf.traces.tools.prefix_reuse import compute_reuse, lru_hits, stack_distances

FAST: dict[str, object] = {
    "isl": None,
    "osl": None,
    "request_count": None,
    "system_idle_gap_cap_seconds": 0.02,
    "concurrency": 1,
}
DEADLINE_S = 60.0


def replay(sim: Sim, *sessions: dict[str, Any], **flags: object) -> Run:
    path = write_sessions(sim.dir / "traces.jsonl", [dict(s) for s in sessions])
    return sim.run(input_file=path, **{**FAST, **flags})


def facts_of(run: Run) -> AgentFacts:
    found = read_agent_facts(run.dir)
    assert found is not None
    return found


def lanes_of(run: Run) -> dict[str, int]:
    assert run.outcome is not None
    found: dict[str, int] = (run.outcome.phases[-1].model_extra or {})["lanes"]
    return found


def test_a_server_that_dies_in_the_middle_ends_every_tree(tmp_path: Path) -> None:
    """Requests fail at once from then on; each stream goes through its turns, joins included, and the run ends by itself."""
    with simulate(tmp_path, ttft_ms=20) as sim:

        def die() -> None:
            give_up = time.monotonic() + DEADLINE_S
            while json.loads(sim.server.stats())["requests"] < 5 and time.monotonic() < give_up:
                time.sleep(0.005)
            sim.server.stop()

        killer = threading.Thread(target=die)
        killer.start()
        run = replay(sim, SUBAGENTS, SYSTEM, FORK, concurrency=3, failed_request_threshold=1)
        killer.join()
    assert run.columns.num_rows == 5 + 3 + 6, "every turn of every agent was sent"
    found = kinds(run)
    assert 0 < found[ErrorKind.OK] < 14
    assert lanes_of(run)["plays_completed"] == 3
    assert lanes_of(run)["unstuck"] == 0


@pytest.mark.parametrize("failing", [1, 2])
def test_a_parent_that_fails_still_starts_its_children_and_joins_them(tmp_path: Path, failing: int) -> None:
    fault = {"kind": "status", "status": 500, "requests": [failing]}
    with simulate(tmp_path, faults=[fault]) as sim:
        run = replay(sim, SUBAGENTS, failed_request_threshold=1)
        rows = sim.ledger()
    assert kinds(run) == {ErrorKind.OK: 4, ErrorKind.HTTP_STATUS: 1}
    last = max(rows, key=lambda r: int(r["first_byte_read_ns"]))
    assert last["max_tokens"] == 10, "the join, behind its children"


def test_an_overflow_of_the_parent_lets_its_running_children_finish_and_the_lane_go_on(tmp_path: Path) -> None:
    """The parent's second prompt is too long: its third turn is not sent; the sub-agent that runs goes on, the next session is played."""
    parent = session(
        "parent",
        [
            request(0, 320, 20, range(1, 6)),
            agent(0.5, "a", [request(0, 128, 9, [50, 51], 9), request(20, 192, 9, [50, 51, 52])], duration_ms=30_000),
            request(3, 6400, 20, range(1, 101)),
            request(60, 640, 20, range(1, 11)),
        ],
    )
    with simulate(tmp_path, context_limit=1000) as sim:
        run = replay(sim, parent, SYSTEM)
    names = [run.session_ids[int(s)] for s in run.columns.scalar("session")]
    assert sorted(names) == ["parent", "parent", "parent::sa:a", "parent::sa:a", "system", "system", "system"]
    assert kinds(run) == {ErrorKind.CONTEXT_OVERFLOW: 1, ErrorKind.OK: 6}
    assert (lanes_of(run)["streams_overflowed"], lanes_of(run)["plays_completed"]) == (1, 2)
    lines = [json.loads(x)["metadata"] for x in (run.dir / "profile_export.jsonl").read_text().splitlines()]
    assert [x["conversation_id"] for x in lines if x["context_overflow_skip"]] == ["parent"]


def test_lines_say_which_agent_sent_a_request_and_where_it_stands_in_the_recording(tmp_path: Path) -> None:
    with simulate(tmp_path) as sim:
        run = replay(sim, SUBAGENTS, num_sessions=2, cache_bust="first_turn_prefix")
    lines = [json.loads(x)["metadata"] for x in (run.dir / "profile_export.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    roots = {x["x_correlation_id"] for x in lines if x["agent_depth"] == 0}
    assert len(roots) == 2, "one for each play"
    for line in lines:
        assert line["root_correlation_id"] in roots
        assert line["source_trace_id"] == "agents"
        if line["agent_depth"]:
            assert line["parent_correlation_id"] == line["root_correlation_id"] != line["x_correlation_id"]
            assert line["source_kind"] == "weka_subagent"
        else:
            assert line["root_correlation_id"] == line["x_correlation_id"]
            assert "parent_correlation_id" not in line
            assert line["source_kind"] == "weka_main"
    places = {(x["source_outer_idx"], x.get("source_inner_idx")) for x in lines}
    assert places == {(0, None), (3, None), (1, 0), (1, 1), (2, 0)}
    by_play = {x["root_correlation_id"]: x["session_num"] for x in lines}
    assert all(by_play[x["root_correlation_id"]] == x["session_num"] for x in lines)


GROWING = [
    session(f"grow-{n}", [request(12 * k, 640 + 320 * k, 60, range(1, 11 + 5 * k)) for k in range(8)]) for n in range(4)
]


def hits_of(run: Run) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(tokens in the cache by the server, by the recordings), in the order of the requests."""
    order = np.argsort(run.columns.scalar("sent"))
    facts = facts_of(run)
    rows = facts.rows(run.columns.scalar("session"), run.columns.scalar("turn"))
    return run.columns.scalar("usage_cached")[order], (facts.hits[rows] * 64)[order]


ENGINE = {"block_size": 16, "max_num_seqs": 8, "prefix_caching": True}


def test_an_unbounded_cache_hits_as_much_as_the_recordings_say(tmp_path: Path) -> None:
    """The server's engine finds prompts again by their tokens in blocks of 16; of a prompt it computes at least one block."""
    with simulate(tmp_path, engine={**ENGINE, "num_blocks": 200_000}) as sim:
        run = replay(sim, *GROWING, FORK, SYSTEM)
    cached, promised = hits_of(run)
    assert np.all(np.abs(cached - promised) <= 32), np.c_[cached, promised]
    found = summary_of(run)["agentic"]["per_agent"]["main"]
    assert found["measured_hit_percent"] == pytest.approx(found["theoretical_hit_percent"], abs=1.5)


def test_a_bounded_cache_hits_as_much_as_the_prediction_for_its_size(tmp_path: Path) -> None:
    """Sessions are recycled through a cache that holds about one of them and a half: least recently used blocks are gone."""
    blocks = 400
    with simulate(tmp_path, engine={**ENGINE, "num_blocks": blocks}) as sim:
        run = replay(sim, *GROWING, concurrency=3, num_sessions=4)
    order = np.argsort(run.columns.scalar("sent"))
    cached = run.columns.scalar("usage_cached")[order]
    facts = facts_of(run)
    rows = facts.rows(run.columns.scalar("session"), run.columns.scalar("turn"))[order]
    table = lay_out(write_sessions(tmp_path / "again.jsonl", GROWING), Layout())
    trace = as_trace(tmp_path, table)
    place = np.empty(table.num_rows, np.int64)
    place[rows] = np.arange(len(rows))
    in_order = np.lexsort((table.outer, table.t_ns, table.trace[table.session]))
    as_sent = replace(trace, at_ns=place[in_order])
    reuse = compute_reuse(as_sent)
    predicted = lru_hits(stack_distances(reuse), table.num_rows, blocks * 16 // 64) * 64
    unbounded = reuse.hits * 64
    assert predicted.sum() < 0.9 * unbounded.sum(), "the cache is too small for all"
    assert cached.sum() == pytest.approx(predicted.sum(), rel=0.12), (cached.sum(), predicted.sum(), unbounded.sum())

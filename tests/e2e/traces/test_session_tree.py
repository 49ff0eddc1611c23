"""Who is whose child: the ids that records name as parent and root are those that the server received from these sessions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.e2e.runs import Sim

from aiperf.records.session_tree import SessionTree

TURN = {"messages": [{"role": "user", "content": "go on"}], "max_tokens": 3}


def dag(path: Path) -> Path:
    rows = [
        {"session_id": "root", "turns": [{**TURN, "spawns": ["child"]}, {**TURN, "forks": ["fork"]}]},
        {"session_id": "child", "turns": [{**TURN, "spawns": ["grandchild"]}, TURN]},
        {"session_id": "grandchild", "turns": [TURN]},
        {"session_id": "fork", "turns": [TURN]},
        {"session_id": "beside", "turns": [TURN]},
        {"session_id": "other", "turns": [TURN], "pre_session_spawns": ["beside"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_children_name_the_ids_that_their_parents_sent(serve: Callable[..., Sim]) -> None:
    """Each tree several times, several at once: a child's parent is that of its own play."""
    sim = serve(ttft_ms=2, ledger_headers=True)
    run = sim.run(
        input_file=dag(sim.dir / "dag.jsonl"),
        custom_dataset_type="dag_jsonl",
        concurrency=3,
        request_count=40,
        isl=None,
        osl=None,
    )
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["metadata"] for line in lines]
    assert len({r["x_correlation_id"] for r in rows if r["conversation_id"] == "root"}) >= 3
    above = {"root": None, "child": "root", "grandchild": "child", "fork": "root", "other": None, "beside": None}
    depth = {"root": 0, "child": 1, "grandchild": 2, "fork": 1, "other": 0, "beside": 0}
    sessions = {(r["session_num"], r["conversation_id"]): r["x_correlation_id"] for r in rows}
    for row in rows:
        name, play = row["conversation_id"], row["session_num"]
        assert row["agent_depth"] == depth[name]
        parent, root = above[name], "root" if depth[name] else name
        assert row.get("parent_correlation_id") == (None if parent is None else sessions[play, parent])
        assert row["root_correlation_id"] == sessions[play, root]
    sent = {row["headers"]["x-correlation-id"] for row in sim.ledger() if "x-correlation-id" in row.get("headers", {})}
    assert {r["root_correlation_id"] for r in rows} <= sent


def test_branches_are_counted(serve: Callable[..., Sim]) -> None:
    """AIPerf's `branch_stats`, of a file whose branches one can count: child, grandchild and fork, and two turns that wait."""
    sim = serve(ttft_ms=2)
    path = dag(sim.dir / "dag.jsonl")
    options = {"input_file": path, "custom_dataset_type": "dag_jsonl", "concurrency": 1, "isl": None, "osl": None}
    run = sim.run(**options, request_count=None)
    summary = json.loads((run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert {k: v for k, v in summary["branch_stats"].items() if v} == {
        "children_spawned": 3,
        "children_completed": 3,
        "parents_suspended": 2,
        "parents_resumed": 2,
    }
    assert summary["input_config"]["phases"][0]["sessions"] == 3
    cut = sim.run(**options, request_count=3, artifact_dir=sim.dir / "cut")
    summary = json.loads((cut.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert {k: v for k, v in summary["branch_stats"].items() if v} == {
        "children_spawned": 2,
        "children_completed": 1,
        "children_truncated": 1,
        "parents_suspended": 2,
        "joins_suppressed": 2,
    }


def test_what_two_turns_spawn_is_sent_twice_under_one_name(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=2)
    path = sim.dir / "dag.jsonl"
    rows = [
        {"session_id": "root", "turns": [{**TURN, "spawns": ["help"]}, {**TURN, "spawns": ["help"]}, TURN]},
        {"session_id": "help", "turns": [TURN]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = sim.run(
        input_file=path, custom_dataset_type="dag_jsonl", concurrency=1, request_count=None, isl=None, osl=None
    )
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    sent = sorted((json.loads(line)["metadata"] for line in lines), key=lambda m: int(m["request_start_ns"]))
    assert [(m["conversation_id"], m["turn_index"]) for m in sent] == [
        ("root", 0),
        ("help", 0),
        ("root", 1),
        ("help", 0),
        ("root", 2),
    ]
    helpers = [m for m in sent if m["conversation_id"] == "help"]
    assert len({m["x_correlation_id"] for m in helpers}) == 2, "each is a session of its own"
    assert {m["parent_correlation_id"] for m in helpers} == {sent[0]["x_correlation_id"]}


def test_an_id_of_another_family_has_no_known_parent() -> None:
    """Records that were not made by this engine: absent, not a wrong id."""
    tree = SessionTree([-1, 0])
    ids = ["12345678-1234-4234-8234-123456789abc", None]
    assert tree.parent_ids(np.array([1, 1]), ids) == [None, None]
    assert tree.root_ids(np.array([1, 0]), ids) == [None, None]
    assert tree.depth(np.array([1, 0])).tolist() == [1, 0]

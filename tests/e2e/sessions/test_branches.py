"""Branching conversations: what forks, spawns and joins wait for, by the order of the server's ledger."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.runs import Sim, kinds

from aiperf import Run
from aiperf.errors import ErrorKind

Serve = Callable[..., Sim]
Rows = dict[str, list[dict[str, Any]]]


def write(path: Path, sessions: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(s) + "\n" for s in sessions), encoding="utf-8")
    return path


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


AGENTS: list[object] = [
    {
        "session_id": "main",
        "turns": [
            {"messages": say("Plan."), "spawns": ["search", "read"]},
            {"messages": say("Sum up.")},
            {"messages": say("Close."), "forks": [{"child": "aside", "background": True}]},
            {"messages": say("Done.")},
        ],
    },
    {"session_id": "search", "turns": [{"messages": say("Search.")}, {"messages": say("Again.")}]},
    {"session_id": "read", "turns": [{"messages": say("Read.")}]},
    {"session_id": "aside", "turns": [{"messages": say("By the way?")}]},
]


def ends(prompt: str) -> str:
    return next(
        (
            w
            for w in ("Plan.", "Sum up.", "Close.", "Done.", "Search.", "Again.", "Read.", "way?")
            if prompt.endswith(w)
        ),
        prompt,
    )


def run_agents(sim: Sim, path: Path, **flags: object) -> Run:
    asked: dict[str, object] = {
        "input_file": path,
        "custom_dataset_type": "dag_jsonl",
        "isl": None,
        "request_count": None,
        **flags,
    }
    return sim.run(**asked)


def by_last_words(sim: Sim) -> Rows:
    found: Rows = defaultdict(list)
    for row in sim.ledger():
        found[ends(row["prompt"])].append(row)
    return dict(found)


def test_joins_wait_for_all_branches_and_forks_for_their_turn(serve: Serve, tmp_path: Path) -> None:
    sim = serve(ledger_prompts=True, ttft_ms=8)
    run = run_agents(sim, write(tmp_path / "a.jsonl", AGENTS), num_sessions=5, concurrency=1)
    assert kinds(run) == {ErrorKind.OK: 40}
    rows = by_last_words(sim)
    assert {name: len(r) for name, r in rows.items()} == dict.fromkeys(rows, 5)
    for k in range(5):
        at = {name: (r[k]["first_byte_read_ns"], r[k]["end_ns"]) for name, r in rows.items()}
        assert at["Plan."][1] <= min(at["Search."][0], at["Read."][0])
        assert at["Search."][1] <= at["Again."][0]
        assert max(at["Again."][1], at["Read."][1]) <= at["Sum up."][0]
        assert at["Close."][1] <= min(at["way?"][0], at["Done."][0])
        # Branches go on at the same time: they are one conversation, which holds one slot.
        assert at["Search."][0] < at["Read."][1]
        assert at["Read."][0] < at["Search."][1]


def test_a_fork_has_the_history_with_the_live_answers_and_its_length_counts_them(serve: Serve, tmp_path: Path) -> None:
    sim = serve(ledger_prompts=True)
    run = run_agents(sim, write(tmp_path / "a.jsonl", AGENTS), num_sessions=3, concurrency=3)
    rows = by_last_words(sim)
    assert [r["messages"] for r in rows["way?"]] == [7] * 3
    for aside, close in zip(
        sorted(rows["way?"], key=lambda r: r["prompt"]), sorted(rows["Close."], key=lambda r: r["prompt"]), strict=True
    ):
        assert aside["prompt"].startswith(close["prompt"])
    columns = run.columns
    served = {row["request_id"]: row["prompt_tokens"] for row in sim.ledger()}
    assert columns.scalar("isl") == pytest.approx([served[str(n)] for n in columns.strings("request_id")], abs=8)


@pytest.mark.parametrize("count", [1, 3, 7, 12, 23])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_count_that_cuts_conversations_ends_the_run(
    serve: Serve, tmp_path: Path, count: int, workers: int
) -> None:
    """It once hung: turns waited for branches that nobody would send any more."""
    sim = serve()
    run = run_agents(
        sim, write(tmp_path / "a.jsonl", AGENTS), request_count=count, num_sessions=None, concurrency=4, workers=workers
    )
    assert kinds(run) == {ErrorKind.OK: count}
    assert len(sim.ledger()) == count


def test_a_branch_that_fails_ends_what_waits_for_it_and_nothing_else(serve: Serve, tmp_path: Path) -> None:
    sim = serve(ledger_prompts=True, faults=[{"kind": "status", "status": 500, "every": 5}])
    run = run_agents(sim, write(tmp_path / "a.jsonl", AGENTS), num_sessions=20, concurrency=4, max_error_rate=0.9)
    columns = run.columns
    failed = int((columns.scalar("error_kind") != 0).sum())
    assert failed > 3
    assert columns.num_rows == len(sim.ledger()) < 160
    rows = by_last_words(sim)
    answered = {name: sum(r["status"] == 200 for r in found) for name, found in rows.items()}
    assert len(rows["Sum up."]) <= min(answered["Again."], answered["Read."])
    assert len(rows["Search."]) == len(rows["Read."]) == answered["Plan."]


def test_branches_in_an_open_loop_come_to_their_end(serve: Serve, tmp_path: Path) -> None:
    sim = serve(ttft_ms=3)
    run = run_agents(
        sim,
        write(tmp_path / "a.jsonl", AGENTS),
        num_sessions=10,
        concurrency=None,
        request_rate=200.0,
    )
    assert kinds(run).keys() == {ErrorKind.OK}
    assert run.columns.num_rows == 80


def rounds(path: Path, **fields: object) -> Path:
    """Two rounds of `left`, two turns that are sent as they stand, and `right`, one."""
    driver = {"session_id": "run", "orchestrator": True, "spawns": ["left", "right"], "rounds": 2, **fields}
    whole = "message_array_with_responses"
    left = {
        "session_id": "left",
        "context_mode": whole,
        "turns": [{"messages": say("Left.")}, {"messages": say("On.")}],
    }
    return write(path, [driver, left, {"session_id": "right", "turns": [{"messages": say("Right.")}]}])


def metadata_of(run: Run) -> list[dict[str, Any]]:
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["metadata"] for line in lines]


def test_a_round_begins_after_all_of_the_one_before_and_its_think_time(serve: Serve, tmp_path: Path) -> None:
    sim = serve(ttft_ms=2, ledger_prompts=True)
    path = rounds(tmp_path / "a.jsonl", think_time_ms=60)
    run = run_agents(sim, path, num_sessions=4, concurrency=2)
    assert kinds(run) == {ErrorKind.OK: 24}
    assert len(sim.ledger()) == 24
    assert all(row["messages"] == 1 for row in sim.ledger())
    rows = metadata_of(run)
    plays = {row["root_correlation_id"] for row in rows}
    assert len(plays) == 4
    assert {(row["agent_depth"], row["conversation_id"]) for row in rows} == {(1, "left"), (1, "right")}
    for play in plays:
        own = [row for row in rows if row["root_correlation_id"] == play]
        assert {row["parent_correlation_id"] for row in own} == {play}
        first, second = own_rounds(own)
        assert [len(first), len(second)] == [3, 3]
        pause = min(row["request_start_ns"] for row in second) - max(row["request_end_ns"] for row in first)
        assert pause >= 60e6
    summary = json.loads((run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert {name: n for name, n in summary["branch_stats"].items() if n} == {
        "children_spawned": 16,
        "children_completed": 16,
        "graphs_admitted": 4,
        "graphs_completed_to_end": 4,
    }
    assert summary["input_config"]["phases"][0]["sessions"] == 4


def own_rounds(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The requests of one play by round: those of a conversation have one id, and the first round's are the earlier ones."""
    begin: dict[str, int] = {}
    for row in rows:
        one = row["x_correlation_id"]
        begin[one] = min(begin.get(one, row["request_start_ns"]), row["request_start_ns"])
    early = set(sorted(begin, key=lambda one: begin[one])[:2])
    return [r for r in rows if r["x_correlation_id"] in early], [r for r in rows if r["x_correlation_id"] not in early]


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (5, 2), (13, 1), (20, 2)])
@pytest.mark.parametrize("load", [{"concurrency": 4}, {"concurrency": None, "request_rate": 400.0}])
def test_only_requests_count_towards_the_bound(
    serve: Serve, tmp_path: Path, count: int, workers: int, load: dict[str, object]
) -> None:
    sim = serve()
    path = rounds(tmp_path / "a.jsonl", think_time_ms=1, think_time_sigma=1, think_time_max_ms=5)
    run = run_agents(sim, path, request_count=count, num_sessions=None, workers=workers, **load)
    assert kinds(run) == {ErrorKind.OK: count}
    assert len(sim.ledger()) == count


def test_think_times_are_drawn_for_each_play_and_repeat_with_the_seed(serve: Serve, tmp_path: Path) -> None:
    """Plays that begin at once send in the order of their think times: not that of their numbers, and the same in each run."""
    sim = serve()
    path = rounds(tmp_path / "a.jsonl", rounds=1, think_time_ms=150, think_time_sigma=1.2, think_time_max_ms=900)
    orders = []
    for name in ("one", "two"):
        options = {"num_sessions": 4, "concurrency": 4, "random_seed": 3, "artifact_dir": tmp_path / name}
        begin: dict[int, int] = {}
        for row in metadata_of(run_agents(sim, path, **options)):
            begin.setdefault(row["session_num"], row["request_start_ns"])
        orders.append(sorted(begin, key=lambda play: begin[play]))
    assert orders[0] == orders[1] != [0, 1, 2, 3]

"""Conversations against the simulated server: order, live answers, think time, slots, connections; by the server's ledger."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds, summary_of

from aiperf import Run, report
from aiperf.errors import ErrorKind, ExitCode

Serve = Callable[..., Sim]
Rows = list[dict[str, Any]]


def conversations(sim: Sim) -> dict[str, Rows]:
    """The ledger's rows by conversation, in order of arrival."""
    found: dict[str, Rows] = defaultdict(list)
    for row in sim.ledger():
        found[row["correlation_id"]].append(row)
    return dict(found)


def in_flight(rows: Rows, begin: str, end: str) -> int:
    events = sorted(e for row in rows for e in ((row[begin], 1), (row[end], -1)))
    return int(max(np.cumsum([step for _, step in events])))


def test_each_turn_holds_the_real_answers_before_it(serve: Serve) -> None:
    sim = serve(ledger_prompts=True, ttft_ms=2)
    run = sim.run(
        request_count=None, num_sessions=6, session_turns_mean=5, concurrency=3, isl=30, osl=7, export_level="raw"
    )
    assert kinds(run) == {ErrorKind.OK: 30}
    columns = run.columns
    answers: dict[tuple[int, int], str] = {}
    texts = columns.strings("text")
    for row_number, (session, turn) in enumerate(
        zip(columns.scalar("session_num"), columns.scalar("turn"), strict=True)
    ):
        answers[int(session), int(turn)] = texts[row_number] or ""
    names = {n: i for i, n in enumerate(columns.strings("request_id"))}
    for rows in conversations(sim).values():
        assert [row["messages"] for row in rows] == [1, 3, 5, 7, 9]
        for turn_number, row in enumerate(rows):
            row_number = names[row["request_id"]]
            session = int(columns.scalar("session_num")[row_number])
            assert columns.scalar("turn")[row_number] == turn_number
            at = 0
            for k in range(turn_number):
                place = row["prompt"].find(answers[session, k], at)
                assert place > at, f"turn {turn_number} lacks the answer to turn {k}"
                at = place + len(answers[session, k])
        assert all(b["prompt"].startswith(a["prompt"]) for a, b in pairwise(rows))


def test_input_lengths_count_the_answers_in_the_body(serve: Serve) -> None:
    """Records, JSONL, summary and the server's `usage` agree; the accounting check is consistent."""
    sim = serve(ttft_ms=1, tokens_per_chunk=[1, 3])
    run = sim.run(request_count=None, num_sessions=8, session_turns_mean=4, concurrency=4, isl=25, osl=11)
    assert kinds(run) == {ErrorKind.OK: 32}
    columns = run.columns
    isl, usage = columns.scalar("isl"), columns.scalar("usage_prompt")
    turn = columns.scalar("turn")
    assert set(isl - (25 * (turn + 1) + 11 * turn)) == {0.0}
    assert np.abs(isl - usage).max() <= 0, "the server counts the same tokens"
    served = {row["request_id"]: row["prompt_tokens"] for row in sim.ledger()}
    assert [served[str(n)] for n in columns.strings("request_id")] == isl.astype(int).tolist()
    summary = summary_of(run)
    assert summary["input_sequence_length"]["avg"] == pytest.approx(isl.mean())
    lines = [json.loads(x) for x in (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(x["metrics"]["input_sequence_length"]["value"] for x in lines) == sorted(isl)
    assert not [n for n in run.summary().notices if n.kind == "conservation"]
    assert not (run.dir / "replies.npz").exists()


def test_input_lengths_are_those_of_the_first_report_in_a_second_one(serve: Serve) -> None:
    sim = serve()
    run = sim.run(request_count=None, num_sessions=3, session_turns_mean=3, isl=25, osl=11)
    again = report(run.dir)
    assert again.columns.scalar("isl").tolist() == run.columns.scalar("isl").tolist()
    assert summary_of(again)["input_sequence_length"] == summary_of(run)["input_sequence_length"]


def test_answers_of_different_runs_of_a_session_are_not_mixed(serve: Serve) -> None:
    """The same session of the plan, issued again and again: each has answers of its own length."""
    sim = serve(natural_osl=12, natural_osl_stddev=6)
    run = sim.run(
        request_count=60,
        num_dataset_entries=2,
        session_turns_mean=3,
        isl=10,
        osl=30,
        concurrency=5,
        ignore_eos="off",
    )
    columns = run.columns
    served = {row["request_id"]: row["prompt_tokens"] for row in sim.ledger()}
    assert len(set(columns.scalar("counted_output"))) > 3
    assert [served[str(n)] for n in columns.strings("request_id")] == columns.scalar("isl").astype(int).tolist()


def test_think_time_lies_between_an_answer_and_the_next_turn(serve: Serve) -> None:
    """Due to the microsecond by the records; by the server never earlier: its last stamp before a write (the one after it may be late)."""
    sim = serve(ttft_ms=3)
    run = sim.run(
        request_count=None,
        num_sessions=10,
        session_turns_mean=4,
        session_turn_delay_mean=80.0,
        session_delay_ratio=0.5,
        concurrency=10,
    )
    waits = [
        (b["first_byte_read_ns"] - a["last_ns"]) / 1e6
        for rows in conversations(sim).values()
        for a, b in pairwise(rows)
    ]
    assert len(waits) == 30
    assert min(waits) >= 39.9
    columns = run.columns
    at = {
        (int(s), int(t)): (due, end)
        for s, t, due, end in zip(
            *(columns.scalar(n) for n in ("session_num", "turn", "scheduled", "end")), strict=True
        )
    }
    planned = [due - at[s, t - 1][1] for (s, t), (due, _) in at.items() if t]
    assert planned == pytest.approx([40e6] * 30, abs=1000)


def test_think_times_vary_as_asked_and_are_capped(serve: Serve) -> None:
    sim = serve()
    sim.run(
        request_count=None,
        num_sessions=50,
        session_turns_mean=3,
        session_turn_delay_mean=60.0,
        session_turn_delay_stddev=30.0,
        inter_turn_delay_cap_seconds=0.07,
        concurrency=50,
    )
    waits = np.array(
        [
            (b["first_byte_read_ns"] - a["end_ns"]) / 1e6
            for rows in conversations(sim).values()
            for a, b in pairwise(rows)
        ]
    )
    assert len(waits) == 100
    assert waits.std() > 10
    assert np.quantile(waits, 0.5) < 75
    assert (waits < 40).sum() > 10


def test_a_session_holds_its_slot_to_its_end(serve: Serve) -> None:
    """At concurrency 3, never more than 3 conversations are open, though each thinks most of the time."""
    sim = serve(ttft_ms=2)
    sim.run(request_count=None, num_sessions=12, session_turns_mean=3, session_turn_delay_mean=20.0, concurrency=3)
    spans = [{"from": rows[0]["first_byte_read_ns"], "to": rows[-1]["last_ns"]} for rows in conversations(sim).values()]
    assert len(spans) == 12
    assert in_flight(spans, "from", "to") == 3


def test_turns_follow_the_number_asked_for(serve: Serve) -> None:
    sim = serve()
    sim.run(request_count=None, num_sessions=80, session_turns_mean=4, session_turns_stddev=1.5, concurrency=20)
    turns = np.array([len(rows) for rows in conversations(sim).values()])
    assert len(turns) == 80
    assert turns.min() >= 1
    assert abs(turns.mean() - 4.5) < 0.8  # rounded up, as AIPerf does
    assert turns.std() > 0.7


def test_request_count_cuts_the_last_sessions_and_the_run_ends(serve: Serve) -> None:
    run = serve().run(request_count=13, session_turns_mean=5, concurrency=2)
    assert kinds(run) == {ErrorKind.OK: 13}
    assert run.exit_code == ExitCode.OK


def test_a_failed_turn_ends_its_conversation_and_the_rest_is_counted_as_not_sent(serve: Serve) -> None:
    sim = serve(faults=[{"kind": "status", "status": 500, "every": 7}])
    run = sim.run(request_count=None, num_sessions=10, session_turns_mean=4, concurrency=2, max_error_rate=0.9)
    ledger = conversations(sim)
    assert all(row["status"] == 200 for rows in ledger.values() for row in rows[:-1])
    sent = sum(map(len, ledger.values()))
    assert sent < 40
    assert run.columns.num_rows == sent
    assert not [n for n in run.summary().notices if n.kind == "conservation"]


@pytest.mark.parametrize(("strategy", "per_session"), [("sticky-user-sessions", 1), ("never", 3)])
def test_connections_by_strategy(serve: Serve, strategy: str, per_session: int) -> None:
    sim = serve(ttft_ms=2)
    sim.run(
        request_count=None,
        num_sessions=9,
        session_turns_mean=3,
        concurrency=4,
        connection_reuse_strategy=strategy,
        session_turn_delay_mean=5.0,
    )
    ledger = conversations(sim)
    assert {len({row["connection"] for row in rows}) for rows in ledger.values()} == {per_session}
    spans = defaultdict(list)
    for rows in ledger.values():
        for row in rows:
            spans[row["connection"]].append(row["correlation_id"])
    # A connection never changes between conversations that overlap: one conversation's turns on it are next to each other.
    for names in spans.values():
        assert len([a for a, b in pairwise(names) if a != b]) == len(set(names)) - 1


def test_pooled_connections_are_used_again(serve: Serve) -> None:
    sim = serve(ttft_ms=2)
    sim.run(request_count=None, num_sessions=9, session_turns_mean=3, concurrency=4)
    assert len({row["connection"] for row in sim.ledger()}) <= 4


def first_prompts(sim: Sim) -> list[str]:
    return [rows[0]["prompt"] for rows in conversations(sim).values()]


def test_prefixes_come_from_the_pool_and_add_to_the_length(serve: Serve) -> None:
    from aiperf._core import builtin_encode

    sim = serve(ledger_prompts=True)
    sim.run(request_count=40, num_prefix_prompts=3, prefix_prompt_length=60, isl=20)
    ledger = sim.ledger()
    assert {row["prompt_tokens"] for row in ledger} == {80}
    heads = [tuple(builtin_encode(row["prompt"])[:60]) for row in ledger]
    assert len(set(heads)) == 3
    assert len({row["prompt"] for row in ledger}) == 40


def test_shared_system_prompt_and_user_context(serve: Serve) -> None:
    sim = serve(ledger_prompts=True)
    run = sim.run(
        request_count=None,
        num_sessions=6,
        session_turns_mean=2,
        shared_system_prompt_length=50,
        user_context_prompt_length=30,
        isl=20,
        osl=5,
    )
    prompts = first_prompts(sim)
    common = min(len(_common(a, b)) for a, b in pairwise(prompts))
    assert common > 150
    assert len({p[: common + 40] for p in prompts}) == 6
    ledger = conversations(sim)
    assert {rows[0]["prompt_tokens"] for rows in ledger.values()} == {100}
    assert {rows[1]["prompt_tokens"] for rows in ledger.values()} == {125}
    assert sorted(run.columns.scalar("isl")) == [100.0] * 6 + [125.0] * 6


def _common(a: str, b: str) -> str:
    return a[: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))]


@pytest.mark.parametrize("place", ["first_turn_prefix", "system_prefix"])
def test_cache_busting_leaves_nothing_to_share(serve: Serve, place: str) -> None:
    """With one shared system prompt, all prompts would begin alike; the eight tokens in front part them."""
    sim = serve(ledger_prefixes=True, ledger_prompts=True)
    sim.run(
        request_count=30,
        shared_system_prompt_length=100 if place == "system_prefix" else None,
        isl=200,
        cache_bust=place,
    )
    assert max(row["shared_prefix_bytes"] for row in sim.ledger()) < 40


def test_without_cache_busting_the_system_prompt_is_shared(serve: Serve) -> None:
    sim = serve(ledger_prefixes=True)
    sim.run(request_count=10, shared_system_prompt_length=100, isl=50)
    assert min(row["shared_prefix_bytes"] for row in sim.ledger()[1:]) > 300


def entries_file(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"text": f"entry {i:03d}"}) + "\n" for i in range(count)), encoding="utf-8")
    return path


@pytest.mark.parametrize("strategy", ["sequential", "shuffle", "random"])
def test_sampling_strategies(serve: Serve, tmp_path: Path, strategy: str) -> None:
    sim = serve(ledger_prompts=True)
    sim.run(
        input_file=entries_file(tmp_path / "p.jsonl", 12),
        custom_dataset_type="single_turn",
        request_count=36,
        concurrency=1,
        dataset_sampling_strategy=strategy,
        isl=None,
        osl=None,
    )
    order = [int(row["prompt"].split()[-1]) for row in sim.ledger()]
    assert len(order) == 36
    if strategy == "sequential":
        assert order == [*range(12)] * 3
    elif strategy == "shuffle":
        assert all(sorted(order[i : i + 12]) == [*range(12)] for i in (0, 12, 24))
        assert order[:12] != [*range(12)]
    else:
        assert order[:12] != [*range(12)]
        assert len(set(order[:12])) < 12


def test_the_same_seed_sends_the_same_and_another_seed_something_else(serve: Serve, tmp_path: Path) -> None:
    sim = serve(ledger_prompts=True)
    runs: list[list[str]] = []
    for k, seed in enumerate((5, 5, 6)):
        before = len(sim.ledger())
        sim.run(request_count=6, random_seed=seed, artifact_dir=tmp_path / str(k), concurrency=1)
        runs.append([row["prompt"] for row in sim.ledger()[before:]])
    assert runs[0] == runs[1]
    assert not set(runs[0]) & set(runs[2])


def test_a_killed_run_counts_the_answers_like_any_other(serve: Serve, tmp_path: Path) -> None:
    """What a body holds is written down before the load: the journal and that file are all a report needs."""
    import shutil

    from aiperf.records import store

    sim = serve()
    kept = tmp_path / "kept"
    finalise = store.finalise

    def keep(run_dir: Path, *args: Any, **more: Any) -> store.Finalised:
        shutil.copytree(run_dir, kept)
        return finalise(run_dir, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiperf.run.seal.finalise", keep)
        run = sim.run(request_count=None, num_sessions=4, session_turns_mean=3, isl=25, osl=11)
    recovered: Run = report(kept)
    assert recovered.columns.scalar("isl").tolist() == run.columns.scalar("isl").tolist()
    assert recovered.columns.scalar("isl").max() == 3 * 25 + 2 * 11


@pytest.mark.parametrize("cap", [None, 4])
def test_at_a_rate_all_turns_of_all_sessions_are_sent(serve: Serve, cap: int | None) -> None:
    """When the last session has begun, the turns of those under way still get their ticks."""
    sim = serve(ttft_ms=3)
    run = sim.run(
        request_rate=300.0,
        concurrency=cap,
        request_count=None,
        num_sessions=12,
        session_turns_mean=4,
        session_turn_delay_mean=10.0,
    )
    assert kinds(run) == {ErrorKind.OK: 48}
    assert {len(rows) for rows in conversations(sim).values()} == {4}
    assert not [n for n in run.summary().notices if n.kind == "conservation"]

"""Recorded agent sessions against the simulated server: its ledger says what was really shared, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import MODEL, Sim, kinds, simulate, summary_of
from tests.unit.traces.weka_sessions import FORK, SUBAGENTS, SYSTEM, request, session, write_sessions

from aiperf import profile
from aiperf.cli import main
from aiperf.config.resolve import config_from
from aiperf.errors import AIPerfError, ConfigError, ErrorKind
from aiperf.observer import RunFacts, Silent
from aiperf.outcome import PhaseOutcome
from aiperf.plots import draw_all
from aiperf.records.agents import read_agent_facts
from aiperf.reports.page.view import plot_run
from aiperf.run.run import Run

FAST = {"isl": None, "osl": None, "request_count": None, "system_idle_gap_cap_seconds": 0.02, "benchmark_id": "b"}
SCENARIO = "inferencex-agentx-mvp"


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with simulate(tmp_path) as server:
        yield server


def lanes(run: Run) -> list[PhaseOutcome]:
    assert run.outcome is not None
    return list(run.outcome.phases)


def replay(sim: Sim, *sessions: Mapping[str, Any], **flags: object) -> Run:
    path = write_sessions(sim.dir / "traces.jsonl", [dict(s) for s in sessions])
    return sim.run(input_file=path, **{**FAST, "concurrency": 1, **flags})


def test_the_server_gets_every_request_of_every_agent_in_the_recorded_order(sim: Sim) -> None:
    run = replay(sim, SUBAGENTS)
    names = [run.session_ids[int(s)] for s in run.columns.scalar("session")]
    assert sorted(names) == ["agents", "agents", "agents::sa:a1", "agents::sa:a1", "agents::sa:a2"]
    rows = sim.ledger()
    assert [row["max_tokens"] for row in rows] == [70, 20, 20, 20, 10]
    last = rows[-1]
    assert all(row["end_ns"] <= last["first_byte_read_ns"] for row in rows[:-1]), (
        "the join came before its children's end"
    )
    assert {row["correlation_id"] for row in rows} == set(run.columns.strings("correlation_id"))


@pytest.mark.parametrize(("lanes", "words"), [(1, "1 lane"), (2, "2 lanes")])
def test_the_load_is_one_of_lanes_wherever_it_is_named(
    sim: Sim, capsys: pytest.CaptureFixture[str], lanes: int, words: str
) -> None:
    """A lane has all the sub-agents of its session: the concurrency is no number of requests in flight."""

    class Opened(Silent):
        load = ""

        def opened(self, facts: RunFacts) -> None:
            self.load = facts.load

    path = write_sessions(sim.dir / "traces.jsonl", [SUBAGENTS, SYSTEM])
    options = {"model": MODEL, "url": sim.url, "endpoint_type": "chat", "tokenizer": "builtin", "concurrency": lanes}
    more = {
        "input_file": path,
        "system_idle_gap_cap_seconds": 0.02,
        "probe": False,
        "calibrate": False,
        "report": False,
        "artifact_dir": sim.dir / "run",
    }
    observer = Opened()
    run = profile(config_from({**options, **more}), observer=observer)
    assert observer.load == words
    assert run.data.load == words
    flags = ("--model", MODEL, "--url", sim.url, "--tokenizer", "builtin", "--concurrency", str(lanes))
    assert main(["profile", *flags, "--input-file", str(path), "--dry-run"]) == 0
    load = capsys.readouterr().out.partition("Load\n")[2].partition("\n\n")[0]
    assert load.splitlines()[0].strip() == words


def test_the_text_shared_with_earlier_requests_is_what_the_blocks_say(tmp_path: Path) -> None:
    """The server compares the bytes of its prompts; a request's hits are whole blocks, and nothing beyond them is shared."""
    from aiperf._core import builtin_count

    with simulate(tmp_path, ledger_prompts=True, ledger_prefixes=True) as server:
        run = replay(server, SYSTEM, FORK, SUBAGENTS)
        rows = server.by_id()
    facts = read_agent_facts(run.dir)
    assert facts is not None
    hits = facts.hits[facts.rows(run.columns.scalar("session"), run.columns.scalar("turn"))]
    for name, expected in zip(run.columns.strings("request_id"), hits.tolist(), strict=True):
        row = rows[str(name)]
        shared = row["prompt"].encode()[: row["shared_prefix_bytes"]].decode(errors="ignore")
        tokens = int(builtin_count([shared])[0])
        assert expected * 64 - 2 <= tokens < expected * 64 + 20, (name, expected, tokens)


def test_two_runs_with_the_same_seed_and_id_send_the_same_bytes(sim: Sim) -> None:
    """Also the marks: they are of the benchmark's id, the lane, the session and the number of its play."""

    def sent(**flags: object) -> list[str]:
        before = len(sim.ledger())
        replay(sim, SYSTEM, SUBAGENTS, concurrency=2, cache_bust="first_turn_prefix", sessions=None, **flags)
        return sorted(str(row["prompt_hash"]) for row in sim.ledger()[before:])

    first = sent()
    assert first == sent()
    other = sent(benchmark_id=None)
    assert len(other) == len(first)
    assert set(other).isdisjoint(first)


def test_recycled_plays_have_a_new_mark_and_the_lanes_stay_full(sim: Sim) -> None:
    run = replay(sim, SYSTEM, concurrency=2, cache_bust="first_turn_prefix", num_sessions=5)
    assert len(sim.ledger()) == 15
    hashes = {str(row["prompt_hash"]) for row in sim.ledger()}
    assert len(hashes) == 15
    stats = (lanes(run)[0].model_extra or {})["lanes"]
    assert (stats["plays_started"], stats["plays_completed"]) == (5, 5)


def test_a_warm_up_primes_each_lane_and_is_in_no_metric(sim: Sim) -> None:
    run = replay(
        sim,
        SYSTEM,
        SUBAGENTS,
        concurrency=2,
        trajectory_start_min_ratio=0.3,
        trajectory_start_max_ratio=0.9,
        warmup_requests_per_lane=1,
        cache_bust="first_turn_prefix",
        num_sessions=2,
    )
    warmup, profiling = lanes(run)
    assert warmup.name == "agentic.warmup"
    stats = (warmup.model_extra or {})["lanes"]
    assert warmup.sent == stats["primers_sent"] + 2
    ones = [row for row in sim.ledger() if row["max_tokens"] == 1]
    assert len(ones) == warmup.sent
    assert summary_of(run)["request_count"]["avg"] == profiling.sent


def test_a_prompt_beyond_the_context_ends_its_stream_and_is_in_no_metric(tmp_path: Path) -> None:
    with simulate(tmp_path, context_limit=800) as small:
        run = replay(small, SUBAGENTS, SYSTEM, concurrency=2)
    found = summary_of(run)
    assert found["skipped_context_overflow_count"] == {"unit": "requests", "avg": 1}
    assert "error_request_count" not in found
    assert found["request_count"]["avg"] == 7
    assert kinds(run)[ErrorKind.CONTEXT_OVERFLOW] == 1
    assert run.exit_code == 0


def test_errors_change_nothing_and_the_replay_goes_on(tmp_path: Path) -> None:
    fault = {"kind": "status", "status": 500, "rate": 1.0}
    with simulate(tmp_path, faults=[fault]) as broken:
        run = replay(broken, SUBAGENTS, failed_request_threshold=1)
    assert kinds(run) == {ErrorKind.HTTP_STATUS: 5}


def test_results_have_aiperfs_keys_and_the_analysis(sim: Sim) -> None:
    run = replay(sim, SYSTEM, SUBAGENTS, concurrency=2)
    summary = summary_of(run)
    hit = summary["theoretical_prefix_cache_hit"]
    # system: 5 + 9 of 24; agents: a1 5 + 6, a2 0, the root's second 10, of 10 + 5 + 6 + 3 + 14.
    assert (hit["sum"], hit["count"]) == (35, 62)
    assert hit["avg"] == pytest.approx(100 * 35 / 62)
    assert "metadata" not in summary or "scenario" not in summary["metadata"]
    assert summary["branch_stats"]["children_spawned"] == 2
    assert set(summary["agentic"]["per_agent"]) == {"main", "subagent"}
    assert {s["session"] for s in summary["agentic"]["per_session"]} == {"system", "agents"}
    assert summary["e2e_normalized_interactivity_p90"]["avg"] <= summary["e2e_normalized_interactivity_p75"]["avg"]


def scenario(sim: Sim, **flags: object) -> Run:
    path = write_sessions(sim.dir / "traces.jsonl", [SYSTEM, SUBAGENTS])
    asked: dict[str, object] = {
        "scenario": SCENARIO,
        "input_file": path,
        "isl": None,
        "osl": None,
        "request_count": None,
        "concurrency": 2,
        "benchmark_duration": 1,
        "unsafe_override": True,
        "trace_idle_gap_cap_seconds": 0.05,
        "use_server_token_count": True,
        **flags,
    }
    return sim.run(**asked)


def test_the_scenario_runs_shortened_and_its_result_is_marked_as_not_valid(sim: Sim) -> None:
    run = scenario(sim)
    metadata = summary_of(run)["metadata"]
    assert metadata["scenario"] == SCENARIO
    assert metadata["submission_valid"] is False
    assert metadata["submission_invalid_reasons"] == ["unsafe_override"]
    assert [p.name for p in lanes(run)] == ["agentic.warmup", "profiling"]
    assert lanes(run)[1].stop_reason == "duration"
    body = json.loads((sim.dir / "run" / "run.json").read_text(encoding="utf-8"))
    assert any("overridden" in n for n in run.config.notes), body["notes"]


def test_every_conflict_with_the_scenario_is_named_before_any_request(sim: Sim) -> None:
    with pytest.raises(AIPerfError) as caught:
        scenario(
            sim,
            unsafe_override=False,
            request_rate=5,
            ignore_trace_delays=True,
            synthesis_max_isl=100,
            cache_bust="none",
            system_idle_gap_cap_seconds=5,
            inter_turn_delay_cap_seconds=3,
            extra_inputs=["ignore_eos:false"],
        )
    text = str(caught.value)
    for flag in (
        "--request-rate",
        "--ignore-trace-delays",
        "--synthesis-max-isl",
        "--cache-bust",
        "--benchmark-duration",
        "--system-idle-gap-cap-seconds",
        "--inter-turn-delay-cap-seconds",
        "--extra-inputs",
        "--input-file",
    ):
        assert flag in text, flag
    assert sim.ledger() == []


def test_a_failed_primer_ends_the_run_with_the_servers_words(tmp_path: Path) -> None:
    fault = {"kind": "status", "status": 500, "rate": 1.0}
    with simulate(tmp_path, faults=[fault]) as broken:
        run = replay(broken, SYSTEM, trajectory_start_min_ratio=0.9, trajectory_start_max_ratio=0.9)
    assert lanes(run)[-1].stop_reason == "warmup_failure"
    assert run.exit_code != 0


def test_more_lanes_than_sessions_need_leave_to_repeat_them(sim: Sim) -> None:
    with pytest.raises(AIPerfError, match="3 lanes"):
        replay(sim, SYSTEM, concurrency=3)


def test_models_of_the_recording_are_mapped_in_order_of_appearance(sim: Sim) -> None:
    two = session("two", [request(0, 64, 1, [1]), {**request(3, 400, 1, range(10, 16)), "model": "other"}])
    run = sim.run(
        input_file=write_sessions(sim.dir / "t.jsonl", [two]), **{**FAST, "concurrency": 1, "model": f"{MODEL},b"}
    )
    assert kinds(run) == {ErrorKind.OK: 2}
    assert [row["model"] for row in sim.ledger()] == [MODEL, "b"]


def test_idle_time_is_skipped_and_said(sim: Sim) -> None:
    run = replay(sim, SYSTEM, system_idle_gap_cap_seconds=0.05)
    stats = (lanes(run)[0].model_extra or {})["lanes"]
    assert stats["idle_jumps"] == 2
    assert stats["idle_skipped_ns"] == pytest.approx(16.4e9, rel=0.01)
    assert any(n.kind == "agents_idle_skipped" for n in run.notes)
    assert {"agent_lanes", "hit_rate_by_turn", "ttft_by_uncached"} <= set(draw_all([plot_run(run)]))
    sent = np.sort(run.columns.scalar("sent"))
    assert sent[-1] - sent[0] < 5e9


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": None, "request_rate": 5},
        {"concurrency": None, "request_rate": 5, "arrival_pattern": "poisson"},
        {"concurrency": None, "user_centric_rate": 5, "num_users": 2},
        {"concurrency_ramp_duration": 1},
        {"warmup_request_count": 3},
        {"warmup_duration": 1},
    ],
)
def test_another_load_than_lanes_is_refused(sim: Sim, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="lanes"):
        replay(sim, SUBAGENTS, **options)
    assert not sim.ledger()

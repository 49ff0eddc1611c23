"""When a run ends: by count, by duration and grace, whichever is first; the warm-up; open loops and what had to wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds, summary_of

from aiperf import Run
from aiperf.errors import ErrorKind, ExitCode


def outcome(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.dir / "run.json").read_text(encoding="utf-8"))["outcome"]
    return found


def measured(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = next(p for p in outcome(run)["phases"] if p["kind"] == "profiling")
    return found


@pytest.mark.parametrize("count", [1, 3, 57])
def test_a_count_is_exact(serve: Callable[..., Sim], count: int) -> None:
    sim = serve()
    run = sim.run(request_count=count, concurrency=8)
    assert run.columns.num_rows == count
    assert len(sim.ledger()) == count


def test_a_duration_sends_until_then_and_lets_those_in_flight_finish(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=60)
    run = sim.run(benchmark_duration=0.3, benchmark_grace_period=5, concurrency=3)
    assert set(kinds(run)) == {ErrorKind.OK}
    start = measured(run)["start_ns"]
    started = run.columns.scalar("started") - start
    assert started.max() < 0.31e9
    assert (run.columns.scalar("end") - start).max() >= 0.3e9
    assert run.exit_code == ExitCode.OK


def test_the_grace_period_ends_what_is_still_in_flight(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=10_000)
    run = sim.run(benchmark_duration=0.2, benchmark_grace_period=0.1, concurrency=3)
    assert kinds(run) == {ErrorKind.GRACE: 3}
    ends = run.columns.scalar("end") - measured(run)["start_ns"]
    assert ends.min() >= 0.3e9
    assert np.median(ends) < 0.4e9
    assert run.exit_code == ExitCode.REQUESTS_FAILED, "not one good request"
    assert all(row["disconnected"] for row in sim.ledger())


def test_no_grace_at_all(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=50)
    run = sim.run(benchmark_duration=0.22, benchmark_grace_period=0, concurrency=2)
    found = kinds(run)
    assert found[ErrorKind.GRACE] == 2
    assert found[ErrorKind.OK] >= 4
    assert "request_count" in summary_of(run)


@pytest.mark.parametrize(("count", "duration", "first"), [(10, 20.0, "count"), (100_000, 0.3, "duration")])
def test_whichever_is_first(serve: Callable[..., Sim], count: int, duration: float, first: str) -> None:
    sim = serve(ttft_ms=5)
    run = sim.run(request_count=count, benchmark_duration=duration, benchmark_grace_period=2)
    if first == "count":
        assert run.columns.num_rows == 10
        assert outcome(run)["end_ns"] < 5e9
    else:
        assert 50 < run.columns.num_rows < 500
        assert run.columns.scalar("started").max() - measured(run)["start_ns"] < 0.31e9


def test_the_warmup_is_a_phase_of_its_own(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=3)
    run = sim.run(request_count=30, warmup_request_count=10, warmup_concurrency=2)
    columns = run.columns
    assert (columns.scalar("phase") == 0).sum() == 10
    assert (columns.scalar("phase") == 1).sum() == 30
    # Nothing of the run before the warm-up has ended.
    warm = columns.scalar("phase") == 0
    assert columns.scalar("started")[~warm].min() >= columns.scalar("end")[warm].max()
    assert summary_of(run)["request_count"]["avg"] == 30
    assert len(sim.ledger()) == 40
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    phases = [json.loads(x)["metadata"]["benchmark_phase"] for x in lines]
    assert (phases.count("warmup"), phases.count("profiling")) == (10, 30)


def test_failures_of_the_warmup_are_not_the_runs(serve: Callable[..., Sim]) -> None:
    sim = serve(faults=[{"kind": "status", "status": 503, "requests": [1, 2, 3, 4, 5]}])
    run = sim.run(request_count=20, warmup_request_count=5)
    assert run.exit_code == ExitCode.OK
    assert "error_request_count" not in summary_of(run) or summary_of(run)["error_request_count"]["avg"] == 0


@pytest.mark.parametrize("arrival", ["constant", "poisson", "gamma"])
def test_an_open_loop_sends_the_number_asked_for_at_the_rate_asked_for(serve: Callable[..., Sim], arrival: str) -> None:
    sim = serve(ttft_ms=5)
    run = sim.run(
        concurrency=None,
        request_rate=400,
        arrival_pattern=arrival,
        request_count=200,
        arrival_smoothness=4 if arrival == "gamma" else None,
    )
    assert kinds(run) == {ErrorKind.OK: 200}
    due = np.sort(run.columns.scalar("scheduled"))
    gaps = np.diff(due) / 1e9
    # Mean of n gaps with coefficient of variation c: within 4 standard errors.
    spread = {"constant": 0.0, "poisson": 1.0, "gamma": 0.5}[arrival]
    assert gaps.mean() == pytest.approx(1 / 400, rel=4 * spread / np.sqrt(len(gaps)) + 0.001)
    if arrival == "constant":
        assert gaps.std() < 1e-6
    else:
        assert gaps.std() / gaps.mean() == pytest.approx(spread, rel=0.35)


def test_a_rate_for_a_duration(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=2)
    run = sim.run(concurrency=None, request_rate=300, arrival_pattern="constant", benchmark_duration=0.5)
    assert run.columns.num_rows == pytest.approx(150, abs=1)
    assert set(kinds(run)) == {ErrorKind.OK}


def test_a_cap_counts_what_had_to_wait_and_keeps_both_clocks(serve: Callable[..., Sim]) -> None:
    """100 requests/s, each 40 ms, two at a time: 50 per second get through, the queue grows by 50 per second."""
    sim = serve(ttft_ms=40)
    run = sim.run(concurrency=2, request_rate=100, arrival_pattern="constant", request_count=40)
    assert kinds(run) == {ErrorKind.OK: 40}
    columns = run.columns
    due, sent = columns.scalar("scheduled"), columns.scalar("sent")
    assert np.diff(np.sort(due)).std() < 1e3, "due times do not wait for the server"
    waited = (sent - due) / 1e6
    assert measured(run)["waited"] == columns.scalar("capped").sum() >= 30
    assert (waited[columns.scalar("capped") == 0] < 5).all(), "what did not wait at the cap was sent in time"
    assert waited.max() > 250
    waited = waited[np.argsort(due)]
    assert (waited[2:] - waited[:-2] > -5).all(), "two at a time, in order"
    events = sorted(e for row in sim.ledger() for e in ((row["received_ns"], 1), (row["last_ns"], -1)))
    assert np.cumsum([step for _, step in events]).max() <= 2


def test_due_requests_that_got_no_turn_are_counted(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=100)
    run = sim.run(
        concurrency=1, request_rate=100, arrival_pattern="constant", benchmark_duration=0.35, benchmark_grace_period=1
    )
    phase = measured(run)
    assert phase["sent"] == run.columns.num_rows <= 4
    assert phase["unsent"] == pytest.approx(35 - phase["sent"], abs=1)


def test_a_second_run_into_the_same_directory_moves_the_first_aside(serve: Callable[..., Sim]) -> None:
    """Scripts read the folder they named: it must hold the run they just made, and the old one must not be lost."""
    sim = serve()
    first = sim.run(request_count=5)
    (first.dir / "console.log").write_text("of the user's", encoding="utf-8")
    second, third = sim.run(request_count=6), sim.run(request_count=7)
    assert first.dir == second.dir == third.dir
    assert [n.kind for n in (*first.notes, *second.notes)] == ["moved_aside"]
    old = [Run.open(first.dir.with_name(f"{first.dir.name}.{i}")) for i in (1, 2)]
    assert [r.columns.num_rows for r in (*old, Run.open(third.dir))] == [5, 6, 7]
    assert [r.columns.num_rows for r in (first, second, third)] == [5, 6, 7], "a value from Python stays what it is"
    assert (third.dir / "console.log").exists(), "what runs do not write is left where it is"


def test_the_same_seed_sends_the_same_prompts(serve: Callable[..., Sim]) -> None:
    sim = serve(ledger_prompts=True)
    sim.run(request_count=10, random_seed=5)
    sim.run(request_count=10, random_seed=5)
    sim.run(request_count=10, random_seed=6)
    prompts = [row["prompt"] for row in sim.ledger()]
    assert set(prompts[:10]) == set(prompts[10:20])
    assert set(prompts[:10]).isdisjoint(prompts[20:])

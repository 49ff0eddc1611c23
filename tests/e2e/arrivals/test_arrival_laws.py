"""Arrivals as the server saw them: laws of the gaps, ramps, series, users; fixed seeds, so a failure is no accident.

Times are the server's. What was planned must follow its law closely; what arrived may be late by what a busy machine costs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.e2e.runs import Sim, kinds

from aiperf import Run
from aiperf.errors import ErrorKind

Serve = Callable[..., Sim]
Floats = NDArray[np.float64]
LATE_S = 0.03
"""How late a request may be at the server on a machine that runs other things too."""

pytestmark = pytest.mark.slow


def arrivals_s(sim: Sim) -> Floats:
    """Since the first one."""
    at = np.array([row["first_byte_read_ns"] for row in sim.ledger()], dtype=np.float64) / 1e9
    return np.asarray(at - at[0])


def scheduled_s(run: Run) -> Floats:
    at = np.sort(run.columns.scalar("scheduled")) / 1e9
    return np.asarray(at - at[0])


def late_s(sim: Sim, run: Run) -> Floats:
    """By request: how long after its due time its first byte was read, against the quickest."""
    columns = run.columns
    due = dict(zip(columns.strings("request_id"), columns.scalar("scheduled") + columns.start_wall_ns, strict=True))
    late = np.array([row["first_byte_read_ns"] - due[row["request_id"]] for row in sim.ledger()]) / 1e9
    return np.asarray(late)


def distance(sample: Floats, law: Floats) -> float:
    """Kolmogorov and Smirnov's, times the root of the sample's size; above 1.63 in one of a hundred."""
    grid = np.sort(np.concatenate([sample, law]))
    seen, wanted = (np.searchsorted(np.sort(x), grid, side="right") / len(x) for x in (sample, law))
    return float(np.abs(seen - wanted).max() * np.sqrt(len(sample)))


LAWS: dict[str, tuple[dict[str, object], float]] = {
    "poisson": ({"arrival_pattern": "poisson"}, 1.0),
    "gamma 4": ({"arrival_pattern": "gamma", "arrival_smoothness": 4.0}, 4.0),
    "bursty": ({"arrival_smoothness": 0.5}, 0.5),
}


@pytest.mark.parametrize("name", LAWS)
def test_gaps_follow_their_law(serve: Serve, name: str) -> None:
    flags, shape = LAWS[name]
    sim = serve()
    run = sim.run(request_rate=120.0, concurrency=None, request_count=360, **flags)
    assert kinds(run) == {ErrorKind.OK: 360}
    law = np.random.default_rng(0).gamma(shape, 1 / (120 * shape), 200_000)
    planned, arrived = np.diff(scheduled_s(run)), np.diff(arrivals_s(sim))
    assert distance(planned, law) < 1.63
    assert distance(arrived, law) < 2.5  # short gaps are stretched where the machine was busy
    assert planned.mean() == pytest.approx(1 / 120, rel=4 / np.sqrt(shape * 359))
    assert planned.std() / planned.mean() == pytest.approx(1 / np.sqrt(shape), rel=0.25)
    # No autocorrelation: a burst says nothing about the next gap.
    assert abs(np.corrcoef(planned[:-1], planned[1:])[0, 1]) < 0.16
    assert np.median(late_s(sim, run)) < LATE_S


def test_constant_arrivals_do_not_drift(serve: Serve) -> None:
    sim = serve()
    run = sim.run(request_rate=200.0, arrival_pattern="constant", concurrency=None, request_count=500)
    assert scheduled_s(run) == pytest.approx(np.arange(500) / 200, abs=1e-6)
    assert arrivals_s(sim)[-1] == pytest.approx(499 / 200, abs=LATE_S)
    assert np.median(late_s(sim, run)) < LATE_S


def test_the_seed_decides_the_gaps(serve: Serve, tmp_path: Path) -> None:
    sim = serve()
    times = [
        scheduled_s(
            sim.run(
                request_rate=200.0, concurrency=None, request_count=50, random_seed=s, artifact_dir=tmp_path / str(i)
            )
        )
        for i, s in enumerate((3, 3, 4))
    ]
    assert times[0] == pytest.approx(times[1], abs=1e-9)
    assert np.abs(times[0] - times[2]).max() > 0.005


def count_by(at: Floats, edges: Sequence[float]) -> list[int]:
    return [int(n) for n in np.histogram(at, np.asarray(edges))[0]]


@pytest.mark.parametrize(("shape", "power"), [("linear", 1), ("exponential", 2)])
def test_a_rate_ramp_reaches_its_rate_along_its_shape(serve: Serve, shape: str, power: int) -> None:
    rate, ramp_s = 150.0, 2.0
    sim = serve()
    run = sim.run(
        request_rate=rate,
        arrival_pattern="constant",
        request_rate_ramp_duration=ramp_s,
        ramp_shape=shape,
        concurrency=None,
        benchmark_duration=3.0,
    )
    start = rate * 0.1 / ramp_s
    edges = np.arange(0, 3.01, 0.25)

    def total(t: Floats) -> Floats:
        x = np.minimum(t, ramp_s) / ramp_s
        return np.asarray(
            ramp_s * (start * x + (rate - start) * x ** (power + 1) / (power + 1)) + rate * np.maximum(t - ramp_s, 0)
        )

    columns = run.columns
    at = columns.scalar("scheduled") / 1e9
    # The n-th request is due when n have accumulated, so the first one tells when the phase began.
    began = at.min() - float(np.interp(1, total(np.linspace(0, 3, 30_001)), np.linspace(0, 3, 30_001)))
    planned = count_by(at - began, edges.tolist())
    assert planned == pytest.approx(np.diff(total(edges)), abs=2.1)
    seen = np.array([row["first_byte_read_ns"] for row in sim.ledger()]) / 1e9 - columns.start_wall_ns / 1e9 - began
    assert np.abs(np.array(count_by(seen, edges.tolist())) - planned).max() <= rate * LATE_S + 2


def test_concurrency_grows_with_its_ramp(serve: Serve) -> None:
    sim = serve(ttft_ms=20)
    run = sim.run(concurrency=20, concurrency_ramp_duration=1.0, benchmark_duration=1.6)
    ledger = sim.ledger()
    begin = min(row["first_byte_read_ns"] for row in ledger)
    events = sorted(e for row in ledger for e in ((row["first_byte_read_ns"], 1), (row["end_ns"], -1)))
    level = np.cumsum([step for _, step in events])
    at = (np.array([t for t, _ in events]) - begin) / 1e9
    allowed = np.minimum(1 + 19 * (at + LATE_S), 20)
    assert np.all(level <= allowed)
    assert level[at > 1.1].max() == 20
    half = level[(at > 0.45) & (at < 0.55)]
    assert 6 <= half.max() <= 12
    assert kinds(run).keys() <= {ErrorKind.OK}


@pytest.mark.parametrize("form", ["points", "stages"])
def test_a_rate_series_from_a_file(serve: Serve, tmp_path: Path, form: str) -> None:
    series: object = [{"time_s": 0, "qps": 40}, {"time_s": 1, "qps": 160}, {"time_s": 2, "qps": 40}]
    wanted = [100.0, 100.0]
    if form == "stages":
        series, wanted = {"stages": [{"duration_s": 1, "qps": 40}, {"duration_s": 1, "qps": 160}]}, [40.0, 160.0]
    (tmp_path / "series.json").write_text(json.dumps(series), encoding="utf-8")
    sim = serve()
    run = sim.run(
        request_rate_series=str(tmp_path / "series.json"),
        arrival_pattern="constant",
        concurrency=None,
        request_count=None,
    )
    phase = run.columns.scalar("scheduled") / 1e9
    start = phase.min() - (1 / 40 if form == "stages" else (np.sqrt(40**2 + 2 * 120) - 40) / 120)
    assert count_by(phase - start, [0, 1, 2]) == pytest.approx(wanted, abs=2)
    assert sum(wanted) - 3 <= len(sim.ledger()) <= sum(wanted) + 1
    assert np.median(late_s(sim, run)) < LATE_S


def test_never_more_than_n_requests_wait_for_their_first_token(serve: Serve) -> None:
    sim = serve(ttft_ms=25, itl_ms=3)
    run = sim.run(concurrency=24, prefill_concurrency=3, request_count=120, osl=20)
    assert kinds(run) == {ErrorKind.OK: 120}
    ledger = sim.ledger()

    def most(begin: str, end: str) -> int:
        events = sorted(e for row in ledger for e in ((row[begin], 1), (row[end], -1)))
        return int(max(np.cumsum([step for _, step in events])))

    assert most("first_byte_read_ns", "first_ns") == 3
    assert most("first_byte_read_ns", "end_ns") > 5


def test_the_prefill_cap_holds_in_an_open_loop_and_what_waited_is_marked(serve: Serve) -> None:
    sim = serve(ttft_ms=30)
    run = sim.run(
        request_rate=200.0, arrival_pattern="constant", concurrency=None, prefill_concurrency=2, request_count=30
    )
    ledger = sim.ledger()
    events = sorted(e for row in ledger for e in ((row["first_byte_read_ns"], 1), (row["first_ns"], -1)))
    assert max(np.cumsum([step for _, step in events])) == 2
    lag = (run.columns.scalar("sent") - run.columns.scalar("scheduled")) / 1e6
    assert lag.max() > 200
    capped = run.columns.scalar("capped") == 1
    assert capped.sum() > 20
    assert lag[~capped].max() < 5


def test_waiting_under_a_ramp_of_the_cap_is_marked(serve: Serve) -> None:
    """The cap is 1 at first and never reached 20 at 200/s × 50 ms: only who came early had to wait."""
    sim = serve(ttft_ms=50)
    run = sim.run(
        request_rate=200.0, arrival_pattern="constant", concurrency=20, concurrency_ramp_duration=1.0, request_count=300
    )
    summary = run.summary()
    columns = run.columns
    lag = (columns.scalar("sent") - columns.scalar("scheduled")) / 1e6
    capped = columns.scalar("capped") == 1
    assert 20 < capped.sum() < 300
    assert np.median(lag[capped]) > 20
    assert np.median(lag[~capped]) < 1
    assert summary.certificate is not None
    assert summary.certificate.waited == capped.sum()


def test_users_keep_their_own_rhythm_and_the_total_rate(serve: Serve) -> None:
    """Ten users at 40 turns/s in all: each has a turn every 250 ms, staggered by 25 ms, from the first second on."""
    users, rate, turns = 10, 40.0, 4
    sim = serve(ttft_ms=5)
    run = sim.run(
        num_users=users,
        user_centric_rate=rate,
        session_turns_mean=turns,
        concurrency=None,
        request_count=None,
        benchmark_duration=4.0,
    )
    assert kinds(run).keys() == {ErrorKind.OK}
    by_user: dict[str, list[float]] = defaultdict(list)
    ledger = sim.ledger()
    for row in ledger:
        by_user[row["correlation_id"]].append(row["first_byte_read_ns"] / 1e9)
    gaps = np.concatenate([np.diff(at) for at in by_user.values()])
    assert np.median(np.abs(gaps - users / rate)) < LATE_S
    at = arrivals_s(sim)
    assert len(at) == pytest.approx(rate * 4.0, abs=users)
    assert np.median(np.abs(np.diff(scheduled_s(run)) - 1 / rate)) < 0.002
    # The first users are as far in their conversations as if they had been there before.
    lengths = sorted(len(v) for v in list(by_user.values())[:users])
    assert lengths[0] < turns
    assert lengths[-1] == turns
    assert max(len(v) for v in by_user.values()) == turns


def test_a_cap_in_an_open_loop_keeps_the_order_and_the_count(serve: Serve) -> None:
    sim = serve(ttft_ms=40)
    run = sim.run(request_rate=100.0, arrival_pattern="constant", concurrency=2, request_count=40)
    assert kinds(run) == {ErrorKind.OK: 40}
    ledger = sim.ledger()
    events = sorted(e for row in ledger for e in ((row["first_byte_read_ns"], 1), (row["end_ns"], -1)))
    assert max(np.cumsum([step for _, step in events])) == 2
    due = dict(zip(run.columns.strings("request_id"), run.columns.scalar("scheduled"), strict=True))
    order: list[Any] = [due[row["request_id"]] for row in ledger]
    assert np.all(np.diff(order) >= 0)

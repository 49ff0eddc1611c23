"""Is the client fit to measure? Starved and paused on purpose, and left alone; held against the server's ledger."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.e2e.client_process import Finished, Pauses, beside_busy_loops, finish, profile_process
from tests.e2e.runs import Sim, summary_of

from aiperf.errors import ExitCode

pytestmark = pytest.mark.slow
ATTEMPTS = 4
"""This machine may pause by itself; a client that is fit shows it in one of several short runs."""

needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores to pin to"
)


def starved(serve: Callable[..., Sim], *flags: str) -> Finished:
    """Sixty thousand chunks a second on a core shared with busy loops."""
    core = max(os.sched_getaffinity(0))
    sim = serve(ttft_ms=20, itl_ms=2, ttft_jitter=0.5)
    load = ("--concurrency", "120", "--benchmark-duration", "3", "--isl", "20", "--osl", "100", "--cpus", str(core))
    for attempt in range(ATTEMPTS):
        name = f"run-{attempt}"
        # How much is left for the client is the scheduler's choice: more loops leave less.
        with (
            beside_busy_loops(core, 4 + 2 * attempt),
            profile_process(sim, *load, *flags, core=core, name=name) as process,
        ):
            found = finish(process, sim, name)
        if found.certificate["verdict"] == "client-limited":
            break
    return found


@needs_cores
@pytest.mark.timeout(300)
def test_a_starved_client_says_so_and_only_the_assertion_changes_the_exit_code(serve: Callable[..., Sim]) -> None:
    run = starved(serve, "--assert", "certificate=trustworthy")
    assert run.certificate["verdict"] == "client-limited"
    # Which of its symptoms crosses a bound is the scheduler's choice: late sends, a busy or contended CPU, reads that came together.
    assert any(word in reason for reason in run.certificate["reasons"] for word in ("CPU", "late", "coalesced"))
    assert "Measurement quality: client-limited" in run.stdout
    assert run.exit_code == ExitCode.THRESHOLD_MISSED


@needs_cores
def test_without_the_assertion_the_verdict_is_only_said(serve: Callable[..., Sim]) -> None:
    found = starved(serve)
    assert found.certificate["verdict"] != "trustworthy"
    assert found.exit_code == ExitCode.OK


def test_an_undisturbed_client_is_trustworthy(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=40, itl_ms=10, ttft_jitter=0.5)
    verdicts = []
    for _ in range(ATTEMPTS):
        run = sim.run(concurrency=8, request_count=80, osl=10)
        summary = run.summary()
        assert summary.certificate is not None
        verdicts.append(summary.certificate.verdict)
        if verdicts[-1] == "trustworthy":
            break
    assert verdicts[-1] == "trustworthy", verdicts


@pytest.mark.parametrize(("requests", "ttft_ms", "is_judged"), [(10, 0, False), (40, 20, True)])
def test_what_a_worker_did_before_the_load_is_no_part_of_it(
    serve: Callable[..., Sim], requests: int, ttft_ms: float, is_judged: bool
) -> None:
    """Its thread begins while the core is busy with the start of everything else, and some loads take a millisecond."""
    run = serve(ttft_ms=ttft_ms).run(concurrency=2, request_count=requests, osl=2, isl=8)
    outcome = run.outcome
    assert outcome is not None
    certificate = run.summary().certificate
    assert certificate is not None
    assert (certificate.client_cpu is not None, certificate.cpu_wait is not None) == (is_judged, is_judged)
    if is_judged:
        took = outcome.end_ns - min(p.start_ns for p in outcome.phases)
        for cpu, wait in zip(outcome.worker_cpu_ns, outcome.worker_wait_ns, strict=True):
            assert 0 < cpu + wait <= 1.1 * took
    assert not any(float(share) > 100 for r in certificate.reasons for share in re.findall(r"(\d+)% of", r))


def paused(
    serve: Callable[..., Sim], gap_ms: float, stop_s: list[float], run_s: list[float], osl: int, count: int
) -> tuple[Finished, list[dict[str, Any]], list[tuple[int, int]]]:
    sim = serve(ttft_ms=gap_ms, ttft_jitter=0.3, itl_ms=gap_ms, ledger_chunks=True)
    flags = ("--concurrency", "1", "--request-count", str(count), "--isl", "20", "--osl", str(osl))
    with profile_process(sim, *flags) as process, Pauses(process, sim, count, stop_s, run_s) as pauses:
        found = finish(process, sim)
    assert found.exit_code == ExitCode.OK, found.stderr
    return found, sim.ledger(), pauses.times


def test_kernel_stamps_see_through_short_stalls(serve: Callable[..., Sim]) -> None:
    """Stalls shorter than the gap between chunks: TTFT is right to 1 ms by the kernel's stamps, off by the program's own."""
    run, ledger, stops = paused(serve, 100, [0.045, 0.055, 0.050], [0.030, 0.041, 0.037], osl=3, count=40)
    assert run.certificate["kernel_stamped"] == 1
    truth = {row["request_id"]: (row["first_ns"] - row["received_ns"]) / 1e6 for row in ledger}
    records = run.records()
    kernel = np.array([records[k]["metrics"]["time_to_first_token"]["value"] - v for k, v in truth.items()])
    assert len(stops) > 40
    # A request that is being sent when the stop comes has its own start blurred: a few of forty.
    assert np.mean(np.abs(kernel) < 1.0) >= 0.9
    summary = run.summary
    exact, seen = summary["time_to_first_token"]["avg"], summary["user_space_time_to_first_token"]["avg"]
    assert exact == pytest.approx(np.mean(list(truth.values())), abs=1.5)
    assert seen - exact > 5
    assert "(user-space timestamps)" in run.stdout


def test_long_stalls_flag_the_chunks_they_hide(serve: Callable[..., Sim]) -> None:
    """Stalls longer than the gap: several chunks come out of one read; they are flagged and their share is stated."""
    run, ledger, stops = paused(serve, 10, [0.080], [0.080], osl=60, count=8)
    stamps = np.array([at for row in ledger for at, _, _ in row["chunks"]])
    hidden = sum(max(int(np.count_nonzero((stamps > a) & (stamps < b))) - 1, 0) for a, b in stops)
    assert run.certificate["merged"] == pytest.approx(hidden / len(stamps), abs=0.08)
    assert run.certificate["verdict"] == "client-limited"
    assert any("coalesced reads" in reason for reason in run.certificate["reasons"])
    assert f"coalesced reads {100 * run.certificate['merged']:.1f}%" in run.stdout


def test_the_network_is_not_blamed_for_a_slow_server(serve: Callable[..., Sim]) -> None:
    """On loopback the round trip is microseconds; the smoothed one would hold the server's delayed acknowledgements."""
    run = serve(ttft_ms=60, itl_ms=5).run(concurrency=4, request_count=60)
    summary = run.summary()
    certificate = summary.certificate
    assert certificate is not None
    assert certificate.rtt_ms is not None
    assert certificate.rtt_ms < 2
    assert not certificate.rtt_bound
    assert not [tag for tag in summary_of(run) if tag.startswith("network_")]

"""The tool's own error, from a null server after the run; and what the machine can drive at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.runs import Sim, summary_of

from aiperf import report
from aiperf.config.model import Config
from aiperf.outcome import Outcome, PhaseOutcome
from aiperf.run.calibration import is_wanted
from aiperf.run.capacity import judge
from aiperf.run.null_server import NullLoad, NullRun, drive_null, most_streams


def run_of(load: NullLoad, **changes: object) -> NullRun:
    """A run in which nothing is wrong but for the changes."""
    none = np.zeros(100)
    values: dict[str, object] = {
        "load": load,
        "requests": 100,
        "failed": 0,
        "seconds": 1.0,
        "ttft_error": none,
        "itl_error": none,
        "chunk_rate": 100.0,
        "rate_error": 0.0,
        "send_lag": none,
        "receive_lag": none,
        "merged": 0.0,
        "busiest_worker": 0.1,
        "cpu_wait": 0.0,
        "server_cpu": 0.1,
    }
    return NullRun(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"failed": 3}, "3 requests failed"),
        ({"ttft_error": np.zeros(0)}, "no request completed"),
        ({"busiest_worker": 0.8}, "used 80% of its core"),
        ({"cpu_wait": 0.5}, "runnable but not scheduled 50%"),
        ({"receive_lag": np.full(100, 30.0)}, "receive lag p99 30.0 ms"),
        ({"merged": 0.2}, "20% of the chunks were read together"),
    ],
)
def test_what_makes_a_load_too_much_for_the_client(changes: dict[str, object], words: str | None) -> None:
    found = judge(run_of(NullLoad(streams=10, tokens=10, ttft_ms=50.0, gap_ms=20.0, seconds=1.0), **changes))
    assert found is None if words is None else words in (found or "")


@pytest.mark.parametrize(
    ("lag_ms", "sent", "words"), [(0.1, 100, None), (2.0, 100, "send lag p99 2.0 ms"), (0.1, 80, "80 of 100 requests")]
)
def test_an_open_loop_must_be_on_time(lag_ms: float, sent: int, words: str | None) -> None:
    load = NullLoad(streams=10, tokens=1, ttft_ms=0.0, gap_ms=0.0, seconds=1.0, rate_per_s=100.0, streaming=False)
    found = judge(run_of(load, send_lag=np.full(sent, lag_ms)))
    assert found is None if words is None else words in (found or "")


@pytest.mark.slow
def test_a_calibrated_run_states_its_own_error(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=40, itl_ms=10)
    run = sim.run(concurrency=12, request_count=60, osl=12, calibrate=True)
    summary = run.summary()
    certificate = summary.certificate
    assert certificate is not None
    assert certificate.calibrated is not None
    ttft_ms, itl_ms, rate = certificate.calibrated
    # A bound of this machine, not of the server: far below what was measured.
    assert 0 < ttft_ms < 20
    assert 0 <= itl_ms < 2
    assert 0 <= rate < 0.05
    assert "measurement error: TTFT ≤" in certificate.lines[1]
    told = json.loads((run.dir / "run.json").read_text(encoding="utf-8"))["outcome"]["calibration"]
    assert told["is_upper_bound"] is True
    assert told["streams"] == pytest.approx(12, abs=2)
    # The pace just seen: 12 streams at 12 chunks in 40 + 11 × 10 ms.
    assert told["chunks_per_s"] == pytest.approx(12 * 12 / 0.15, rel=0.4)
    assert told["seconds"] <= 1.5
    # The measured server saw none of it, and a report from disk says the same.
    assert sim.stats()["requests"] == 60
    assert report(run.dir).summary().certificate.calibrated == certificate.calibrated  # type: ignore[union-attr]


@pytest.mark.slow
def test_short_runs_are_not_calibrated_unless_asked(serve: Callable[..., Sim]) -> None:
    run = serve(ttft_ms=5).run(calibrate=None)
    summary = run.summary()
    assert summary.certificate is not None
    assert summary.certificate.calibrated is None
    assert "not calibrated" in summary.certificate.lines[1]
    assert summary_of(run)["certificate"]["calibrated"] is None


@pytest.mark.parametrize(
    ("seconds", "flag", "interrupted", "wanted"),
    [
        (12, None, False, True),
        (9, None, False, False),
        (9, True, False, True),
        (12, False, False, False),
        (12, None, True, False),
    ],
)
def test_when_a_run_is_calibrated(seconds: float, flag: bool | None, interrupted: bool, wanted: bool) -> None:
    config = Config.model_validate({"slo": {"calibrate": flag}})
    phase = PhaseOutcome(start_ns=0, end_ns=round(seconds * 1e9))
    assert is_wanted(config, Outcome(phases=(phase,), interrupted=interrupted)) == wanted


@pytest.mark.slow
def test_the_null_servers_ledger_and_the_client_agree() -> None:
    """Medians, as this machine pauses now and then: TTFT to half a millisecond, ITL to a twentieth of one."""
    run = drive_null(NullLoad(streams=8, tokens=20, ttft_ms=30, gap_ms=5, seconds=0.6))
    assert run.failed == 0
    assert len(run.ttft_error) >= 10
    assert abs(np.median(run.ttft_error)) < 0.5
    assert abs(np.median(run.itl_error)) < 0.05
    assert run.rate_error < 0.02
    assert run.chunk_rate > 500


@pytest.mark.slow
def test_an_open_loop_keeps_its_rate() -> None:
    run = drive_null(NullLoad(streams=64, tokens=1, ttft_ms=0, gap_ms=0, seconds=0.6, rate_per_s=300, streaming=False))
    assert len(run.send_lag) == pytest.approx(180, abs=4)
    assert np.median(run.send_lag) < 1


def test_no_more_streams_than_files_and_ports() -> None:
    assert 1 <= most_streams() <= 20_000


@pytest.mark.slow
def test_capacity_says_what_the_machine_can_drive() -> None:
    aiperf = Path(sys.executable).with_name("aiperf")
    ended = subprocess.run([str(aiperf), "capacity", "--json"], capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(ended.stdout)
    assert told["requests_per_s"] > 500
    assert told["is_lower_bound"] is True
    assert told["tokens_per_s"] is None or told["tokens_per_s"] == told["streams"] * 50
    # What stopped each search is said, or that nothing did; a first step that fails has a reason.
    assert told["streams"] is not None or told["limits"]["streams"]
    assert told["open_loop_requests_per_s"] is not None or told["limits"]["open_loop"]
    assert "streams" in ended.stderr

"""Ctrl-C once, twice, three times, SIGTERM, and `kill -9`: what is on disk then, and how long it takes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest
from tests.e2e.command import aiperf, arguments, run_dir, started, wait_for
from tests.e2e.runs import Sim

from aiperf.errors import ErrorKind
from aiperf.records import open_run

INTERRUPTED = 130


def kinds_on_disk(sim: Sim) -> dict[int, int]:
    values, counts = np.unique(open_run(run_dir(sim)).scalar("error_kind"), return_counts=True)
    return {int(v): int(c) for v, c in zip(values, counts, strict=True)}


def summary(sim: Sim) -> dict[str, object]:
    found: dict[str, object] = json.loads((run_dir(sim) / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    return found


def in_flight(sim: Sim, number: int) -> Callable[[], bool]:
    return lambda: sim.stats()["requests"] >= number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_lets_those_in_flight_finish(serve: Callable[..., Sim], number: signal.Signals) -> None:
    sim = serve(ttft_ms=300)
    with started(arguments(sim, "--concurrency", "4", "--request-count", "1000")) as process:
        wait_for(in_flight(sim, 6), "requests")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED, err
    assert "again" in err
    found = kinds_on_disk(sim)
    assert set(found) == {ErrorKind.OK}
    assert found[ErrorKind.OK] == len(sim.ledger()) >= 6
    assert not any(row["disconnected"] for row in sim.ledger())
    assert summary(sim)["was_cancelled"] is True
    assert "LLM Metrics" in out


def test_twice_cancels_and_reports(serve: Callable[..., Sim]) -> None:
    sim = serve(faults=[{"kind": "never", "requests": list(range(5, 1000))}])
    with started(arguments(sim, "--concurrency", "2", "--request-count", "1000")) as process:
        wait_for(in_flight(sim, 6), "requests")
        process.send_signal(signal.SIGINT)
        wait_for_note(process, "again: cancel")
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED, err
    assert time.monotonic() - begun < 10
    assert kinds_on_disk(sim) == {ErrorKind.OK: 4, ErrorKind.INTERRUPTED: 2}
    assert (run_dir(sim) / "profile_export_aiperf.csv").exists()


def test_three_times_leaves_at_once_and_the_records_are_there(serve: Callable[..., Sim]) -> None:
    sim = serve(faults=[{"kind": "never", "requests": list(range(5, 1000))}])
    with started(arguments(sim, "--concurrency", "2", "--request-count", "1000")) as process:
        wait_for(in_flight(sim, 6), "requests")
        wait_for(lambda: written(sim) >= 4, "the journal")
        process.send_signal(signal.SIGINT)
        wait_for_note(process, "again: cancel")
        # Two of a kind would be one while they wait; these are the second and the third.
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    done = aiperf("report", str(run_dir(sim)))
    assert done.returncode in {0, INTERRUPTED}, done.stderr
    assert kinds_on_disk(sim)[ErrorKind.OK] == 4


@pytest.mark.slow
def test_killed_in_the_middle_loses_at_most_a_second(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=20, itl_ms=1)
    with started(arguments(sim, "--concurrency", "8", "--benchmark-duration", "60")) as process:
        wait_for(in_flight(sim, 500), "requests")
        killed_ns = time.time_ns()
        process.kill()
        process.wait(10)
    done = aiperf("report", str(run_dir(sim)))
    assert done.returncode == 0, done.stderr
    assert "LLM Metrics" in done.stdout
    known = set(open_run(run_dir(sim)).strings("request_id"))
    finished = [row for row in sim.ledger() if row["finish"] and row["end_ns"] < killed_ns - 1_000_000_000]
    assert len(finished) > 50
    missing = [row["request_id"] for row in finished if row["request_id"] not in known]
    assert not missing
    assert known <= {row["request_id"] for row in sim.ledger()}
    rows = (run_dir(sim) / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(known)
    assert summary(sim)["request_count"]["avg"] == len(known)  # type: ignore[index]
    again = aiperf("report", str(run_dir(sim)))
    assert again.returncode == 0, again.stderr


def written(sim: Sim) -> int:
    try:
        return open_run(run_dir(sim)).num_rows
    except Exception:  # noqa: BLE001 - the journal may not be there yet, or not whole
        return 0


def wait_for_note(process: object, text: str) -> None:
    """Reads the command's messages up to the one with `text`."""
    for line in process.stderr:  # type: ignore[attr-defined]
        if text in line:
            return
    raise AssertionError(f"no message with `{text}`")

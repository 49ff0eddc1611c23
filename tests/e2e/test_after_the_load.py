"""From the end of the load to the last file: what is said then is on the screen, and no signal costs a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import aiperf, arguments, run_dir, started, wait_for
from tests.e2e.runs import Sim

FILES = (
    "profile_export_aiperf.json",
    "profile_export_aiperf.csv",
    "profile_export.jsonl",
    "records.parquet",
    "report.html",
)
SLOW_TABLE = """
import sys, time
import aiperf.metrics.summarise as module
from aiperf.cli import main

summarise = module.summarise

def slowly(*args):
    print("metrics begin", file=sys.stderr, flush=True)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        time.sleep(0.01)
    return summarise(*args)

module.summarise = slowly
sys.exit(main(sys.argv[1:]))
"""


def facts_of(sim: Sim) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir(sim) / "run.json").read_text(encoding="utf-8"))
    return found


def test_notes_made_after_the_load_are_on_the_screen(serve: Callable[..., Sim]) -> None:
    sim = serve()
    words = [w for w in arguments(sim, "--request-count", "10") if w != "--no-server-metrics"]
    silent = "http://127.0.0.1:9/metrics"
    page = f"{sim.url}/no-such-page"
    done = aiperf(*words, "--server-metrics", page, "--gpu-telemetry", silent)
    assert done.returncode == 0
    said = [line.removeprefix("note: ") for line in done.stderr.splitlines() if line.startswith("note: ")]
    for url in (page, silent):
        note = next(n["text"] for n in facts_of(sim)["notes"] if url in n["text"])
        assert note in said
    assert len(said) == len(set(said))


@pytest.mark.parametrize("first", [None, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_files_are_written_costs_no_file(
    serve: Callable[..., Sim], first: signal.Signals | None, second: signal.Signals
) -> None:
    sim = serve(ttft_ms=100)
    count = "10" if first is None else "1000"
    words = [w for w in arguments(sim, "--request-count", count, "--concurrency", "4") if w != "--no-report"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_TABLE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        if first is not None:
            wait_for(lambda: sim.stats()["requests"] >= 6, "requests")
            process.send_signal(first)
        for line in process.stderr:
            if "metrics begin" in line:
                break
        process.send_signal(second)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "its files are being written" in err
    for name in FILES:
        assert (run_dir(sim) / name).stat().st_size > 0, name
    assert facts_of(sim)["status"] == "complete"
    assert facts_of(sim)["exit_code"] == 130
    assert "LLM Metrics" in out


def test_hanging_up_ends_a_load_as_sigterm_does(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=100)
    with started(arguments(sim, "--request-count", "1000", "--concurrency", "4")) as process:
        wait_for(lambda: sim.stats()["requests"] >= 6, "requests")
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert (run_dir(sim) / "profile_export_aiperf.json").exists()


def test_a_run_under_nohup_does_not_hear_it(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=50)
    with subprocess.Popen(
        [sys.executable, "-m", "aiperf", *arguments(sim, "--request-count", "40", "--concurrency", "2")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None,  # noqa: PLW1509 - one thread, before exec
    ) as process:
        wait_for(lambda: sim.stats()["requests"] >= 6, "requests")
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_load_ends_the_command(tmp_path: Path, number: signal.Signals) -> None:
    words = [
        "profile",
        "--model",
        "m",
        "--url",
        "http://127.0.0.1:9",
        "--wait-for-model-timeout",
        "60",
        "--tokenizer",
        "builtin",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "aiperf", *words, "--artifact-dir", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"AIPERF_UI": "plain"},
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline()  # it waits for the server
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted"

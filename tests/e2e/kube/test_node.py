"""What runs in a pod, as a process: the command, its exit code, signals, and the wait until somebody has the results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.command import arguments, wait_for
from tests.e2e.runs import Sim

Serve = Callable[..., Sim]


def node(sim: Sim, results: Path, *own: str, flags: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    words = arguments(sim, *flags)[1:]
    at = words.index("--artifact-dir")
    del words[at : at + 2]
    results.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "aiperf", "kube", "node", "--results", str(results), *own, "--", *words]
    return subprocess.Popen(command, env=os.environ | {"JOB_COMPLETION_INDEX": "0"}, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_the_pod_waits_until_its_results_are_collected(serve: Serve, tmp_path: Path) -> None:
    sim, results = serve(), tmp_path / "results"
    with node(sim, results, "--keep-for", "60", flags=("--concurrency", "2", "--request-count", "4")) as process:
        wait_for((results / ".exit-code").exists, "the end of the command")
        assert (results / ".exit-code").read_text() == "0\n"
        assert (results / "run" / "profile_export_aiperf.json").is_file()
        assert process.poll() is None
        (results / ".collected").touch()
    assert process.returncode == 0


@pytest.mark.slow
def test_the_exit_code_of_the_command_is_the_pod_s(serve: Serve, tmp_path: Path) -> None:
    sim = serve()
    flags = ("--concurrency", "2", "--request-count", "4", "--assert", "request_latency:p50 < 0.001ms")
    with node(sim, tmp_path / "results", flags=flags) as process:
        pass
    assert process.returncode == 3


@pytest.mark.slow
def test_a_signal_ends_the_load_and_the_results_are_written(serve: Serve, tmp_path: Path) -> None:
    """What Kubernetes sends when it ends a pod, within the grace that the manifest asks for."""
    sim, results = serve(ttft_ms=20), tmp_path / "results"
    flags = ("--concurrency", "2", "--benchmark-duration", "60")
    with node(sim, results, "--keep-for", "60", flags=flags) as process:
        wait_for(lambda: len(sim.ledger()) > 4, "some requests")
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 130
    assert (results / "run" / "profile_export_aiperf.json").is_file()


@pytest.mark.parametrize("index", ["x", "-1"])
def test_a_wrong_index_is_named(index: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiperf", "kube", "node", "--results", str(tmp_path), "--", "--model", "m"],
        env=os.environ | {"JOB_COMPLETION_INDEX": index},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "JOB_COMPLETION_INDEX" in done.stderr

"""The command as a process of its own, for what cannot be done in this one: signals, sudden death, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.runs import MODEL, Sim

__all__ = ["aiperf", "arguments", "started", "wait_for"]


def arguments(sim: Sim, *flags: str) -> list[str]:
    """`aiperf profile …` against this server, into `<dir>/run`."""
    return [
        "profile",
        "--model",
        MODEL,
        "--url",
        sim.url,
        "--endpoint-type",
        "chat",
        "--streaming",
        "--tokenizer",
        "builtin",
        "--isl",
        "20",
        "--osl",
        "8",
        "--random-seed",
        "1",
        "--artifact-dir",
        str(sim.dir / "run"),
        "--ui",
        "none",
        "--no-server-metrics",
        "--no-calibrate",
        "--no-report",
        *flags,
    ]


def aiperf(*words: str, env: dict[str, str] | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aiperf", *words],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"NO_COLOR": "1"} | (env or {}),
        timeout=timeout,
        check=False,
    )


@contextmanager
def started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The command, running; killed at the end of the block if it still is."""
    with subprocess.Popen(
        [sys.executable, "-m", "aiperf", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
    """Until it holds; looks a hundred times a second."""
    give_up = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up, f"waited {timeout} s for {what}"
        time.sleep(0.01)  # looks again; the deadline ends it


def run_dir(sim: Sim) -> Path:
    return sim.dir / "run"

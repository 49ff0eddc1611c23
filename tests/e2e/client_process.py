"""The tool as a process of its own, so that it can be starved, paused and pinned; its result read back from its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.e2e.runs import MODEL, Sim

__all__ = ["Finished", "Pauses", "beside_busy_loops", "profile_process"]

TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Finished:
    """`dir`: the run's."""

    exit_code: int
    stdout: str
    stderr: str
    dir: Path

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
        return found

    @property
    def certificate(self) -> dict[str, Any]:
        found: dict[str, Any] = self.summary["certificate"]
        return found

    def records(self) -> dict[str, dict[str, Any]]:
        """Lines of `profile_export.jsonl` by request id."""
        lines = (self.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
        return {r["metadata"]["x_request_id"]: r for r in map(json.loads, lines)}


@contextmanager
def profile_process(
    sim: Sim, *flags: str, core: int | None = None, name: str = "run"
) -> Iterator[subprocess.Popen[str]]:
    """`aiperf profile` against the server, on one core if it is named; `finish` waits for it."""
    command = [
        str(Path(sys.executable).with_name("aiperf")),
        "profile",
        "--model",
        MODEL,
        "--url",
        sim.url,
        "--streaming",
        "--tokenizer",
        "builtin",
        "--ui",
        "none",
        "--no-probe",
        "--no-server-metrics",
        "--no-report",
        "--no-calibrate",
        "--random-seed",
        "1",
        "--artifact-dir",
        str(sim.dir / name),
        *flags,
    ]

    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "160"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        if core is not None:  # threads to come inherit it
            os.sched_setaffinity(process.pid, {core})
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finish(process: subprocess.Popen[str], sim: Sim, name: str = "run") -> Finished:
    """Waits for the end."""
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    return Finished(process.returncode, stdout, stderr, sim.dir / name)


@contextmanager
def beside_busy_loops(core: int, number: int) -> Iterator[None]:
    """That many processes that do nothing but use the core."""
    loops = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(number)]
    for loop in loops:
        os.sched_setaffinity(loop.pid, {core})
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


class Pauses:
    """Stops and continues a process while it sends: `stop_s` stopped, `run_s` running, until `num_requests` have arrived.

    `times`: (stopped, continued) in epoch ns.
    """

    def __init__(
        self,
        process: subprocess.Popen[str],
        sim: Sim,
        num_requests: int,
        stop_s: Sequence[float],
        run_s: Sequence[float],
    ) -> None:
        self.times: list[tuple[int, int]] = []
        self._process = process
        self._sim = sim
        self._num_requests = num_requests
        self._stop_s, self._run_s = stop_s, run_s
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(TIMEOUT_S)

    def _work(self) -> None:
        while self._process.poll() is None and self._sim.stats()["requests"] == 0:
            time.sleep(0.005)  # looks again; ends with the process
        turn = 0
        while self._process.poll() is None and self._sim.stats()["requests"] < self._num_requests:
            self._process.send_signal(signal.SIGSTOP)
            began = time.time_ns()
            time.sleep(self._stop_s[turn % len(self._stop_s)])  # what is tested: a process that stands still so long
            self._process.send_signal(signal.SIGCONT)
            self.times.append((began, time.time_ns()))
            time.sleep(self._run_s[turn % len(self._run_s)])  # and runs so long in between
            turn += 1

"""Runs a whole command on the client's core and says how long it took, what CPU and how much memory it used."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server import CLIENT_CORE

__all__ = ["AIPERF", "Finished", "folder", "high_water_bytes", "quiet_profile", "run"]

AIPERF = Path(sys.executable).with_name("aiperf")
SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """`cpu_s`: with all children. `begun_s`: epoch s of its start. `memory`: (epoch s, bytes of the whole process tree) samples; empty where not asked for."""

    wall_s: float
    cpu_s: float
    begun_s: float
    memory: tuple[tuple[float, int], ...]
    stdout: str

    def peak_mb(self, until_s: float = math.inf) -> float:
        """Highest memory up to a moment (epoch s), MB = 10⁶ bytes; `ValueError` where it was not measured."""
        return max(size for at_s, size in self.memory if at_s <= until_s) / 1e6


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _tree_bytes(pid: int) -> int:
    """Proportional set size of a process and its descendants: shared pages are counted once."""
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        todo += _children(one)
        try:
            for line in Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return total


def high_water_bytes(pid: int) -> int:
    """Highest resident size of a process so far; it only grows, so the last sample is all but exact."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):  # the process has ended
        pass
    return 0


def run(
    command: Sequence[str | Path],
    *,
    core: int | None = CLIENT_CORE,
    cwd: Path | None = None,
    timeout_s: float = 600.0,
    measure_memory: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Runs a command to its end; a failed one raises `RuntimeError` with what it wrote."""
    affinity = ["taskset", "-c", str(core)] if core is not None else []
    variables = os.environ | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed tool has its bytecode
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun_s = time.time()
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*affinity, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        text=True,
        env=variables | dict(environment or {}),
    )
    memory: list[tuple[float, int]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            memory.append((time.time(), max(high_water_bytes(process.pid), _tree_bytes(process.pid))))

    sampler = threading.Thread(target=sample, daemon=True)
    if measure_memory:
        sampler.start()
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    finally:
        done.set()
    wall_s = time.perf_counter() - begin
    if process.returncode:
        words = " ".join(map(str, command))
        raise RuntimeError(f"exit code {process.returncode}: {words}\n{stdout[-3000:]}\n{stderr[-5000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Finished(wall_s=wall_s, cpu_s=cpu_s, begun_s=begun_s, memory=tuple(memory), stdout=stdout)


@contextmanager
def folder() -> Iterator[Path]:
    """For a run; it is not there yet, and gone with the block."""
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
        yield Path(name) / "run"


def quiet_profile(url: str, target: Path, *flags: str) -> list[str | Path]:
    """`aiperf profile` of this environment into `target`: records, and nothing that looks at the server or the screen beside the load."""
    return [
        AIPERF,
        "profile",
        *("--model", "sim", "--endpoint-type", "chat", "--tokenizer", "builtin", "--random-seed", "1", "--ui", "none"),
        *("--url", url, "--no-server-metrics", "--no-gpu-telemetry", "--no-calibrate", "--no-report"),
        *("--export-level", "records", "--artifact-dir", target),
        *flags,
    ]

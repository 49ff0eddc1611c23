"""What watching costs: a run under no screen, under the dashboard in a terminal (a pty), and with a page that is asked for numbers each second."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from benchmarks.server import CLIENT_CORE, SERVER_CORE, Server

__all__ = ["Watched", "watch"]

Screen = Literal["none", "dashboard", "page"]
COLUMNS, LINES = 120, 40
FRAME: Final = b"1 Overview"
"""Of the line of tabs, which every frame has."""
FLAGS = (
    "--model",
    "sim",
    "--endpoint-type",
    "chat",
    "--tokenizer",
    "builtin",
    "--random-seed",
    "1",
    "--no-server-metrics",
)
MORE = (
    "--no-gpu-telemetry",
    "--no-calibrate",
    "--no-report",
    "--isl",
    "16",
    "--osl",
    "1",
    "--arrival-pattern",
    "constant",
)


@dataclass(frozen=True, slots=True)
class Watched:
    """`rate`: successful requests per second. `screen_cpu_s`: CPU time of the process besides the engine's threads. `opened_s`: from the
    start of the process to its first frame in the terminal; None where there is none.
    """

    rate: float
    send_lag_p99_ms: float
    screen_cpu_s: float
    opened_s: float | None


def watch(
    executable: Path, server: Server, screen: Screen, rate: int, seconds: int, *, shares_core: bool = False
) -> Watched:
    """The engine is on the client's core. `shares_core`: all else of the client too; else that may use the server's as well."""
    cores = str(CLIENT_CORE) if shares_core else f"{SERVER_CORE},{CLIENT_CORE}"
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as folder:
        load = ("--request-rate", str(rate), "--benchmark-duration", str(seconds), "--cpus", str(CLIENT_CORE))
        command = ["taskset", "-c", cores, str(executable), "profile", "--url", server.url, *FLAGS, *MORE, *load]
        command += ["--artifact-dir", folder]
        opened_s = None
        if screen == "dashboard":
            opened_s = _run_in_terminal(command)
        elif screen == "page":
            _run_with_page(command)
        else:
            _run_plain(command)
        facts = json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))
    outcome = facts["outcome"]
    lag = next(p["value"] for p in facts["certificate"]["parts"] if p["name"] == "send lag p99")
    engine_ns = sum(outcome["worker_cpu_ns"]) + outcome["controller_cpu_ns"]
    screen_cpu_s = (outcome["process_cpu_ns"] - engine_ns) / 1e9
    return Watched(outcome["seen"]["ok"] / seconds, float(lag), screen_cpu_s, opened_s)


def _run_plain(command: Sequence[str]) -> None:
    subprocess.run([*command, "--ui", "none"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _run_in_terminal(command: Sequence[str]) -> float:
    """Seconds to the first frame. In the session of the benchmark, as the runs under no screen are: Linux shares out the cores by session
    (autogroup), so that a client in one of its own competes with the server in the other, whatever its screen.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    env = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed tool has its bytecode
    frames: list[float] = []
    begun = time.perf_counter()
    with subprocess.Popen(
        [*command, "--ui", "dashboard"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=env,
    ) as process:
        os.close(theirs)
        reader = threading.Thread(target=_drain, args=(ours, frames))
        reader.start()
        process.wait()
        reader.join()
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    if not frames:
        raise RuntimeError("the dashboard drew no frame")
    return frames[0] - begun


def _drain(terminal: int, frames: list[float]) -> None:
    """Reads all that comes; the first element of `frames`: when the first frame had come, of `time.perf_counter`."""
    seen = b""
    try:
        while block := os.read(terminal, 65536):
            if frames:
                continue
            seen += block
            if FRAME in seen:
                frames.append(time.perf_counter())
    except OSError:
        """The last process has closed its side."""


def _run_with_page(command: Sequence[str]) -> None:
    words = [*command, "--ui", "none", "--serve", "0", "--serve-grace", "0"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        page = None
        while page is None:
            page = re.search(r"live page: (\S+)", process.stderr.readline())
        threading.Thread(target=process.stderr.read, daemon=True).start()
        while process.poll() is None:
            try:
                with urllib.request.urlopen(f"{page[1]}metrics", timeout=2) as answer:
                    answer.read()
            except OSError:
                break
            time.sleep(1)
        process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)

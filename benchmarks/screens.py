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
from typing import Literal

from benchmarks.server import Server

__all__ = ["Watched", "watch"]

Screen = Literal["none", "dashboard", "page"]
COLUMNS, LINES = 120, 40
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
    """`rate`: successful requests per second. `screen_cpu_s`: CPU time of the process besides the engine's threads."""

    rate: float
    send_lag_p99_ms: float
    screen_cpu_s: float


def watch(executable: Path, server: Server, screen: Screen, rate: int, seconds: int) -> Watched:
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as folder:
        load = ("--request-rate", str(rate), "--benchmark-duration", str(seconds), "--artifact-dir", folder)
        command = [str(executable), "profile", "--url", server.url, *FLAGS, *MORE, *load]
        {"none": _run_plain, "dashboard": _run_in_terminal, "page": _run_with_page}[screen](command)
        facts = json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))
    outcome = facts["outcome"]
    lag = next(p["value"] for p in facts["certificate"]["parts"] if p["name"] == "send lag p99")
    engine_ns = sum(outcome["worker_cpu_ns"]) + outcome["controller_cpu_ns"]
    return Watched(outcome["seen"]["ok"] / seconds, float(lag), (outcome["process_cpu_ns"] - engine_ns) / 1e9)


def _run_plain(command: Sequence[str]) -> None:
    subprocess.run([*command, "--ui", "none"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _run_in_terminal(command: Sequence[str]) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    env = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        [*command, "--ui", "dashboard"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=env,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        reader = threading.Thread(target=_drain, args=(ours,))
        reader.start()
        process.wait()
        reader.join()
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            pass
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

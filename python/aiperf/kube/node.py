"""What each pod runs: index 0 starts Ray's head and the command, the others join it; alone, just the command.

Ends with the exit code of `aiperf profile`. Signals go on to the command, which writes its results and ends by itself.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from aiperf.errors import AIPerfError
from aiperf.kube.pod import RAY_PORT
from aiperf.number_text import exact
from aiperf.reports.writing import write_text

__all__ = ["COLLECTED", "EXIT_CODE", "Node", "own_index", "run_node"]

EXIT_CODE: Final = ".exit-code"
"""In the results folder, when the command has ended: its exit code."""
COLLECTED: Final = ".collected"
"""In the results folder, made by whoever has fetched them: the pod may end."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S: Final = 0.5
_LOST_AFTER: Final = 4
"""Attempts to reach the head, one each two seconds, until it counts as gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`index`: completion index of the Job; `head`: host of index 0; `ip`: own address, as the others see it."""

    words: Sequence[str]
    results: Path
    index: int = 0
    generators: int = 1
    head: str = ""
    ip: str = "127.0.0.1"
    port: int = RAY_PORT
    keep_for_s: float = 0.0
    join_timeout_s: float = 300.0


@dataclass(slots=True)
class _Signals:
    """Hands signals to the child; remembers that one came."""

    child: subprocess.Popen[bytes] | None = None
    came: threading.Event = field(default_factory=threading.Event)

    def take(self, number: int, _frame: FrameType | None) -> None:
        self.came.set()
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)


def run_node(node: Node) -> int:
    """The exit code of this pod. AIPerfError if Ray is absent or the head cannot be reached."""
    with _forwarded() as signals:
        if node.generators == 1:
            return _command(node, signals, ())
        _require_ray()
        if node.index == 0:
            return _head(node, signals)
        return _join(node, signals)


def _say(text: str) -> None:
    print(f"aiperf: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the pod's log


@contextmanager
def _forwarded() -> Iterator[_Signals]:
    signals = _Signals()
    before = {s: signal.signal(s, signals.take) for s in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise AIPerfError(
            "several generators need Ray, and it is not in this image", "install `aiperf[ray]` in the image"
        )


def _command(node: Node, signals: _Signals, more: Sequence[str]) -> int:
    words = [sys.executable, "-m", "aiperf", "profile", *node.words, "--artifact-dir", str(node.results / "run"), *more]
    for stale in (EXIT_CODE, COLLECTED):
        (node.results / stale).unlink(missing_ok=True)
    signals.child = subprocess.Popen(words)  # noqa: S603 - our own command
    code = signals.child.wait()
    code = 128 - code if code < 0 else code
    # Others wait for the file to be there: it comes with its content.
    write_text(node.results / EXIT_CODE, f"{code}\n")
    _hold(node, signals, code)
    return code


def _hold(node: Node, signals: _Signals, code: int) -> None:
    """Results on the pod's own disk end with the pod: wait until somebody has them."""
    if node.keep_for_s <= 0 or signals.came.is_set():
        return
    _say(
        f"finished with exit code {code}; the results wait up to {exact(node.keep_for_s)} s in {node.results} to be collected"
    )
    end = time.monotonic() + node.keep_for_s
    while time.monotonic() < end and not (node.results / COLLECTED).exists():
        if signals.came.wait(_POLL_S):
            return


def _ray(*words: str) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


def _head(node: Node, signals: _Signals) -> int:
    words = ("start", "--head", "--port", str(node.port), "--node-ip-address", node.ip, "--include-dashboard", "false")
    started = subprocess.run(  # noqa: S603 - Ray of this environment
        _ray(*words, "--disable-usage-stats"), capture_output=True, text=True, check=False
    )
    if started.returncode:
        raise AIPerfError(
            f"Ray's head did not start on {node.ip}:{node.port}: {_last_line(started.stderr or started.stdout)}"
        )
    _say(f"Ray's head listens on {node.ip}:{node.port}; waiting for {node.generators} nodes")
    try:
        own = ("--generators", str(node.generators), "--cluster", f"{node.ip}:{node.port}")
        return _command(node, signals, (*own, "--wait-for-nodes", exact(node.join_timeout_s)))
    finally:
        subprocess.run(_ray("stop", "--grace-period", "5"), capture_output=True, check=False)  # noqa: S603


def _join(node: Node, signals: _Signals) -> int:
    """Ends with 0 when the head has ended: its exit code is the run's."""
    address = f"{node.head}:{node.port}"
    _say(f"waiting for Ray's head at {address}")
    end = time.monotonic() + node.join_timeout_s
    while not _answers(node.head, node.port):
        if signals.came.wait(_POLL_S):
            return 0
        if time.monotonic() > end:
            raise AIPerfError(
                f"Ray's head at {address} did not answer within {exact(node.join_timeout_s)} s",
                "is index 0 running? is its name known to DNS (headless Service)? does a NetworkPolicy stand between?",
            )
    address = _numeric(node.head, node.port)  # Ray would ask for the name again and again
    signals.child = subprocess.Popen(  # noqa: S603
        _ray("start", "--address", address, "--node-ip-address", node.ip, "--disable-usage-stats", "--block"),
        stdout=subprocess.DEVNULL,
    )
    misses = 0
    while signals.child.poll() is None and misses < _LOST_AFTER:
        try:
            signals.child.wait(2)
        except subprocess.TimeoutExpired:
            misses = 0 if _answers(node.head, node.port) else misses + 1
    is_gone = not _answers(node.head, node.port)
    if signals.child.poll() is None:
        signals.child.terminate()
        try:
            signals.child.wait(10)
        except subprocess.TimeoutExpired:
            signals.child.kill()
    if is_gone or signals.came.is_set():
        _say(f"the head at {address} has ended; so does generator {node.index}")
        return 0
    _say(f"Ray ended on generator {node.index} while the head at {address} is up")
    return 1


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 2).close()
    except OSError:
        return False
    return True


def _numeric(host: str, port: int) -> str:
    """`10.0.0.1:6379`; the name if it is not known just now."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        return f"{host}:{port}"
    return f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def own_index() -> int:
    """Completion index that Kubernetes gives the pods of an indexed Job."""
    text = os.environ.get("JOB_COMPLETION_INDEX", "0")
    if not text.isdigit():
        raise AIPerfError(
            f"JOB_COMPLETION_INDEX is `{text}`, not a number from 0", "Kubernetes sets it in the pods of an indexed Job"
        )
    return int(text)

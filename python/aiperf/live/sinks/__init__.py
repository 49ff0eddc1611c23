"""Services that a run is sent to while it goes on, and when it is complete: OpenTelemetry, MLflow, Weights & Biases, by their own clients.

Each sink has a thread of its own that looks at the board every few seconds and sends what changed in one batch. It is not waited for while the load
runs; what a service does not take costs its own entry and a warning, never the run: results are in the run's files first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from aiperf.background import yield_to_load
from aiperf.live.board import Board
from aiperf.number_text import exact

__all__ = ["Sink", "Target", "finish", "results_of"]

_LEAVE_S: Final = 60.0
"""For all sinks together."""
_STATS: Final = ("avg", "min", "max", "p50", "p90", "p95", "p99", "std")


class Target(Protocol):
    """One service. Every method is called on the sink's thread and may raise what its client raises."""

    name: str
    interval_s: float

    def connect(self, board: Board) -> None:
        """Called again at the next interval if it raises."""

    def live(self, board: Board) -> None:
        """The state so far."""

    def results(self, board: Board) -> None:
        """The run is complete, its files are written; or it ended without results (`board.directory` None)."""

    def close(self) -> None:
        """The last call."""


class Sink:
    """Sends from `start` until `finish`."""

    def __init__(self, target: Target, board: Board) -> None:
        self._target = target
        self._board = board
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"aiperf-{target.name}", daemon=True)
        self._failures = 0
        self._problem: str | None = None
        self._is_connected = False

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Nothing more comes: the results are sent now. Does not wait."""
        self._ended.set()

    def finish(self, note: Callable[[str], None], wait_s: float = _LEAVE_S) -> None:
        """Waits until the results are sent, or `wait_s`; says what went wrong."""
        self.end()
        try:
            self._thread.join(max(0.0, wait_s))
        except KeyboardInterrupt:
            note(f"warning: {self._target.name}: interrupted before all results were sent; they are in the run's files")
            return
        if self._thread.is_alive():
            note(
                f"warning: {self._target.name}: the results were not taken within {exact(wait_s)} s; they are in the run's files"
            )
        elif self._problem is not None:
            note(
                f"warning: {self._target.name}: {self._failures} failures to send, the last: {self._problem}; results are in the run's files"
            )

    def _run(self) -> None:
        yield_to_load(has_to_keep_up=True)
        while not self._ended.wait(self._target.interval_s):
            self._send(self._target.live)
        self._send(self._target.live)
        self._send(self._target.results)
        self._try(self._target.close)

    def _send(self, call: Callable[[Board], None]) -> None:
        if not self._is_connected:
            self._is_connected = self._try(lambda: self._target.connect(self._board))
        if self._is_connected:
            self._try(lambda: call(self._board))

    def _try(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a service or its client does, the run goes on
            self._failures += 1
            self._problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return False
        return True


def finish(sinks: Sequence[Sink], note: Callable[[str], None], wait_s: float = _LEAVE_S) -> None:
    """All of them at once: together they take as long as the slowest, or `wait_s`."""
    deadline = time.monotonic() + wait_s
    for sink in sinks:
        sink.end()
    for sink in sinks:
        sink.finish(note, deadline - time.monotonic())


def results_of(board: Board) -> dict[str, float]:
    """`tag` (the average) and `tag.stat` → value of the summary file, AIPerf's keys; empty where there is no summary."""
    import json

    from aiperf.reports.paths import Files

    if board.directory is None:
        return {}
    path: Path = Files(board.directory, board.config.output.profile_export_prefix).summary
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    out: dict[str, float] = {}
    for tag, found in summary.items():
        if isinstance(found, Mapping) and "unit" in found:
            for stat in _STATS:
                value = found.get(stat)
                if isinstance(value, int | float):
                    out[tag if stat == "avg" else f"{tag}.{stat}"] = float(value)
    return out


def now_ms() -> int:
    return time.time_ns() // 1_000_000

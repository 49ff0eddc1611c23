"""Lines for logs and pipes: one every few seconds, one at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from aiperf.outcome import Snapshot

if TYPE_CHECKING:
    from aiperf.config.model import Config
from aiperf.live.model import LiveModel
from aiperf.live.progress import clock_text, words
from aiperf.live.words import generator_lines, state_words
from aiperf.observer import Observer

__all__ = ["Plain", "Quiet"]


class Quiet(Observer):
    """Notes alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, text: str) -> None:
        self._print(f"note: {text}")

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Plain(Quiet):
    """`interval_s`: time between two lines, by the run's own clock, 0: none; a new phase has its line at once."""

    def __init__(self, stream: TextIO, interval_s: float, config: Config | None = None) -> None:
        super().__init__(stream)
        self._interval_ns = int(interval_s * 1e9)
        self._model = LiveModel(config)
        self._next_ns = 0
        self._phase: object = None

    def stage(self, text: str) -> None:
        self._print(f"{text} …")

    def begin(self) -> None:
        self._model.begin()
        self._next_ns, self._phase = self._interval_ns, None

    def progress(self, snapshot: Snapshot) -> None:
        if not self._interval_ns:
            return
        line = self._line(snapshot)
        now_ns = snapshot.now_ns
        is_new_phase = self._phase is not None and snapshot.phase_index != self._phase
        self._phase = snapshot.phase_index
        if now_ns < self._next_ns and not is_new_phase:
            return
        self._next_ns = now_ns + self._interval_ns
        self._print(line)
        for generator in generator_lines(snapshot):
            self._print(f"  {generator}")

    def end(self, snapshot: Snapshot) -> None:
        self._print(
            f"load ended: {snapshot.sent:,} sent, {snapshot.ok:,} ok, {snapshot.failed:,} failed, {snapshot.cancelled:,} cancelled"
        )

    def _line(self, snapshot: Snapshot) -> str:
        view = self._model.read(snapshot)
        pace = view.pace
        parts = words(pace)
        if pace.is_stopping:
            parts.append("stopping")
        elif pace.left_s is not None:
            parts.append(f"{clock_text(pace.left_s)} left")
        return f"[{clock_text(pace.elapsed_s)}] {pace.phase}: " + " · ".join([*parts, *state_words(view)])

"""Signals of a run, from its first request to its last file.

Before the load: as Python does it, KeyboardInterrupt. While the load runs: once, nothing more is sent and requests in flight may finish within the grace period; twice, they are
cancelled. When the load has ended, its files are written to the end. The third signal, counted over both, leaves at
once: the records are on disk (`aiperf report`). SIGTERM and SIGHUP are as Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from aiperf.errors import ExitCode
from aiperf.observer import Observer

__all__ = ["Interrupts", "interruptible"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOAD: Final = (
    "stopping: requests in flight may finish within the grace period (again: cancel them)",
    "cancelling the requests in flight (again: leave at once)",
)
_FILES: Final = (
    "the load has ended; its files are being written (twice more: leave at once)",
    "the load has ended; its files are being written (again: leave at once; `aiperf report` writes them later)",
)


class Interrupts:
    """`signals`: those that came, in order."""

    def __init__(self, observer: Observer) -> None:
        self.signals: list[int] = []
        self._observer = observer
        self._has_begun = False
        self._stop: Callable[[int], None] | None = None

    @contextmanager
    def stopping(self, stop: Callable[[int], None]) -> Iterator[None]:
        """While the load runs: `stop(1)`, then `stop(2)`."""
        self._has_begun, self._stop = True, stop
        try:
            yield
        finally:
            self._stop = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._has_begun:
            raise KeyboardInterrupt
        self.signals.append(number)
        level = len(self.signals)
        if level > 2:
            # The journal is at most a second behind; nothing here may hold us up any more.
            with suppress(Exception):
                self._observer.leave()
            os._exit(ExitCode.INTERRUPTED)
        texts = _FILES
        if self._stop is not None:
            texts = _LOAD
            self._stop(level)
        try:
            self._observer.note(texts[level - 1])
        except RuntimeError:
            # The main thread was writing to the same screen: whoever says it has to wait until that is done.
            threading.Thread(target=self._observer.note, args=(texts[level - 1],), daemon=True).start()


@contextmanager
def interruptible(observer: Observer) -> Iterator[Interrupts]:
    """Signals are Python's only on the main thread; elsewhere whoever runs us stops us. An ignored SIGHUP (`nohup`) stays so."""
    interrupts = Interrupts(observer)
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    numbers = [n for n in _SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupts.on_signal) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

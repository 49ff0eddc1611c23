"""While the clock runs: start the engine, show what it does, and stop it when the user says so.

Ctrl-C once: nothing more is sent, what is in flight may finish within the grace period. Twice: what is in flight is
cancelled. Three times: leave at once; the records are on disk (`aiperf report`). All but the last end in a report.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from aiperf.config.engine import EngineSettings
from aiperf.errors import ExitCode
from aiperf.observer import Observer
from aiperf.workload import Workload

if TYPE_CHECKING:
    from aiperf._core import Engine

__all__ = ["drive"]

POLL_S = 0.25


def drive(
    settings: EngineSettings,
    workload: Workload,
    observer: Observer,
    watch: Callable[[Mapping[str, Any]], int] | None = None,
) -> dict[str, Any]:
    """Run the engine to its end; its `Outcome` as a dict. EngineError if it cannot start.

    `watch`: called with each snapshot; when it returns 1, the run is stopped as if its last request had been sent, with 2
    what is in flight is cancelled as well. That is no interruption (`stopped_by_watch`). `seen`: the last snapshot.
    """
    from aiperf._core import Engine

    engine = Engine(settings.model_dump_json(), workload.plan.to_core(), workload.vocabulary)
    observer.begin()
    with _interrupts(engine, observer) as signals:
        is_stopped = False
        while not engine.wait(POLL_S):
            snapshot = json.loads(engine.snapshot())
            observer.progress(snapshot)
            level = 0 if watch is None or is_stopped else watch(snapshot)
            if level:
                is_stopped = True
                engine.stop(level)
    seen = json.loads(engine.snapshot())
    observer.end(seen)
    outcome: dict[str, Any] = json.loads(engine.outcome() or "{}")
    outcome["seen"] = seen
    outcome["stopped_by_watch"] = is_stopped
    if is_stopped:
        outcome["interrupted"] = bool(signals)
    return outcome


@contextmanager
def _interrupts(engine: Engine, observer: Observer) -> Iterator[list[int]]:
    """The signals that came. They are Python's only on the main thread; elsewhere whoever runs us stops us."""
    signals: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        level = len(signals)
        if level > 2:
            # The journal is at most a second behind; nothing here may hold us up any more.
            os._exit(ExitCode.INTERRUPTED)
        engine.stop(level)
        if level == 1:
            observer.note("stopping: requests in flight may finish within the grace period (again: cancel them)")
        else:
            observer.note("cancelling what is in flight (again: leave at once)")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

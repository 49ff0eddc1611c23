"""Threads of our own: those that work beside the load take the time it leaves."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["beside", "yield_to_load"]

_Result = TypeVar("_Result")

# A tenth of the core of a worker thread at 10, 1.5 % of it at 19: measured on one core shared by all.
_LOW: Final = 10
_LOWEST: Final = 19


def yield_to_load(*, has_to_keep_up: bool = False) -> None:
    """The calling thread, and those that it starts, get the lowest priority; on Linux a priority is a thread's own, and stays.

    `has_to_keep_up`: a low one, for what is looked at or asked for while the load runs (screens, scrapes). A thread of the lowest priority
    may wait for a second on a machine that is full, and so does whoever waits for the interpreter's lock behind it.
    """
    if sys.platform == "linux":
        thread, level = threading.get_native_id(), _LOW if has_to_keep_up else _LOWEST
        # Under `nice` it may be as low already, and only root may raise it.
        os.setpriority(os.PRIO_PROCESS, thread, max(level, os.getpriority(os.PRIO_PROCESS, thread)))


def beside(work: Callable[[], _Result], name: str) -> Callable[[], _Result]:
    """Begins `work` in a thread called `name`. What is returned waits for the result, or raises what `work` has raised.

    Whoever does not ask is not kept waiting, not even by the end of the process.
    """
    from concurrent.futures import Future

    future: Future[_Result] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - told to whoever asks
            future.set_exception(error)

    threading.Thread(target=do, name=name, daemon=True).start()
    return future.result

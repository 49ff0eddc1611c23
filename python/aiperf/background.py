"""Threads that work beside the load: they take the time it leaves."""

from __future__ import annotations

import os
import threading
from typing import Final

__all__ = ["yield_to_load"]

# A tenth of the core of a worker thread at 10, 1.5 % of it at 19: measured on one core shared by all.
_LOWEST: Final = 19


def yield_to_load() -> None:
    """The calling thread gets the lowest priority; on Linux a priority is a thread's own."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)

"""A cable that takes time, between two TAP devices: for kernels without netem. A process of its own, so that a busy test delays nothing.

`python relay.py NEAR FAR DELAY_MS`: descriptors of the devices. What comes from NEAR arrives at FAR so much later, in order; the other
direction takes no time.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from contextlib import suppress

_FRAME = 65_536
_AT_ONCE = 256
"""Frames taken from a device before the others are looked at."""


def relay(near: int, far: int, delay_s: float) -> None:
    """Until one of the devices is gone."""
    waiting: deque[tuple[float, bytes]] = deque()
    for fd in (near, far):
        os.set_blocking(fd, False)
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([near, far], [], [], timeout)
        for fd in ready:
            with suppress(BlockingIOError):  # all that was there has been read
                for _ in range(_AT_ONCE):
                    frame = os.read(fd, _FRAME)
                    if fd == near:
                        waiting.append((time.monotonic() + delay_s, frame))
                    else:
                        _put(near, frame)
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _put(far, waiting.popleft()[1])


def _put(fd: int, frame: bytes) -> None:
    """A device that is down, or whose queue is full, drops it, as a cable would."""
    with suppress(OSError):  # see above
        os.write(fd, frame)


if __name__ == "__main__":
    with suppress(OSError, KeyboardInterrupt):  # the test ends it
        relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000)

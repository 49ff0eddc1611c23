"""How far the clock of a generator is from the head's: by round trips, of which the quickest says most."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["HeadClock", "Offset", "measure_offset", "merge_offsets"]


class HeadClock:
    """Epoch ns of the head: the system's clock when it was made, monotonic since."""

    def __init__(self) -> None:
        self._wall, self._zero = time.time_ns(), time.monotonic_ns()

    def now(self) -> int:
        return self._wall + time.monotonic_ns() - self._zero


@dataclass(frozen=True, slots=True)
class Offset:
    """A generator's clock minus the head's, ns, and the most it can be wrong."""

    offset_ns: int
    bound_ns: int


def measure_offset(ask: Callable[[], int], now: Callable[[], int], rounds: int = 16) -> Offset:
    """Cristian's algorithm: the answer was read between the question and its arrival, so the middle is wrong by half a round trip at most."""
    best: Offset | None = None
    for _ in range(rounds):
        before = now()
        there = ask()
        after = now()
        half = (after - before + 1) // 2
        if best is None or half < best.bound_ns:
            best = Offset(there - (before + half), half)
    if best is None:
        raise ValueError("at least one round trip is needed")
    return best


def merge_offsets(offsets: Sequence[Offset]) -> Offset:
    """Of measurements at several times: the one in the middle of what all of them allow; clocks that drift apart widen the bound."""
    low = max(o.offset_ns - o.bound_ns for o in offsets)
    high = min(o.offset_ns + o.bound_ns for o in offsets)
    if low <= high:
        return Offset((low + high) // 2, (high - low + 1) // 2)
    low, high = high, low
    widest = max(o.bound_ns for o in offsets)
    return Offset((low + high) // 2, (high - low + 1) // 2 + widest)

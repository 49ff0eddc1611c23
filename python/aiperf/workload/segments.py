"""The columns of a plan: turns, and the segments their bodies are made of (`docs/dev/2026-11-24-border.md`)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEADING_SPACE", "UNKNOWN", "SegmentKind", "SegmentWriter"]

UNKNOWN: Final = 0xFFFF_FFFF
"""Of `isl` and `osl`: not known, not asked for."""
LEADING_SPACE: Final = 1 << 31
"""Bit of `seg_b`: the synthetic text starts with a space."""


class SegmentKind(IntEnum):
    """What `seg_a` and `seg_b` of a segment are is in `crates/engine/src/plan.rs`."""

    LITERAL = 0
    FIXED = 1
    FRESH = 2
    REPLY = 3
    STAMP = 4
    INHERIT = 5
    """The beginning of another row's body: `a` its row, `b` so many blocks."""
    BLOCKS = 6
    """Blocks of a recorded prompt."""
    MARK = 7
    """New in each play."""
    OSL = 8
    """The row's output length."""
    LIVE = 9
    """The response to row `a`, if there is one, in place of the next `b` blocks."""
    FILLER = 10
    """`b` tokens of synthetic text (seed: the low half of `a`) if the response to row `a` >> 32 stands in its place."""


class SegmentWriter:
    """`counts[i]` segments for turn i, literal 0 at first. Written by place (`offsets` of a turn and the number in it), then columns."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        size = int(self.offsets[-1])
        self.kind = np.zeros(size, np.uint8)
        self.a = np.zeros(size, np.uint64)
        self.b = np.zeros(size, np.uint32)

    def columns(
        self,
        session: NDArray[np.generic],
        *,
        osl: NDArray[np.generic] | None = None,
        isl: NDArray[np.generic] | None = None,
        model: NDArray[np.generic] | None = None,
        at_ns: NDArray[np.generic] | None = None,
        delay_ns: NDArray[np.generic] | None = None,
    ) -> dict[str, NDArray[np.generic]]:
        """The plan's columns; lengths that are left out are unknown, the model is the first, times are none."""
        turns = len(session)

        def column(given: NDArray[np.generic] | None, value: int, dtype: type[np.generic]) -> NDArray[np.generic]:
            return np.full(turns, value, dtype) if given is None else given.astype(dtype, copy=False)

        return {
            "session": session.astype(np.uint32, copy=False),
            "at_ns": column(at_ns, -1, np.int64),
            "delay_ns": column(delay_ns, 0, np.int64),
            "isl": column(isl, UNKNOWN, np.uint32),
            "osl": column(osl, UNKNOWN, np.uint32),
            "model": column(model, 0, np.uint16),
            "path": np.zeros(turns, np.uint16),
            "seg_offsets": self.offsets.astype(np.uint32),
            "seg_kind": self.kind,
            "seg_a": self.a,
            "seg_b": self.b,
        }

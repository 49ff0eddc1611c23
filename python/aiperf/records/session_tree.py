"""Who is whose child among the sessions of a run: a DAG's branches, the sub-agents of recorded agents.

All sessions of one tree have ids of one family (`crates/engine/src/ids.rs`): the upper half of a UUID is drawn for the tree, the lower
one follows from it and the session's row in the plan. So the ids of a record's parent and root follow from its own, and no other
record is needed for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

__all__ = ["SessionTree"]

Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]

_VERSION: Final = np.uint64(0xF000)
"""Bits of the upper half that the version of a UUID takes."""
_VARIANT: Final = np.uint64(0xC000_0000_0000_0000)
_IS_UUID: Final = np.uint64(0x8000_0000_0000_0000)


class SessionTree:
    """`parents`: by row of the session in the plan, −1 for a root."""

    def __init__(self, parents: Sequence[int]) -> None:
        parent = np.asarray(parents, dtype=np.int64)
        self._parent = parent
        self._root = np.arange(len(parent))
        self._depth = np.zeros(len(parent), dtype=np.int64)
        above = parent.copy()
        while (known := above >= 0).any():
            self._root[known] = above[known]
            self._depth[known] += 1
            above[known] = parent[above[known]]

    def depth(self, session: Ints) -> Ints:
        """(rows,) 0 for the requests of a root."""
        found: Ints = self._depth[session]
        return found

    def parent_ids(self, session: Ints, ids: Sequence[str | None]) -> list[str | None]:
        """(rows,) the parent's X-Correlation-ID; None for a root."""
        parent = self._parent[session]
        return self._related(session, ids, parent, np.flatnonzero(parent >= 0), [None] * len(ids))

    def root_ids(self, session: Ints, ids: Sequence[str | None]) -> list[str | None]:
        """(rows,) the root's X-Correlation-ID; a root's is its own."""
        return self._related(session, ids, self._root[session], np.flatnonzero(self._depth[session] > 0), list(ids))

    @staticmethod
    def _related(
        session: Ints, ids: Sequence[str | None], wanted: Ints, rows: Ints, out: list[str | None]
    ) -> list[str | None]:
        known = [row for row in rows.tolist() if ids[row] is not None]
        numbers = [UUID(ids[row]).int for row in known]
        high = np.array([n >> 64 for n in numbers], dtype=np.uint64)
        low = np.array([n & 0xFFFF_FFFF_FFFF_FFFF for n in numbers], dtype=np.uint64)
        own, other = session[known].astype(np.uint64), wanted[known].astype(np.uint64)
        family, is_known = high, np.zeros(len(known), dtype=np.bool_)
        for nibble in range(16):
            drawn = (high & ~_VERSION) | np.uint64(nibble << 12)
            is_it = _lower(drawn, own) == low
            family, is_known = np.where(is_it, drawn, family), is_known | is_it
        theirs = _lower(family, other)
        for row, a, b, ok in zip(known, high.tolist(), theirs.tolist(), is_known.tolist(), strict=True):
            out[row] = str(UUID(int=(a << 64) | b)) if ok else None
        return out


def _lower(family: _Words, session: _Words) -> _Words:
    """The lower half of a session's id."""
    return _IS_UUID | (_mix(family ^ session) & ~_VARIANT)


def _mix(seed: _Words) -> _Words:
    """`mix64` of crates/engine/src/text.rs."""
    z = seed + np.uint64(0x9E37_79B9_7F4A_7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))

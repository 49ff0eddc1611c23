"""Input lengths of conversations: the plan knows the tokens of what the user says, the records those of the server's answers.

A later turn's body holds the answers to earlier turns. Which ones is written down before the load (`replies.npz`, next to the
journal and removed with it), so that a killed run is counted like any other. An answer's record ends before the turn that
holds it begins, so one pass over the journal, in order, meets the answer first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ResultError
from aiperf.records.columns import Floats

__all__ = ["LINKS_FILE", "ReplyTokens", "write_links"]

Ints = NDArray[np.int64]

LINKS_FILE: Final = "replies.npz"

_PHASE_BITS: Final = 53
"""Session numbers come as float64: exact below 2⁵³; the phase goes above."""


def write_links(
    run_dir: Path, session: NDArray[np.generic], offsets: Ints, replied: Ints, room: Ints | None = None
) -> None:
    """By row of the plan: its session, and the rows whose replies are in its body (CSR). No file if there are none. `room`: by
    reply, tokens of the planned text that it stands in place of; without it a reply is added to what is planned.

    ResultError if it cannot be written: without it the input lengths of later turns would be wrong.
    """
    if replied.size:
        path = run_dir / LINKS_FILE
        try:
            known = np.empty(0, np.int64) if room is None else room
            np.savez(path, session=session, offsets=offsets, replied=replied, room=known)
        except OSError as error:
            raise ResultError(f"cannot write `{path}`: {error.strerror or error}") from error


class ReplyTokens:
    """The answers seen so far of conversations that still go on."""

    NEEDS: Final = ("phase", "session", "session_num", "turn", "error_kind", "isl")

    def __init__(self, session: NDArray[np.uint32], offsets: Ints, replied: Ints, room: Ints | None = None) -> None:
        self._offsets, self._replied = offsets, replied
        self._room = np.zeros(len(replied), np.int64) if room is None else room
        starts = np.flatnonzero(np.diff(session.astype(np.int64), prepend=-1))
        self._first_row = starts
        self._last_row = np.append(starts[1:], len(session)) - 1
        self._is_replied = np.zeros(len(session), np.bool_)
        self._is_replied[replied] = True
        owner = np.repeat(np.arange(len(session)), np.diff(offsets))
        # A replay of agents goes on when a turn has failed, and holds several streams.
        self._is_linear = room is None and bool((session[owner] == session[replied]).all())
        self._group, self._row = np.empty(0, np.int64), np.empty(0, np.int64)
        self._tokens = np.empty(0, np.float64)

    @classmethod
    def open(cls, run_dir: Path) -> ReplyTokens | None:
        """None for a run without conversations, or without its plan (finished, or from elsewhere)."""
        try:
            with np.load(run_dir / LINKS_FILE) as file:
                room = file["room"]
                return cls(file["session"], file["offsets"], file["replied"], room if room.size else None)
        except (OSError, ValueError, KeyError, BadZipFile):
            return None

    def whole_isl(self, rows: Mapping[str, Floats], tokens: Floats) -> Floats:
        """(rows,) `isl` with the answers in each body. `rows`: columns `NEEDS`. `tokens`: of each row's answer, as a later
        body holds it.

        Where a reply stands in place of planned text (`room`), one that failed or is empty does not: the planned text is sent.
        Pieces come in the journal's order. An answer nobody has is empty: a user's earlier turns that were skipped
        (user-centric load).
        """
        at, turn, phase, number = (rows[n].astype(np.int64) for n in ("session", "turn", "phase", "session_num"))
        row = self._first_row[at] + turn
        group = (phase << _PHASE_BITS) | number
        kept = self._is_replied[row] & (rows["error_kind"] == 0) & (tokens > 0)
        self._group = np.concatenate([self._group, group[kept]])
        self._row = np.concatenate([self._row, row[kept]])
        self._tokens = np.concatenate([self._tokens, tokens[kept]])
        whole = rows["isl"].copy()
        counts = np.diff(self._offsets)[row]
        if counts.any() and self._group.size:
            _, rank = np.unique(np.concatenate([self._group, group]), return_inverse=True)
            known, asking = rank[: len(self._group)], rank[len(self._group) :]
            height = len(self._is_replied)
            keys = known * height + self._row
            order = np.argsort(keys, kind="stable")
            owner = np.repeat(np.arange(len(row)), counts)
            step = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
            link = self._offsets[row[owner]] + step
            wanted = asking[owner] * height + self._replied[link]
            place = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
            found = order[place]
            answer = np.where(keys[found] == wanted, self._tokens[found] - self._room[link], 0.0)
            whole += np.bincount(owner, answer, len(row))
        if self._is_linear:
            # Conversations that are over need their answers no more. Those with forks may have branches that go on.
            over = np.unique(group[(row == self._last_row[at]) | (rows["error_kind"] != 0)])
            left = ~np.isin(self._group, over)
            self._group, self._row, self._tokens = self._group[left], self._row[left], self._tokens[left]
        return whole

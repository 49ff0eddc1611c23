"""A plan's tables: what to send, as the columns of `docs/dev/2026-11-24-border.md`, and what Python keeps beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aiperf.reading.media_rows import MediaRows
from aiperf.session import Pause
from aiperf.workload.segments import SegmentKind

if TYPE_CHECKING:
    from aiperf._core import Plan

__all__ = ["CoreArguments", "PlanTables", "silent_columns"]

CoreArguments: TypeAlias = tuple[
    dict[str, NDArray[np.generic]], list[bytes], list[str], dict[str, NDArray[np.generic] | Sequence[str]] | None
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTables:
    """The columns of the border contract, one row per turn; `models` may hold more names than the user gave."""

    columns: Mapping[str, NDArray[np.generic]]
    literals: list[bytes] = field(repr=False)
    session_ids: list[str] = field(repr=False)
    models: tuple[str, ...]
    agents: Mapping[str, NDArray[np.generic] | Sequence[str]] | None = field(default=None, repr=False)
    """Of recorded agent sessions: who starts whom, who waits for whom, and their blocks (`crates/engine/src/agents.rs`)."""
    media: MediaRows | None = None
    """What each row's body carries; None: no media at all."""
    parents: list[int] | None = field(default=None, repr=False)
    """By session: the row of the session that starts it, −1 for a root; None if all are roots."""

    @property
    def num_turns(self) -> int:
        return len(self.columns["session"])

    @property
    def num_sessions(self) -> int:
        return len(self.session_ids)

    @property
    def request_rows(self) -> NDArray[np.int64]:
        """(requests,) the turns that send one, in order."""
        rows = np.arange(self.num_turns)
        return np.delete(rows, self.columns["silent"].astype(np.int64)) if "silent" in self.columns else rows

    @property
    def core_arguments(self) -> CoreArguments:
        """What `aiperf._core.Plan` is made of: arrays and lists, which another process reads without the modules of a workload."""
        agents = None if self.agents is None else dict(self.agents)
        return dict(self.columns), self.literals, self.session_ids, agents

    def to_core(self) -> Plan:
        from aiperf._core import Plan

        return Plan(*self.core_arguments)

    def reply_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """CSR by turn: the rows whose live replies are in its body (`isl` does not count them: `aiperf.records.replies` does): offsets (turns+1,), rows."""
        at = np.flatnonzero(self.columns["seg_kind"] == SegmentKind.REPLY)
        owner = np.searchsorted(self.columns["seg_offsets"], at, side="right") - 1
        counts = np.bincount(owner, minlength=self.num_turns)
        return np.concatenate([[0], np.cumsum(counts)]), self.columns["seg_a"][at].astype(np.int64)

    def digest(self) -> str:
        """Equal for equal plans: same bytes, same order, same times."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.columns):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.columns[name]).tobytes())
        for literal in self.literals:
            digest.update(b"%d:" % len(literal))
            digest.update(literal)
        digest.update("\n".join(self.models).encode())
        for name in sorted(self.agents or {}):
            values = (self.agents or {})[name]
            digest.update(
                np.ascontiguousarray(values).tobytes() if isinstance(values, np.ndarray) else repr(values).encode()
            )
        return digest.hexdigest()


def silent_columns(pauses: Mapping[int, Pause]) -> dict[str, NDArray[np.generic]]:
    """The columns of the rows that send nothing, by row in ascending order; none if there are none."""
    if not pauses:
        return {}
    return {
        "silent": np.array(list(pauses), dtype=np.uint32),
        "silent_sigma": np.array([p.sigma for p in pauses.values()], dtype=np.float64),
        "silent_min_ns": np.array([p.min_ns for p in pauses.values()], dtype=np.int64),
        "silent_max_ns": np.array([p.max_ns for p in pauses.values()], dtype=np.int64),
    }

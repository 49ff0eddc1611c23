"""Who starts whom in a plan, for `run.json`: what records need to name their parents, and reports to count branches."""

from __future__ import annotations

import numpy as np

from aiperf.records.run_json import SessionTreeEntry
from aiperf.workload.plan import PlanTables

__all__ = ["session_tree"]


def session_tree(plan: PlanTables) -> SessionTreeEntry | None:
    """None if every session starts by itself."""
    if plan.parents is None:
        return None
    session = plan.columns["session"]
    turns = np.bincount(session[plan.request_rows], minlength=plan.num_sessions)
    silent = np.unique(session[plan.columns["silent"]]) if "silent" in plan.columns else np.array([], dtype=np.int64)
    return SessionTreeEntry(
        parents=plan.parents, turns=turns.tolist(), joins=_joins(plan), orchestrators=silent.tolist()
    )


def _joins(plan: PlanTables) -> list[tuple[int, int]]:
    """(session, turn) of the turns behind a session's first that wait for other sessions."""
    if "after" not in plan.columns:
        return []
    session = plan.columns["session"].astype(np.int64)
    first = np.searchsorted(session, np.arange(plan.num_sessions))
    rows = np.flatnonzero(np.diff(plan.columns["after_offsets"].astype(np.int64)))
    turns = rows - first[session[rows]]
    return [(int(s), int(t)) for s, t in zip(session[rows], turns, strict=True) if t > 0]

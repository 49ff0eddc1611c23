"""`branch_stats` of a run of branching conversations (`dag_jsonl`): how many branches began, ended, failed, and were waited for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ErrorKind
from aiperf.metrics.summary import phase_mask
from aiperf.records.run_json import SessionTreeEntry
from aiperf.reports import ReportedRun

__all__ = ["branch_stats"]


def branch_stats(run: ReportedRun) -> dict[str, int] | None:
    """AIPerf's counters of the measured phases; None for a run without branches. What cannot happen here is 0.

    A branch is `truncated` if the run ended before its last turn. A parent is `suspended` where its next turn waits for branches, and
    `resumed` if that turn was sent.
    """
    tree = run.json.session_tree
    if tree is None or run.options.metrics.agents is not None:
        return None
    rows = np.flatnonzero(phase_mask(run.columns, run.phases, "profiling"))
    session, play, turn, kind = (
        run.columns.scalar(name)[rows].astype(np.int64) for name in ("session", "session_num", "turn", "error_kind")
    )
    phase = np.nan_to_num(run.columns.scalar("phase")[rows]).astype(np.int64)
    is_child = np.asarray(tree.parents)[session] >= 0
    branches, which = np.unique(np.stack([phase, play, session])[:, is_child], axis=1, return_inverse=True)
    which = which.reshape(-1)
    num = int(which.max(initial=-1)) + 1
    has_failed = np.bincount(which, weights=kind[is_child] != ErrorKind.OK, minlength=num) > 0
    left = np.zeros(num, dtype=np.int64)
    left[which] = np.asarray(tree.turns)[session[is_child]]
    is_whole = np.bincount(which, minlength=num) >= left
    sent = set(zip(phase.tolist(), play.tolist(), session.tolist(), turn.tolist(), strict=True))
    joins = {(s, t - 1) for s, t in tree.joins}
    waits = [(p, n, s, t + 1) for p, n, s, t in sent if (s, t) in joins]
    resumed = sum(wait in sent for wait in waits)
    return {
        "children_spawned": num,
        "children_completed": int(np.count_nonzero(is_whole & ~has_failed)),
        "children_errored": int(np.count_nonzero(has_failed)),
        "children_truncated": int(np.count_nonzero(~is_whole & ~has_failed)),
        "children_delayed": 0,
        "parents_suspended": len(waits),
        "parents_resumed": resumed,
        "parents_failed_due_to_child_error": 0,
        "joins_suppressed": len(waits) - resumed,
        **_graphs(tree, branches, is_whole & ~has_failed),
    }


def _graphs(tree: SessionTreeEntry, branches: NDArray[np.int64], is_done: NDArray[np.bool_]) -> dict[str, int]:
    """Plays of orchestrators, and those of which all that they start was sent to its end.

    `branches`: (3, branches) phase, play and session of each; `is_done`: (branches,).
    """
    parents = np.asarray(tree.parents)
    root = np.arange(len(parents))
    while (has_parent := parents[root] >= 0).any():
        root[has_parent] = parents[root[has_parent]]
    started = np.bincount(root[(parents >= 0) & (np.asarray(tree.turns) > 0)], minlength=len(parents))
    plays = np.stack([branches[0], branches[1], root[branches[2]]])
    of_graphs = np.isin(plays[2], tree.orchestrators)
    graphs, which = np.unique(plays[:, of_graphs], axis=1, return_inverse=True)
    done = np.bincount(which.reshape(-1), weights=is_done[of_graphs], minlength=graphs.shape[1])
    return {
        "graphs_admitted": graphs.shape[1],
        "graphs_completed_to_end": int(np.count_nonzero(done == started[graphs[2]])),
    }

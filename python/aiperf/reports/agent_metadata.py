"""What a line of `profile_export.jsonl` says of the place in a recording that a request comes from, with AIPerf's keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ErrorKind
from aiperf.metrics.context import MetricContext

__all__ = ["overflowed", "source_columns"]

_KINDS = ("main", "flat", "subagent")

Ints = NDArray[np.int64]


def overflowed(context: MetricContext) -> Ints:
    """(rows,) 1: a prompt beyond the context limit, which is in no metric of a replay of agents."""
    is_replay = context.options.agents is not None
    found: Ints = np.asarray((context.error_kind == ErrorKind.CONTEXT_OVERFLOW) & is_replay, np.int64)
    return found


def source_columns(context: MetricContext) -> dict[str, Sequence[str | None] | Ints]:
    """Columns by key; empty without recorded agents. Numbers: −1 where there is none."""
    facts = context.options.agents
    if facts is None or not context.num_rows:
        return {}
    session = context.column("session").astype(np.int64)
    rows = facts.rows(context.column("session"), context.column("turn"))
    kinds = [f"{facts.origin}_{kind}" for kind in _KINDS]
    return {
        "source_trace_id": [facts.trace_ids[t] for t in facts.trace[session].tolist()],
        "source_outer_idx": facts.outer[rows],
        "source_inner_idx": facts.inner[rows],
        "source_kind": [kinds[k] for k in facts.kind[session].tolist()],
    }

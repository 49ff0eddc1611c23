"""Recorded agents as a plain trace: all their requests by time, for the tools that know nothing of agents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiperf.traces import TraceTable
from aiperf.traces.agents import AgentTable

__all__ = ["as_trace"]

_INHERIT, _BLOCKS = 5, 6


def as_trace(path: Path, table: AgentTable, name: str = "weka_trace") -> TraceTable:
    """All requests, sub-agents' too, by session and time. `line`: the session's number from 1."""
    trace = table.trace[table.session]
    order = np.lexsort((table.outer, table.t_ns, trace))
    offsets, ids = _ids(table, order)
    trace = trace[order]
    return TraceTable(
        path=path,
        format=name,
        block_size=int(table.block_tokens[0]) if len(table.block_tokens) else 64,
        at_ns=table.t_ns[order],
        delay_ns=np.zeros(len(order), np.int64),
        input_length=table.isl[order],
        output_length=table.osl[order],
        hash_offsets=offsets,
        hash_ids=ids,
        session=trace.astype(np.int32),
        whole=np.ones(len(order), np.bool_),
        line=(trace + 1).astype(np.uint32),
        session_names=dict(enumerate(table.trace_ids)),
        contents={},
        notes=table.notes,
    )


def _ids(table: AgentTable, order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """CSR of the whole blocks of each row's prompt: its source's first ones, then its own. An id stands for (session, id), or for
    (file, id) where ids mean something in all of the file.
    """
    whole: list[NDArray[np.int64]] = []
    for row in range(table.num_rows):
        parts: list[NDArray[np.int64]] = []
        for i in range(int(table.seg_offsets[row]), int(table.seg_offsets[row + 1])):
            kind, a, b = int(table.seg_kind[i]), int(table.seg_a[i]), int(table.seg_b[i]) & 0x7FFF_FFFF
            if kind == _INHERIT:
                parts.append(whole[a][:b])
            elif kind == _BLOCKS:
                parts.append(np.arange(a, a + b, dtype=np.int64))
        whole.append(np.concatenate(parts) if parts else np.empty(0, np.int64))
    counts = np.array([len(whole[i]) for i in order.tolist()], np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    ids = np.concatenate([whole[i] for i in order.tolist()]) if len(order) else np.empty(0, np.int64)
    return offsets, ids

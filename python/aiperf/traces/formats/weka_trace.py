"""Weka traces: recorded coding agents, one JSON object per session. https://github.com/callanjfox/kv-cache-tester

A file, a folder of them, `.jsonl`, `.gz`, `.zst` or tar. A session: `id`, `block_size`, `hash_id_scope` (`local`), `tool_tokens`,
`system_tokens`, `requests`; a request: `t` (s), `type` (`n`, `s`), `model`, `in`, `out`, `hash_ids`, `api_time`, `think_time`,
`input_types`, `stop`; a sub-agent: `type` `subagent`, `agent_id`, `requests`, `duration_ms`. Replayed in lanes (`aiperf.traces.lanes`),
each session with its sub-agents; `read` gives the requests alone, for `aiperf trace`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiperf.session import Session
from aiperf.traces import TraceOptions, TraceTable
from aiperf.traces.agents import AgentTable, Layout, lay_out
from aiperf.traces.replay import prepare

__all__ = [
    "FIELDS",
    "FILES",
    "Options",
    "as_trace",
    "load",
    "read",
    "retime",
    "rules_of_environment",
    "switch_of_environment",
]

FILES = frozenset({"jsonl"})
FIELDS = (frozenset({"block_size", "hash_id_scope", "requests"}),)

_PREFIX = "AIPERF_DATASET_WEKA_"
_RULES = {
    "AUX_MAX_REQUESTS": ("aux_max_requests", int),
    "AUX_ISL_RATIO": ("aux_isl_ratio", float),
    "AUX_ISL_FLOOR": ("aux_isl_floor", int),
    "AUX_REDUCTION_OSL_MAX": ("aux_reduction_osl_max", int),
    "AUX_REDUCTION_RATIO": ("aux_reduction_ratio", int),
    "WORKER_GROUP_MIN": ("worker_group_min", int),
    "SEAM_MAX_GAP_SECONDS": ("seam_max_gap", float),
    "SEAM_MIN_OVERLAP_RATIO": ("seam_min_overlap", float),
}
_SWITCHES = {"AUX_CROSS_MODEL": "aux_cross_model", "SPLIT_FLATTENED_AGENTS": "split"}


class Options(TraceOptions):
    block_size: int = Field(default=64, ge=1, description="Not used: each session says its own")


def switch_of_environment(name: str, *, default: bool) -> bool:
    """A switch of AIPerf's, `AIPERF_DATASET_WEKA_<name>`."""
    value = os.environ.get(_PREFIX + name)
    return default if value is None else value.strip().lower() not in {"0", "false", "no", "off", ""}


def rules_of_environment() -> dict[str, object]:
    """AIPerf's variables for telling agents apart; DatasetError is left to the core, which knows the types."""
    out: dict[str, object] = {}
    for name, (key, kind) in _RULES.items():
        if value := os.environ.get(_PREFIX + name):
            out[key] = kind(value)
    for name, key in _SWITCHES.items():
        if os.environ.get(_PREFIX + name) is not None:
            out[key] = switch_of_environment(name, default=True)
    return out


def read(path: Path, options: TraceOptions) -> TraceTable:
    """All requests, sub-agents' too, by session and time; an id stands for (session, id), as ids mean something in one session only."""
    layout = Layout(rules=rules_of_environment(), max_context=options.context_limit)
    table = lay_out(path, layout, skip_invalid=options.skip_invalid)
    return as_trace(path, table)


def as_trace(path: Path, table: AgentTable) -> TraceTable:
    trace = table.trace[table.session]
    order = np.lexsort((table.outer, table.t_ns, trace))
    offsets, ids = _ids(table, order)
    trace = trace[order]
    return TraceTable(
        path=path,
        format="weka_trace",
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
    """CSR of the whole blocks of each row's prompt: its source's first ones, then its own."""
    whole: list[NDArray[np.int64]] = []
    for row in range(table.num_rows):
        parts: list[NDArray[np.int64]] = []
        for i in range(int(table.seg_offsets[row]), int(table.seg_offsets[row + 1])):
            kind, a, b = int(table.seg_kind[i]), int(table.seg_a[i]), int(table.seg_b[i]) & 0x7FFF_FFFF
            if kind == 5:  # the beginning of another row
                parts.append(whole[a][:b])
            elif kind == 6:  # a run of blocks
                parts.append(np.arange(a, a + b, dtype=np.int64))
        whole.append(np.concatenate(parts) if parts else np.empty(0, np.int64))
    counts = np.array([len(whole[i]) for i in order.tolist()], np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    ids = np.concatenate([whole[i] for i in order.tolist()]) if len(order) else np.empty(0, np.int64)
    return offsets, ids


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:  # noqa: ARG001 (the protocol's)
    """Times are those of a session, from its own start: they stay."""
    return record

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
from pydantic import Field

from aiperf.session import Session
from aiperf.traces import TraceOptions, TraceTable
from aiperf.traces.agents import AgentTable, Layout, lay_out
from aiperf.traces.as_trace import as_trace
from aiperf.traces.replay import prepare

__all__ = [
    "FIELDS",
    "FILES",
    "VARIABLES",
    "Options",
    "load",
    "read",
    "read_agents",
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
_BY_NAME = ("FORK_PARENT_MESSAGES", "LIVE_ASSISTANT_RESPONSES", "TOOL_SHAPED_MESSAGES")
VARIABLES = frozenset(_PREFIX + name for name in (*_RULES, *_SWITCHES, *_BY_NAME))
"""AIPerf's that have an effect here."""


class Options(TraceOptions):
    block_size: int = Field(default=64, ge=1, description="Not used: each session says its own")


def switch_of_environment(name: str, *, default: bool) -> bool:
    """A switch of AIPerf's, `AIPERF_DATASET_WEKA_<name>`: one of `_BY_NAME` or `_SWITCHES`."""
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


def read_agents(path: Path, layout: Layout, *, skip_invalid: bool = False) -> AgentTable:
    """DatasetError that names everything that is wrong with the files."""
    return lay_out(path, layout, skip_invalid=skip_invalid)


def read(path: Path, options: TraceOptions) -> TraceTable:
    """All requests, sub-agents' too, by session and time; an id stands for (session, id), as ids mean something in one session only."""
    layout = Layout(rules=rules_of_environment(), max_context=options.context_limit)
    table = lay_out(path, layout, skip_invalid=options.skip_invalid)
    return as_trace(path, table)


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:  # noqa: ARG001 (the protocol's)
    """Times are those of a session, from its own start: they stay."""
    return record

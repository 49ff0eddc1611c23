"""What the recordings say of each request of an agentic replay, beside the records: blocks, hits, streams (`agents.npz`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ResultError
from aiperf.traces.agents import AgentTable

__all__ = ["AGENTS_FILE", "AgentFacts", "read_agent_facts", "write_agent_facts"]

AGENTS_FILE: Final = "agents.npz"
_NO_ROW: Final = 0xFFFF_FFFF

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """By row of the plan, by stream, by recorded session. A record's row: `rows(session, turn)`."""

    first_row: Ints
    """(streams+1,)"""
    hits: Ints
    """(rows,) blocks at the prompt's beginning that an earlier request of the recording had."""
    blocks: Ints
    block_tokens: Ints
    """(traces,)"""
    outer: Ints
    inner: Ints
    """(rows,) place in the file; −1: not of a sub-agent."""
    t_ns: Ints
    delay_ns: Ints
    trace: Ints
    """(streams,)"""
    kind: Ints
    """(streams,) 0 main agent, 1 flat, 2 sub-agent."""
    trace_ids: list[str]
    origin: str = "weka"
    """Of which sort of recording: names where each request comes from."""

    def rows(self, session: NDArray[np.float64], turn: NDArray[np.float64]) -> Ints:
        """(records,) row of the plan."""
        found: Ints = self.first_row[session.astype(np.int64)] + turn.astype(np.int64)
        return found


def write_agent_facts(run_dir: Path, table: AgentTable) -> None:
    """ResultError if the file cannot be written: without it the recorded hit rate is lost."""
    inner = table.inner.astype(np.int64)
    inner[table.inner == _NO_ROW] = -1
    path = run_dir / AGENTS_FILE
    try:
        np.savez_compressed(
            path,
            first_row=table.first_rows(),
            hits=table.hits.astype(np.int64),
            blocks=table.blocks.astype(np.int64),
            block_tokens=table.block_tokens.astype(np.int64),
            outer=table.outer.astype(np.int64),
            inner=inner,
            t_ns=table.t_ns,
            delay_ns=table.delay_ns,
            trace=table.trace.astype(np.int64),
            kind=table.kind.astype(np.int64),
            trace_ids=np.array(table.trace_ids),
            origin=np.array(table.origin),
        )
    except OSError as error:
        raise ResultError(f"cannot write `{path}`: {error.strerror or error}") from error


def read_agent_facts(run_dir: Path) -> AgentFacts | None:
    """None if the run is no agentic replay."""
    path = run_dir / AGENTS_FILE
    if not path.is_file():
        return None
    try:
        with np.load(path) as found:
            values = {name: found[name] for name in found.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise ResultError(f"cannot read `{path}`: {error}") from error
    names = [str(t) for t in values.pop("trace_ids").tolist()]
    origin = str(values.pop("origin", "weka"))
    return AgentFacts(**values, trace_ids=names, origin=origin)

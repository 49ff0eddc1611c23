"""BurstGPT traces: CSV of arrivals and lengths. https://github.com/HPMLL/BurstGPT

Columns: `Timestamp` (seconds), `Model`, `Request tokens`, `Response tokens`, `Total tokens`, `Log Type`; in later files
`Session ID`. Each row is a whole prompt; it has no hash ids, so its text is its own. Rows of one session are turns, each
due at its time and not before the previous answer; `use_sessions` off, or no such column: every row stands alone, as AIPerf
reads them. A row of 0 response tokens is a request that failed then; it asks for one token here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from aiperf.reading.problems import BadField, quote
from aiperf.session import Session
from aiperf.traces import TraceOptions, TraceTable
from aiperf.traces.reading.column_builder import Row, read_csv, time_ns, whole
from aiperf.traces.replay import prepare

__all__ = ["FIELDS", "FILES", "Options", "load", "read", "retime"]

_NEEDED = frozenset({"Timestamp", "Request tokens", "Response tokens"})

_KNOWN = _NEEDED | {"Model", "Session ID", "Elapsed time", "Total tokens", "Log Type"}

FILES = frozenset({"csv"})
FIELDS = (_NEEDED,)

_NS_PER_S = 1_000_000_000


class Options(TraceOptions):
    model: str | None = Field(default=None, description="Only rows of this value of `Model`, for example `GPT-4`")
    use_sessions: bool = Field(default=True, description="Rows of one `Session ID` are turns of a conversation")


def read(path: Path, options: TraceOptions) -> TraceTable:
    own = options if isinstance(options, Options) else Options(**options.model_dump())

    def parse(record: dict[str, object], row: Row) -> bool:
        if own.model is not None and record.get("Model") != own.model:
            return False
        row.at_ns = time_ns(record, "Timestamp", _NS_PER_S)
        if row.at_ns < 0:
            raise BadField("Timestamp", "seconds ≥ 0", quote(record["Timestamp"]))
        row.input_length = whole(record, "Request tokens", 1)
        row.output_length = whole(record, "Response tokens", 0)
        session = record.get("Session ID")
        if own.use_sessions and session:
            row.session = str(session)
        return True

    return read_csv(path, "burst_gpt_trace", options, _NEEDED, parse, _KNOWN)


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:  # noqa: ARG001 (the protocol's)
    if at_ns is None:
        return record
    seconds = at_ns // _NS_PER_S if at_ns % _NS_PER_S == 0 else at_ns / _NS_PER_S
    return {**record, "Timestamp": seconds}

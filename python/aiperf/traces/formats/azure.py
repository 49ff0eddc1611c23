"""Azure's public LLM inference traces (2023, 2024): CSV. https://github.com/Azure/AzurePublicDataset

Columns: `TIMESTAMP` (`2023-11-16 18:15:46.6805900`, 100 ns; with `+00:00` in 2024), `ContextTokens`, `GeneratedTokens`.
Timestamps without a zone are UTC. Every row is a request of its own, with text of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from aiperf.session import Session
from aiperf.traces import TraceOptions, TraceTable
from aiperf.traces.reading.column_builder import Row, date_ns, read_csv, whole
from aiperf.traces.replay import prepare

__all__ = ["FIELDS", "FILES", "Options", "load", "read", "retime"]

_NEEDED = frozenset({"TIMESTAMP", "ContextTokens", "GeneratedTokens"})

FILES = frozenset({"csv"})
FIELDS = (_NEEDED,)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Options(TraceOptions):
    pass


def read(path: Path, options: TraceOptions) -> TraceTable:
    return read_csv(path, "azure", options, _NEEDED, _parse, _NEEDED)


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:  # noqa: ARG001 (the protocol's)
    """A cut's first moment is written as 1970-01-01 00:00:00."""
    if at_ns is None:
        return record
    seconds = _EPOCH + timedelta(seconds=at_ns // 1_000_000_000)
    return {**record, "TIMESTAMP": f"{seconds:%Y-%m-%d %H:%M:%S}.{at_ns % 1_000_000_000 // 100:07d}"}


def _parse(record: dict[str, object], row: Row) -> bool:
    row.at_ns = date_ns(record, "TIMESTAMP")
    row.input_length = whole(record, "ContextTokens", 1)
    row.output_length = whole(record, "GeneratedTokens", 0)
    return True

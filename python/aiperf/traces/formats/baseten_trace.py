"""Baseten's completion traces: Parquet, with the prompts' text. https://www.baseten.co

Columns, as AIPerf reads them: `timestamp_start_unix_ms`, `prompt`, `input_tokens`, `output_tokens`; optional
`total_hashes` (block hashes), `block_size`, `provided_session_id` or `poor_man_session_id`, `duration_e2e_ms`. The prompt is
sent as it stands, whole. `min_tokens`, and the hints `hash_ids` and `block_size` for cache-aware routers, go into the
body; strict servers refuse unknown fields: `omit_kv_hints`, `force_min_tokens`. An output of 0 tokens (a cancelled
request) asks for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import Field

from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, BrokenRecords, quote
from aiperf.session import Session
from aiperf.traces import Content, TraceOptions, TraceTable
from aiperf.traces.reading.column_builder import Row, TableBuilder, time_ns, whole
from aiperf.traces.replay import prepare

__all__ = ["FIELDS", "FILES", "Options", "is_baseten", "load", "read", "retime"]

_NEEDED = ("timestamp_start_unix_ms", "prompt", "input_tokens", "output_tokens")
_SESSIONS = ("provided_session_id", "poor_man_session_id")
_OPTIONAL = ("total_hashes", "block_size", *_SESSIONS, "duration_e2e_ms")

FILES = frozenset({"parquet"})
FIELDS = (frozenset(_NEEDED),)

_MS = 1_000_000


class Options(TraceOptions):
    open_loop: bool = Field(
        default=True,
        description="Later turns are due at their time; off: as long after the previous answer as recorded",
    )
    strict: bool = Field(default=False, description="Each row is a session of its own, due at its time")
    force_min_tokens: bool = Field(default=True, description="Send the output length as `min_tokens` too")
    omit_kv_hints: bool = Field(default=False, description="Leave `hash_ids` and `block_size` out of the body")


def read(path: Path, options: TraceOptions) -> TraceTable:
    own = options if isinstance(options, Options) else Options(**options.model_dump())
    columns = _columns(path)
    bad, builder, row = BrokenRecords(skip=options.skip_invalid), TableBuilder(), Row()
    session_column = None if own.strict else next((s for s in _SESSIONS if s in columns), None)
    ended: dict[str, int] = {}
    names = list(columns)
    for number, values in enumerate(zip(*columns.values(), strict=True), 1):
        record = dict(zip(names, values, strict=True))
        try:
            row.clear()
            _parse(record, row, own, session_column)
            if not own.open_loop and row.session is not None:
                _think(record, row, ended)
            builder.add(number, row)
        except BadField as e:
            bad.add(path, number, e, "row")
    size = next((cast(int, s) for s in columns.get("block_size", ()) if s), options.block_size)
    return builder.build(path, "baseten_trace", size, bad.notes())


def is_baseten(path: Path) -> bool:
    """Has a Parquet file the columns of such a trace? False for one that cannot be read: its reader says why."""
    from aiperf._core import read_parquet_columns

    numbers = [name for name in _NEEDED if name != "prompt"]
    try:
        return len(read_parquet_columns(str(path), numbers)) == len(numbers)
    except (OSError, ValueError):
        return False


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:  # noqa: ARG001 (the protocol's)
    return record if at_ns is None else {**record, "timestamp_start_unix_ms": at_ns // _MS}


def _columns(path: Path) -> dict[str, Sequence[object]]:
    from aiperf._core import read_parquet_columns

    if not path.is_file():
        raise DatasetError(f"cannot read `{path}`: there is no file `{path}`")
    try:
        columns = read_parquet_columns(str(path), [*_NEEDED, *_OPTIONAL])
    except (OSError, ValueError) as e:
        raise DatasetError(f"cannot read `{path}`: {e}") from e
    if missing := [n for n in _NEEDED if n not in columns]:
        have = ", ".join(f"`{n}`" for n in columns) or "none of those a trace has"
        raise DatasetError(
            f"cannot read `{path}`: it has no column {', '.join(f'`{m}`' for m in missing)}",
            f"columns found: {have}",
        )
    return {n: c.tolist() if isinstance(c, np.ndarray) else c for n, c in columns.items()}


def _parse(record: dict[str, object], row: Row, own: Options, session_column: str | None) -> None:
    row.at_ns = time_ns(record, "timestamp_start_unix_ms", _MS)
    if row.at_ns < 0:
        raise BadField("timestamp_start_unix_ms", "milliseconds ≥ 0", "null")
    row.input_length = whole(record, "input_tokens", 1)
    row.output_length = whole(record, "output_tokens", 0)
    prompt = record["prompt"]
    if not isinstance(prompt, str) or not prompt:
        raise BadField("prompt", "text that is not empty", quote(prompt))
    hashes = record.get("total_hashes")
    if hashes is not None:
        try:
            row.hash_ids = [int(h) for h in cast(Sequence[int], hashes)]
        except (TypeError, ValueError) as e:
            raise BadField("total_hashes", "a list of whole numbers", quote(list(cast(Sequence[int], hashes)))) from e
    session = record.get(session_column) if session_column else None
    if session is not None:
        row.session = str(session)
    extra: dict[str, object] = {}
    if own.force_min_tokens:
        extra["min_tokens"] = max(1, row.output_length)
    if not own.omit_kv_hints:
        if row.hash_ids:
            extra["hash_ids"] = row.hash_ids
        if record.get("block_size"):
            extra["block_size"] = record["block_size"]
    row.content = Content(text=prompt, extra=extra)


def _think(record: dict[str, object], row: Row, ended: dict[str, int]) -> None:
    """Closed loop: think time = this turn's start − the previous one's recorded end; the first turn keeps its time."""
    start = row.at_ns
    session = row.session or ""
    if session in ended:
        row.at_ns, row.delay_ns = -1, max(0, start - ended[session])
    duration = record.get("duration_e2e_ms")
    ended[session] = start + (time_ns(record, "duration_e2e_ms", _MS) if duration is not None else 0)

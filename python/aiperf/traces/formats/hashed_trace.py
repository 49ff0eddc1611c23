"""What `aiperf capture` and `aiperf trace hash` write: lengths, times and salted prefix ids of real traffic, one line per request.

A line is a Mooncake line (`timestamp`, `input_length`, `output_length`, `hash_ids`) that stands for one whole prompt, and is read as such
by every reader of that format. More is in fields of its own: `block_size` (tokens per hash id), `conversation` (lines with the same one are
turns, each sent when the one before has ended), `turn` (from 0), `think_ms` (from the end of the previous turn to this one), `api`,
`stream`, `first_byte_ms` and `duration_ms` (what the client got then), `failed`. Lines with `failed` are left out, because nobody knows
how long a response would have been; but for `left`: there the client left, and `output_length` is what it had by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from aiperf.reading.problems import BadField, quote
from aiperf.reading.records import first_record
from aiperf.session import Session
from aiperf.traces import NO_TIME, UNKNOWN, TraceOptions, TraceTable, counted
from aiperf.traces.reading.column_builder import Row, milliseconds, read_jsonl, time_ns, whole
from aiperf.traces.replay import prepare

__all__ = ["FIELDS", "FILES", "Options", "load", "read", "retime"]

FILES = frozenset({"jsonl"})
FIELDS = (frozenset({"input_length", "hash_ids", "block_size"}),)

_KNOWN = frozenset(
    {
        *("timestamp", "input_length", "output_length", "hash_ids", "block_size", "conversation", "turn", "think_ms"),
        *("api", "stream", "first_byte_ms", "duration_ms", "failed", "status"),
    }
)
_LEFT = "left"
_MS = 1_000_000


class Options(TraceOptions):
    pass


def read(path: Path, options: TraceOptions) -> TraceTable:
    first = first_record(path)
    size = whole(first, "block_size", 1) if not isinstance(first, BadField) and "block_size" in first else None
    failed: Counter[str] = Counter()

    def parse(record: dict[str, object], row: Row) -> bool:
        is_kept = _parse(record, row, size, failed)
        if options.follow_times and row.at_ns != NO_TIME:
            row.delay_ns = 0
        return is_kept

    known = options if size is None else options.model_copy(update={"block_size": size})
    table = read_jsonl(path, "hashed_trace", known, parse, _KNOWN)
    # Lines are in the order in which requests ended: that they are sorted is no news.
    table = replace(table, notes=tuple(note for note in table.notes if note.kind != "sorted"))
    if not failed:
        return table
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(failed.items()))
    text = f"requests that had no complete response when they were captured, left out: {{count}} ({kinds})"
    return replace(table, notes=(*table.notes, counted("failed_when_captured", failed.total(), text)))


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:
    out = dict(record)
    if at_ns is not None:
        out["timestamp"] = milliseconds(at_ns)
    if (think := time_ns(record, "think_ms", _MS)) > 0:
        out["think_ms"] = milliseconds(round(think / speed))
    return out


def _parse(record: dict[str, object], row: Row, size: int | None, failed: Counter[str]) -> bool:
    """False for a line that is left out."""
    if size is not None and whole(record, "block_size", 1) != size:
        raise BadField("block_size", f"the {size} of the first line", quote(record["block_size"]))
    why = record.get("failed")
    if why is not None and why != _LEFT:
        failed[str(why)] += 1
        return False
    row.input_length = whole(record, "input_length", 1)
    row.output_length = UNKNOWN if record.get("output_length") is None else whole(record, "output_length", 0)
    ids = record.get("hash_ids")
    if ids is not None and not isinstance(ids, list):
        raise BadField("hash_ids", "a list of whole numbers", quote(ids))
    row.hash_ids = ids
    row.at_ns = time_ns(record, "timestamp", _MS)
    row.delay_ns = max(0, time_ns(record, "think_ms", _MS))
    name = record.get("conversation")
    if name is not None:
        if not isinstance(name, str):
            raise BadField("conversation", "text", quote(name))
        row.session = name
    return True

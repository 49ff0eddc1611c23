"""A table as lines of a `hashed_trace`: what `hash` writes."""

from __future__ import annotations

from collections import Counter
from typing import TextIO

from aiperf.json_text import json_text
from aiperf.traces import UNKNOWN, TraceTable
from aiperf.traces.reading.column_builder import milliseconds

__all__ = ["write_hashed"]


def write_hashed(table: TraceTable, out: TextIO) -> None:
    """One line per row, in the table's order; fields that are unknown are left out. Times as the table has them."""
    offsets = table.hash_offsets.tolist()
    columns = (table.at_ns, table.delay_ns, table.input_length, table.output_length, table.session)
    turns: Counter[int] = Counter()
    for row, (at, delay, isl, osl, session) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        line: dict[str, object] = {}
        if at >= 0:
            line["timestamp"] = milliseconds(at)
        line["input_length"] = isl
        if osl != UNKNOWN:
            line["output_length"] = osl
        line["block_size"] = table.block_size
        line["hash_ids"] = table.hash_ids[offsets[row] : offsets[row + 1]].tolist()
        if (name := table.session_names.get(session)) is not None:
            line["conversation"] = name
            line["turn"] = turns[session]
            turns[session] += 1
        if delay > 0:
            line["think_ms"] = milliseconds(delay)
        out.write(json_text(line) + "\n")

"""A table as Mooncake JSONL: what `synth` and `hash` write."""

from __future__ import annotations

from typing import TextIO

from aiperf.json_text import json_text
from aiperf.traces import UNKNOWN, TraceTable
from aiperf.traces.reading.column_builder import milliseconds

__all__ = ["write_mooncake"]


def write_mooncake(table: TraceTable, out: TextIO) -> None:
    """One line per row, in the table's order; fields that are unknown are left out. Times as the table has them."""
    offsets = table.hash_offsets.tolist()
    columns = (table.at_ns, table.delay_ns, table.input_length, table.output_length, table.session)
    for row, (at, delay, isl, osl, session) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        line: dict[str, object] = {}
        if at >= 0:
            line["timestamp"] = milliseconds(at)
        if delay > 0:
            line["delay"] = milliseconds(delay)
        if isl != UNKNOWN:
            line["input_length"] = isl
        if osl != UNKNOWN:
            line["output_length"] = osl
        if offsets[row + 1] > offsets[row]:
            line["hash_ids"] = table.hash_ids[offsets[row] : offsets[row + 1]].tolist()
        if (name := table.session_names.get(session)) is not None:
            line["session_id"] = name
        out.write(json_text(line) + "\n")

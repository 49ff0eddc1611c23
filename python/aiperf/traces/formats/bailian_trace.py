"""Alibaba Bailian (Qwen) traces: JSONL of chat turns, hash ids of 16-token blocks.
https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon

A line: `chat_id`, `parent_chat_id` (−1: a new conversation), `timestamp` (seconds), `input_length`, `output_length`,
`type`, `turn`, `hash_ids` (salted, of the whole prompt). Lines linked by their parents are one session, in time order.
Every line is a whole prompt (its ids begin with its parent's), so no history is put in front; AIPerf puts it in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from aiperf.reading.problems import BadField, quote
from aiperf.session import Session
from aiperf.traces import TraceOptions, TraceTable, counted
from aiperf.traces.reading.column_builder import Row, read_jsonl, time_ns, whole
from aiperf.traces.replay import prepare

__all__ = ["FIELDS", "FILES", "Options", "load", "read", "retime"]

FILES = frozenset({"jsonl"})
FIELDS = (frozenset({"chat_id", "timestamp", "input_length"}),)

_KNOWN = frozenset(
    {"chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "type", "turn", "hash_ids"}
)
_NS_PER_S = 1_000_000_000


class Options(TraceOptions):
    block_size: int = Field(default=16, ge=1, description="Tokens per hash id")


def read(path: Path, options: TraceOptions) -> TraceTable:
    roots: dict[int, int] = {}
    orphans = 0

    def parse(record: dict[str, object], row: Row) -> None:
        nonlocal orphans
        chat = whole(record, "chat_id", 0)
        row.at_ns = time_ns(record, "timestamp", _NS_PER_S)
        if row.at_ns < 0:
            raise BadField("timestamp", "seconds ≥ 0", "null" if "timestamp" in record else "no such field")
        row.input_length = whole(record, "input_length", 1)
        row.output_length = whole(record, "output_length", 0)
        ids = record.get("hash_ids")
        if ids is not None and type(ids) is not list:
            raise BadField("hash_ids", "a list of whole numbers", quote(ids))
        row.hash_ids = ids
        parent = record.get("parent_chat_id", -1)
        if type(parent) is not int:
            raise BadField("parent_chat_id", "a whole number, −1 for none", quote(parent))
        root = chat if parent < 0 else roots.get(parent)
        if root is None:
            # The parent is not in the file, or only later: this line begins a session.
            orphans += 1
            root = chat
        roots[chat] = root
        row.session = str(root)

    table = read_jsonl(path, "bailian_trace", options, parse, _KNOWN)
    if not orphans:
        return table
    text = "lines whose parent does not stand before them: {count}; each begins a session"
    return replace(table, notes=(*table.notes, counted("no_parent", orphans, text)))


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:  # noqa: ARG001 (the protocol's)
    return record if at_ns is None else {**record, "timestamp": at_ns / _NS_PER_S}

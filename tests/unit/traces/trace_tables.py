"""Tables and files for the trace tests, and brute-force counterparts of what is computed in columns."""

from __future__ import annotations

import importlib.util
import json
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from aiperf.session import Part, Session, Synthetic
from aiperf.traces import UNKNOWN, TraceTable
from aiperf.traces.reading.detect import read_trace

DATA = Path(__file__).parents[2] / "data" / "traces"

native = pytest.mark.skipif(importlib.util.find_spec("aiperf._core") is None, reason="the native core is not built")

__all__ = ["DATA", "brute_hits", "brute_lru_hits", "native", "read", "table_json", "write_lines"]


def read(name: str, format_name: str | None = None, **options: object) -> TraceTable:
    return read_trace(DATA / name, format_name, **options)[2]


def write_lines(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def table_json(table: TraceTable, sessions: Sequence[Session]) -> str:
    """What a format's golden file holds: the columns, and the sessions made of them."""

    def known(column: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> list[int | None]:
        return [None if v == UNKNOWN else v for v in column.tolist()]

    offsets = table.hash_offsets.tolist()
    rows = {
        "at_ns": table.at_ns.tolist(),
        "delay_ns": table.delay_ns.tolist(),
        "input_length": known(table.input_length),
        "output_length": known(table.output_length),
        "hash_ids": [table.hash_ids[a:b].tolist() for a, b in pairwise(offsets)],
        "session": table.session.tolist(),
        "whole": table.whole.tolist(),
        "line": table.line.tolist(),
    }
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in rows.items())
    notes = json.dumps([[n.kind, n.data["count"]] for n in table.notes])
    made = ",\n  ".join(_session(s) for s in sessions)
    return f'{{\n  "format": "{table.format}", "block_size": {table.block_size}, "notes": {notes},\n{lines},\n  "sessions": [\n  {made}\n  ]\n}}\n'


def _session(session: Session) -> str:
    turns = []
    for turn in session.turns:
        fields = {
            n: getattr(turn, n) for n in ("isl", "osl", "at_ns", "delay_ns", "fresh", "payload", "tools", "extra")
        }
        messages = [[m.role, [_part(p) for p in m.parts], *m.images, m.extra] for m in turn.messages]
        turns.append({"messages": messages, **{n: v for n, v in fields.items() if v not in (None, False, (), {})}})
    return json.dumps({"id": session.id, "turns": turns})


def _part(part: Part) -> object:
    return [str(part.seed), part.tokens, part.unique] if isinstance(part, Synthetic) else part


def brute_hits(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Leading blocks whose whole prefix an earlier prompt had."""
    seen: set[tuple[int, ...]] = set()
    out = []
    for ids in prompts:
        prefixes = [tuple(ids[: i + 1]) for i in range(len(ids))]
        hits = 0
        while hits < len(ids) and prefixes[hits] in seen:
            hits += 1
        out.append(hits)
        seen.update(prefixes)
    return out


def brute_lru_hits(prompts: Sequence[Sequence[int]], capacity: int) -> list[int]:
    """An LRU cache of prefixes, used block by block; of one prompt the last block is let go first."""
    cache: OrderedDict[tuple[int, ...], None] = OrderedDict()
    out = []
    for ids in prompts:
        prefixes = [tuple(ids[: i + 1]) for i in range(len(ids))]
        hits = 0
        while hits < len(ids) and prefixes[hits] in cache:
            hits += 1
        out.append(hits)
        for prefix in reversed(prefixes):
            cache[prefix] = None
            cache.move_to_end(prefix)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return out

"""What will be sent, as text: one body for `--dry-run`, all of them for `inputs.json`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from aiperf.endpoints.form import form_fields
from aiperf.json_text import json_text
from aiperf.workload.plan import PlanTables
from aiperf.workload.segments import LEADING_SPACE, UNKNOWN, SegmentKind
from aiperf.workload.vocabulary import TextSource

__all__ = ["INPUTS_LIMIT_BYTES", "inputs_json", "render_body", "with_text"]

INPUTS_LIMIT_BYTES = 64 * 1024 * 1024
"""aiperf-compatibility.md: beyond it, `inputs.json` has the recipe instead of the bodies."""


def render_body(plan: PlanTables, row: int, source: TextSource) -> bytes:
    """The body of a turn as it is sent the first time. A live reply stands as `<response to turn k>`, a stamp as zeros."""
    if plan.agents is not None:
        from aiperf._core import Vocabulary

        mark = b"[rid:%s]\\n\\n" % (b"0" * 12)
        return plan.to_core().body(row, source if isinstance(source, Vocabulary) else None, mark)
    kinds, firsts, seconds = (plan.columns[name] for name in ("seg_kind", "seg_a", "seg_b"))
    offsets = plan.columns["seg_offsets"]
    first_row = int(np.searchsorted(plan.columns["session"], plan.columns["session"][row]))
    out: list[bytes] = []
    for i in range(int(offsets[row]), int(offsets[row + 1])):
        kind, first, second = int(kinds[i]), int(firsts[i]), int(seconds[i])
        if kind == SegmentKind.LITERAL:
            out.append(plan.literals[first])
        elif kind == SegmentKind.REPLY:
            out.append(b"<response to turn %d>" % (first - first_row) if first >= first_row else b"<response>")
        elif kind == SegmentKind.STAMP:
            out.append(b"0" * 16)
        else:
            out.append(source.text(first, second & ~LEADING_SPACE, bool(second & LEADING_SPACE)))
    return b"".join(out)


def inputs_json(plan: PlanTables, source: TextSource, limit_bytes: int = INPUTS_LIMIT_BYTES) -> Iterator[bytes]:
    """`inputs.json` piece by piece: `{"data": [{"session_id", "payloads"}]}`.

    Sessions whose bodies would lead beyond `limit_bytes` are listed under `recipe` instead: for each turn the planned lengths
    and its synthetic texts as [seed, tokens]; `note` says so.
    """
    rows_of = _requests(plan)
    size = 0
    yield b'{\n  "data": ['
    written = 0
    for place, (number, rows) in enumerate(rows_of):
        bodies = b",".join([_as_json(render_body(plan, row, source)) for row in rows])
        size += len(bodies)
        if size > limit_bytes:
            break
        name = json_text(plan.session_ids[number]).encode()
        yield b'%s\n    {"session_id": %s, "payloads": [%s]}' % (b"," if place else b"", name, bodies)
        written = place + 1
    yield b"\n  ]"
    if written < len(rows_of):
        left = len(rows_of) - written
        note = f"the bodies of {left} sessions would make this file larger than {limit_bytes >> 20} MB: they are under `recipe`"
        yield b',\n  "note": %s,\n  "recipe": [' % json_text(note).encode()
        for place, (number, rows) in enumerate(rows_of[written:]):
            turns = [_recipe(plan, row) for row in rows]
            line = json_text({"session_id": plan.session_ids[number], "turns": turns}, separators=(",", ":"))
            yield b"%s\n    %s" % (b"," if place else b"", line.encode())
        yield b"\n  ]"
    yield b"\n}\n"


def _as_json(body: bytes) -> bytes:
    """A body as a value in a JSON file: as it is, a form by its fields, anything else as a string."""
    if body.lstrip()[:1] in {b"{", b"["}:
        return body
    fields = form_fields(body)
    return json_text(body.decode("utf-8", "replace") if fields is None else fields).encode()


def _requests(plan: PlanTables) -> list[tuple[int, list[int]]]:
    """(session, rows of its requests) of the sessions that send any."""
    rows = plan.request_rows
    session = plan.columns["session"][rows].astype(np.int64)
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    return [(int(session[s]), part.tolist()) for s, part in zip(starts, np.split(rows, starts[1:]), strict=True)]


def _recipe(plan: PlanTables, row: int) -> dict[str, object]:
    columns = plan.columns
    start, end = int(columns["seg_offsets"][row]), int(columns["seg_offsets"][row + 1])
    kinds = columns["seg_kind"][start:end]
    synthetic = (kinds == SegmentKind.FIXED) | (kinds == SegmentKind.FRESH)
    seeds = columns["seg_a"][start:end][synthetic]
    tokens = columns["seg_b"][start:end][synthetic] & np.uint32(LEADING_SPACE - 1)
    turn: dict[str, object] = {"texts": [[int(s), int(t)] for s, t in zip(seeds, tokens, strict=True)]}
    for name in ("isl", "osl"):
        value = int(columns[name][row])
        if value != UNKNOWN:
            turn[name] = value
    return turn


def with_text(plan: PlanTables, source: TextSource) -> PlanTables:
    """The same plan with its synthetic texts written out, for a source the engine has not (`EncodedText`)."""
    kinds = plan.columns["seg_kind"].copy()
    firsts = cast("NDArray[np.uint64]", plan.columns["seg_a"].copy())
    seconds = cast("NDArray[np.uint32]", plan.columns["seg_b"].copy())
    literals = list(plan.literals)
    made: dict[tuple[int, int], int] = {}
    for segment in np.flatnonzero((kinds == SegmentKind.FIXED) | (kinds == SegmentKind.FRESH)).tolist():
        key = (int(firsts[segment]), int(seconds[segment]))
        if key not in made:
            made[key] = len(literals)
            literals.append(source.text(key[0], key[1] & ~LEADING_SPACE, bool(key[1] & LEADING_SPACE)))
        kinds[segment], firsts[segment], seconds[segment] = SegmentKind.LITERAL, made[key], 0
    columns = {**plan.columns, "seg_kind": kinds, "seg_a": firsts, "seg_b": seconds}
    return replace(plan, columns=columns, literals=literals)

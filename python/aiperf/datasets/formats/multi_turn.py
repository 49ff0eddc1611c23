"""`multi_turn`: JSON Lines, one conversation each. AIPerf's format.

`{"session_id": "a", "turns": [{"role": "system", "text": "…"}, {"text": "Hello"}, {"text": "And now?", "delay": 1000}]}`: turns
have the fields of `single_turn`; history is sent with the server's live answers. A leading `system` turn is the system
message. Lines of one `session_id` are one conversation; with timestamps its turns are sorted by them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.entry import TimedEntry, turn_of
from aiperf.datasets.rows import iter_rows
from aiperf.session import Part, Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS = (frozenset({"turns"}),)
SAMPLING = "sequential"


class Options(DatasetOptions):
    pass


class _Conversation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    session_id: str | int | None = None
    turns: list[TimedEntry] = Field(min_length=1)


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Sessions in the order of their first lines."""
    path = options.file
    entries: dict[str, list[TimedEntry]] = {}
    for line, row in iter_rows(path, options, _Conversation):
        name = f"line-{line}" if row.session_id is None else str(row.session_id)
        entries.setdefault(name, []).extend(row.turns)
    for name, all_entries in entries.items():
        system: tuple[Part, ...] = ()
        listed = all_entries
        first = listed[0]
        if first.role == "system" and first.text and len(listed) > 1:
            system, listed = (first.text,), listed[1:]
        turns = [turn_of(entry, path.parent) for entry in listed]
        if all(t.at_ns is not None for t in turns):
            turns.sort(key=_due)
        yield Session(name, tuple(turns), system)


def _due(turn: Turn) -> int:
    return turn.at_ns or 0

"""Is a file a trace that can be replayed? Every line is read, every broken one listed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aiperf.errors import Note
from aiperf.traces import Content, TraceTable
from aiperf.traces.reading.detect import read_trace

__all__ = ["Validation", "validate_trace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """`problems`: of single lines, at most 100 in words; `num_problems`: all. `notes`: what does not hinder a replay."""

    path: Path
    format: str
    requests: int
    sessions: int
    problems: tuple[str, ...]
    num_problems: int
    notes: tuple[Note, ...]

    @property
    def is_valid(self) -> bool:
        return self.num_problems == 0


def validate_trace(path: Path, format_name: str | None = None, block_size: int | None = None) -> Validation:
    """DatasetError if the file cannot be read at all, is empty, or holds not one good line."""
    _, _, table = read_trace(path, format_name, block_size=block_size, skip_invalid=True)
    problems: list[str] = []
    count, notes = 0, []
    for note in table.notes:
        if note.kind != "invalid_lines":
            notes.append(note)
            continue
        count = cast(int, note.data["count"])
        problems += [str(bad["text"]) for bad in cast(list[dict[str, object]], note.data["lines"])]
    mixed = _mixed_sessions(table)
    return Validation(
        path=path,
        format=table.format,
        requests=table.num_rows,
        sessions=table.num_sessions,
        problems=(*problems, *mixed),
        num_problems=count + len(mixed),
        notes=tuple(notes),
    )


def _mixed_sessions(table: TraceTable) -> list[str]:
    """Sessions that mix ready prompts (`messages`, `payload`) with each other or with lines that only add to a history."""
    kinds: dict[int, set[str]] = {}
    for row, session in enumerate(table.session.tolist()):
        if session in table.session_names:
            kinds.setdefault(session, set()).add(_kind(table.contents.get(row)))
    return [
        f"session `{table.session_names[s]}`: its lines have {' and '.join(sorted(found))}; a session has one kind"
        for s, found in kinds.items()
        if len(found) > 1
    ]


def _kind(content: Content | None) -> str:
    if content is None or not content.has_prompt or content.text is not None:
        return "`input_length` or `text_input`"
    return "`payload`" if content.payload is not None else "`messages`"

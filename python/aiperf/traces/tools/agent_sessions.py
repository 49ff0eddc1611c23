"""Parts of recorded agent sessions, and new ones like them: whole sessions with their sub-agents, in the format they came in.

Cutting keeps every n-th session, leaves out those that need too many tokens, and of each keeps what began in a window of its own time.
Synthesis draws sessions anew, with replacement; each copy has an id of its own, so that copies share no block. A factor on the prompt
repeats or drops blocks by their id: equal ids become equal ones, so what was shared stays shared.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiperf.errors import DatasetError
from aiperf.json_text import json_text
from aiperf.number_text import exact
from aiperf.reading.problems import BadField
from aiperf.reading.records import iter_json, read_json
from aiperf.traces import trace_module
from aiperf.traces.agents import Layout, lay_out
from aiperf.traces.reading.detect import detect

__all__ = ["SessionScale", "cut_sessions", "has_agents", "read_sessions", "synthesize_sessions", "text_of"]

Session = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionScale:
    """Factors; 1 leaves all as it is. `requests`: at least so many, None: as many as the source."""

    requests: int | None = None
    prompt: float = 1.0
    output: float = 1.0
    rate: float = 1.0


def has_agents(path: Path, format_name: str | None) -> str | None:
    """The format's name if it is one of recorded agents."""
    name = format_name or detect(path)
    return name if hasattr(trace_module(name), "read_agents") else None


def read_sessions(path: Path, *, skip_invalid: bool = False) -> Iterator[Session]:
    """Sessions of a Weka trace that can be replayed. DatasetError that names every fault, unless they are to be left out."""
    good = set(lay_out(path, Layout(), skip_invalid=skip_invalid).trace_ids)
    for session in _documents(path):
        if session.get("id") in good:
            yield session


def _documents(path: Path) -> Iterator[Session]:
    """Every JSON object of a file, a folder or an archive; what is none is left out."""
    if path.is_dir():
        for file in sorted(p for p in path.iterdir() if {".json", ".jsonl"} & set(p.suffixes)):
            yield from _documents(file)
    elif {".tar", ".tgz"} & {s.lower() for s in path.suffixes}:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                for line in [] if content is None else _lines(content.read(), member.name):
                    with suppress(ValueError):  # `lay_out` has told of it
                        yield json.loads(line)
    elif ".jsonl" in path.suffixes[-2:]:
        for _, record in iter_json(path):
            if not isinstance(record, BadField):
                yield record
    else:
        found = read_json(path)
        yield from found if isinstance(found, list) else [found]  # type: ignore[misc]  # checked by `lay_out`


def _lines(data: bytes, name: str) -> list[bytes]:
    return data.splitlines() if name.endswith(".jsonl") else [io.BytesIO(data).read()]


def _requests(session: Mapping[str, Any]) -> Iterator[Session]:
    """All, sub-agents' too."""
    for row in session["requests"]:
        if row.get("type") == "subagent":
            yield from row.get("requests") or ()
        else:
            yield row


def cut_sessions(
    sessions: Iterator[Session],
    *,
    window_s: tuple[float, float | None] | None = None,
    every: int = 1,
    max_tokens: int | None = None,
) -> Iterator[tuple[Session | None, int]]:
    """(the session's part; None: it needs more than `max_tokens`, or nothing of it is in the window; its requests before the cut)"""
    for number, session in enumerate(sessions):
        before = sum(1 for _ in _requests(session))
        if number % every:
            yield None, before
            continue
        part = session if window_s is None else _window(session, *window_s)
        peak = max((r["in"] + r.get("out", 0) for r in _requests(part)), default=0)
        is_kept = any(True for _ in _requests(part)) and (max_tokens is None or peak <= max_tokens)
        yield (part if is_kept else None), before


def _window(session: Session, begin: float, end: float | None) -> Session:
    """What began in the window, counted from its beginning; a sub-agent goes with its marker, whole."""
    rows = session["requests"]
    first = min((float(r["t"]) for r in rows), default=0.0)
    low, high = first + begin, None if end is None else first + end
    kept = [r for r in rows if r["t"] >= low and (high is None or r["t"] < high)]
    absolute = all(i["t"] >= r["t"] for r in kept if r.get("type") == "subagent" for i in r.get("requests") or ())
    moved = []
    for row in kept:
        out = {**row, "t": row["t"] - low}
        if absolute and row.get("requests"):
            out["requests"] = [{**i, "t": i["t"] - low} for i in row["requests"]]
        moved.append(out)
    return {**session, "requests": moved}


def synthesize_sessions(sessions: list[Session], scale: SessionScale, rng: np.random.Generator) -> Iterator[Session]:
    """Sessions drawn anew, until they have enough requests. DatasetError for a factor that is not positive."""
    for name in ("prompt", "output", "rate"):
        if not getattr(scale, name) > 0:
            raise DatasetError(f"the factor `{name}` must be more than 0, found {exact(getattr(scale, name))}")
    sizes = [sum(1 for _ in _requests(s)) for s in sessions]
    wanted = sum(sizes) if scale.requests is None else scale.requests
    if wanted < 1:
        raise DatasetError(f"the number of requests must be at least 1, found {wanted}")
    made, number = 0, 0
    while made < wanted:
        place = int(rng.integers(len(sessions)))
        yield {**_scaled(sessions[place], scale), "id": f"{sessions[place]['id']}-{number}"}
        made += sizes[place]
        number += 1


def _scaled(session: Session, scale: SessionScale) -> Session:
    stretch = _stretch(session["block_size"], scale.prompt)

    def one(row: Session) -> Session:
        if row.get("type") == "subagent":
            out = {**row, "requests": [one(r) for r in row.get("requests") or ()]}
            if row.get("duration_ms") is not None:
                out["duration_ms"] = row["duration_ms"] / scale.rate
        else:
            ids, length = stretch(row.get("hash_ids") or [], row["in"])
            out = {**row, "in": length, "hash_ids": ids, "out": max(1, round(row.get("out", 0) * scale.output))}
        for name in ("t", "api_time", "think_time"):
            if out.get(name) is not None:
                out[name] = out[name] / scale.rate
        return out

    counts = {
        name: round(session[name] * scale.prompt) for name in ("tool_tokens", "system_tokens") if session.get(name)
    }
    return {**session, **counts, "requests": [one(r) for r in session["requests"]]}


def _stretch(block: int, factor: float) -> Callable[[list[int], int], tuple[list[int], int]]:
    """Ids and length of a prompt, times the factor: id *i* becomes ⌊(i+1)·f⌋ − ⌊i·f⌋ ids of its own, wherever it stands."""

    def apply(ids: list[int], length: int) -> tuple[list[int], int]:
        if factor == 1:
            return ids, length
        covered = min(len(ids), length // block)
        new = [n for i in ids[:covered] for n in range(int(i * factor), int((i + 1) * factor))]
        rest = length - covered * block
        return new, max(1, len(new) * block + (rest if covered else round(rest * factor)))

    return apply


def text_of(session: Session) -> str:
    """A line of the file."""
    return json_text(session, separators=(",", ":")) + "\n"

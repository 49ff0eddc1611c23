"""Dynamo's request trace, `dynamo.request.trace.v1`: what its frontend records with `DYN_REQUEST_TRACE`. A file or a folder of shards.

JSON Lines, each an event, perhaps in `event`. Of `event_type` `request_end`: `request.{request_id, model, request_received_ms,
total_time_ms, input_tokens, output_tokens, replay.{trace_block_size, input_length, input_sequence_hashes}}` and, of agents,
`agent_context.{session_id, parent_session_id}`; of `tool_end`: `tool.claude.{source_request_id, consumer_request_id, child_session_id,
execution_mode}`, which says exactly which request started a sub-agent and which one waited for it.

Without agents it is a trace as others are. With them it is replayed in lanes, a session with all its sub-agents in each: requests of a
session one after the other, as long after the response before as recorded. A sub-agent begins with its parent's latest request before
it, and its parent's first request behind its end waits for it, unless a tool event says otherwise. Blocks are shared in all of the file:
the hashes are those of the text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import Field

from aiperf.errors import DatasetError, Note
from aiperf.reading.problems import BadField, BrokenRecords, quote, unused_fields
from aiperf.reading.records import Record, iter_json
from aiperf.session import Session
from aiperf.traces import TraceOptions, TraceTable, counted
from aiperf.traces.agents import AgentTable, Fault, Layout
from aiperf.traces.as_trace import as_trace
from aiperf.traces.graphs import Dependency, GraphRequest, table_of
from aiperf.traces.reading.column_builder import Row, TableBuilder, milliseconds, time_ns, whole
from aiperf.traces.replay import prepare

__all__ = ["FIELDS", "FILES", "Options", "load", "read", "read_agents", "retime"]

FILES = frozenset({"jsonl"})
FIELDS = (frozenset({"schema", "event_type"}), frozenset({"event.schema", "event.event_type"}))

_SCHEMA = "dynamo.request.trace.v1"
_MS = 1_000_000
_NAME = "dynamo_request_trace"
_READ = {
    "": {"schema", "event_type", "event_time_unix_ms", "agent_context", "request", "tool"},
    "agent_context": {"session_id", "parent_session_id"},
    "request": {
        *("request_id", "model", "request_received_ms", "total_time_ms", "input_tokens", "output_tokens", "replay"),
    },
    "request.replay": {"trace_block_size", "input_length", "input_sequence_hashes"},
}


class Options(TraceOptions):
    block_size: int = Field(default=64, ge=1, description="Not used: each record says its own")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Request:
    """`session` None: not of an agent."""

    id: str
    session: str | None
    parent: str | None
    model: str
    start_ns: int
    end_ns: int
    input_length: int
    output_length: int
    ids: list[int]
    block_size: int | None
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class _Tool:
    """A sub-agent was started by `source`, and `consumer` waited for it; None: not known."""

    child: str
    source: str | None
    consumer: str | None
    is_blocking: bool


class _File:
    """All events of a path. `bad`: each record that cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[_Request] = []
        self.tools: list[_Tool] = []
        self.bad: list[tuple[str, int, str | None, BadField]] = []
        self.unused: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        for file in _files(path):
            for line, record in iter_json(file):
                try:
                    if isinstance(record, BadField):
                        raise record
                    self._take(file, line, record)
                except BadField as e:
                    self.bad.append((str(file), line, _session_of(record), e))

    def _take(self, file: Path, line: int, record: Record) -> None:
        event = record.get("event", record)
        if not isinstance(event, dict):
            raise BadField("event", "a JSON object", quote(event))
        if event.get("schema") != _SCHEMA:
            raise BadField("schema", f"`{_SCHEMA}`", quote(event.get("schema")))
        kind = event.get("event_type")
        if kind == "request_end":
            self._count_unused(event)
            self.requests.append(_request(file, line, event))
        elif kind is not None and not isinstance(kind, str):
            raise BadField("event_type", "text", quote(kind))
        elif kind in {"tool_end", "tool_error"} and (tool := _tool(event)) is not None:
            self.tools.append(tool)
        else:
            self.skipped[str(kind)] += 1

    def _count_unused(self, event: Record) -> None:
        for where, known in _READ.items():
            inside: object = event
            for name in where.split(".") if where else ():
                inside = inside.get(name) if isinstance(inside, dict) else None
            if isinstance(inside, dict):
                self.unused.update(f"{where}.{n}" if where else n for n in set(inside) - known)

    @property
    def has_agents(self) -> bool:
        """DatasetError if only some of the requests are of agents."""
        of_agents = sum(r.session is not None for r in self.requests)
        if 0 < of_agents < len(self.requests):
            without = len(self.requests) - of_agents
            text = f"cannot replay `{self.path}`: {of_agents:,} requests have an `agent_context`, {without:,} have none"
            raise DatasetError(
                text, "split the file: requests of agents are replayed in lanes, others at their own times"
            )
        return of_agents > 0

    def notes(self) -> tuple[Note, ...]:
        out = list(unused_fields(self.unused))
        if self.skipped:
            kinds = ", ".join(f"`{k}` ({n:,})" for k, n in self.skipped.most_common())
            out.append(counted("events_skipped", self.skipped.total(), f"events that are no requests: {kinds}"))
        plain = sum(not r.ids for r in self.requests)
        if plain:
            text = "requests without `replay` hashes, whose prompts share nothing with others: {count}"
            out.append(counted("requests_without_blocks", plain, text))
        return tuple(out)

    def block_size(self) -> int:
        """DatasetError if the records do not agree."""
        sizes = sorted({r.block_size for r in self.requests if r.block_size is not None})
        if len(sizes) > 1:
            listed = ", ".join(map(str, sizes))
            raise DatasetError(f"cannot read `{self.path}`: `trace_block_size` has several values: {listed}")
        return sizes[0] if sizes else 64


def read_agents(path: Path, layout: Layout, *, skip_invalid: bool = False) -> AgentTable | None:
    """None if the requests are not of agents. DatasetError that names everything that is wrong with the files."""
    file = _File(path)
    faults = [
        Fault(
            file=source,
            line=line,
            session=session,
            request="",
            field=bad.field or "",
            what=f"expected {bad.wanted}, found {bad.found}",
            kind="event",
        )
        for source, line, session, bad in file.bad
    ]
    if not file.has_agents:
        return None
    requests, notes = _graph(file)
    return table_of(
        path,
        requests,
        layout,
        block_size=file.block_size(),
        scope="file",
        keeps_times=False,
        origin="dynamo",
        skip_invalid=skip_invalid,
        faults=faults,
        notes=(*file.notes(), *notes),
    )


def read(path: Path, options: TraceOptions) -> TraceTable:
    table = read_agents(path, Layout(max_context=options.context_limit), skip_invalid=options.skip_invalid)
    if table is not None:
        return as_trace(path, table, _NAME)
    file = _File(path)
    broken = BrokenRecords(skip=options.skip_invalid)
    for name, line, _, bad in file.bad:
        broken.add(name, line, bad)
    builder = TableBuilder()
    row = Row()
    for r in file.requests:
        row.clear()
        row.at_ns, row.input_length, row.output_length = r.start_ns, r.input_length, r.output_length
        row.hash_ids = r.ids
        builder.add(r.line, row)
    return builder.build(path, _NAME, file.block_size(), (*broken.notes(), *file.notes()))


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:
    """Received at `at_ns`; how long it took is what the server did, and stays."""
    del speed
    event = record.get("event", record)
    if at_ns is None or not isinstance(event, dict) or not isinstance(request := event.get("request"), dict):
        return record
    took = max(0, time_ns(request, "total_time_ms", _MS))
    changed = {
        **event,
        "event_time_unix_ms": milliseconds(at_ns + took),
        "request": {**request, "request_received_ms": milliseconds(at_ns)},
    }
    return {**record, "event": changed} if "event" in record else changed


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.is_file() and ".jsonl" in p.suffixes[-2:])
    if not found:
        raise DatasetError(f"cannot read `{path}`: no `.jsonl` file in this folder")
    return found


def _session_of(record: Record | BadField) -> str | None:
    event = record.get("event", record) if isinstance(record, dict) else None
    context = event.get("agent_context") if isinstance(event, dict) else None
    name = context.get("session_id") if isinstance(context, dict) else None
    return name if isinstance(name, str) else None


def _inside(record: Mapping[str, object], name: str, *, needed: bool = True) -> Record:
    value = record.get(name)
    if value is None and not needed:
        return {}
    if not isinstance(value, dict):
        raise BadField(name, "a JSON object", quote(value))
    return value


def _request(file: Path, line: int, event: Record) -> _Request:
    request = _inside(event, "request")
    context = _inside(event, "agent_context", needed=False)
    replay = _inside(request, "replay", needed=False)
    took = time_ns(request, "total_time_ms", _MS)
    end = time_ns(event, "event_time_unix_ms", _MS)
    start = time_ns(request, "request_received_ms", _MS)
    if start < 0 and end >= 0:
        start = end - max(0, took)
    if start < 0:
        raise BadField("request.request_received_ms", "milliseconds ≥ 0", "null")
    ids = replay.get("input_sequence_hashes")
    ids = [] if ids is None else ids
    if not isinstance(ids, list) or any(type(i) is not int or not -(1 << 63) <= i < 1 << 64 for i in ids):
        raise BadField("request.replay.input_sequence_hashes", "a list of whole numbers of 64 bits", quote(ids))
    size = whole(replay, "trace_block_size", 1) if replay else None
    length = whole(replay, "input_length", 1) if replay else whole(request, "input_tokens", 1)
    if size is not None and len(ids) > -(-length // size):
        most = f"at most {-(-length // size):,} hashes for {length:,} tokens"
        raise BadField("request.replay.input_sequence_hashes", most, f"{len(ids):,}")
    name, session, parent = request.get("request_id"), context.get("session_id"), context.get("parent_session_id")
    named = (
        ("request.request_id", name),
        ("agent_context.session_id", session),
        ("agent_context.parent_session_id", parent),
    )
    for where, value in named:
        if (value is None and where.startswith("request")) or (value is not None and not isinstance(value, str)):
            raise BadField(where, "text", quote(value))
    return _Request(
        id=cast(str, name),
        session=cast("str | None", session),
        parent=cast("str | None", parent),
        model=str(request.get("model") or "model"),
        start_ns=start,
        end_ns=start + took if took >= 0 else max(start, end),
        input_length=length,
        output_length=whole(request, "output_tokens", 0),
        ids=ids,
        block_size=size,
        file=str(file),
        line=line,
    )


def _tool(event: Record) -> _Tool | None:
    """None: a tool that has started no sub-agent."""
    tool = _inside(event, "tool", needed=False)
    claude = _inside(tool, "claude", needed=False)
    for name in ("child_session_id", "source_request_id", "consumer_request_id"):
        if claude.get(name) is not None and not isinstance(claude[name], str):
            raise BadField(f"tool.claude.{name}", "text", quote(claude[name]))
    child = cast("str | None", claude.get("child_session_id"))
    if child is None:
        return None
    source, consumer = (cast("str | None", claude.get(n)) for n in ("source_request_id", "consumer_request_id"))
    return _Tool(child, source, consumer, claude.get("execution_mode") == "blocking")


def _graph(file: _File) -> tuple[list[GraphRequest], list[Note]]:
    """The requests with what each waits for."""
    sessions: dict[str, list[_Request]] = defaultdict(list)
    for request in sorted(file.requests, key=lambda r: (r.start_ns, r.line)):
        sessions[str(request.session)].append(request)
    parents = {name: next((r.parent for r in all_of if r.parent), None) for name, all_of in sessions.items()}
    lost = sorted(n for n, p in parents.items() if p is not None and p not in sessions)
    tools = {t.child: t for t in file.tools}
    known = {r.id: r for r in file.requests}
    waits: dict[str, list[_Request]] = defaultdict(list)
    starters: dict[str, _Request] = {}
    overlapping = 0
    for name, all_of in sessions.items():
        for before, request in pairwise(all_of):
            waits[request.id].append(before)
            overlapping += request.start_ns < before.end_ns
        parent = sessions.get(parents[name] or "")
        if parent is None:
            continue
        tool = tools.get(name)
        first, last = all_of[0], max(all_of, key=lambda r: r.end_ns)
        by_time = [r for r in parent if r.start_ns <= first.start_ns] or parent[:1]
        starter = known.get((tool.source if tool else None) or "", by_time[-1])
        starters[first.id] = starter
        behind = next((r for r in parent if r.start_ns >= last.end_ns and r.start_ns > starter.start_ns), None)
        joins = known.get(tool.consumer or "") or (behind if tool.is_blocking else None) if tool else behind
        if joins is not None:
            waits[joins.id].append(last)
    out = [_node(r, _root(str(r.session), parents), waits[r.id], starters.get(r.id)) for r in file.requests]
    notes = []
    named = [n for t in file.tools for n in (t.source, t.consumer) if n is not None and n not in known]
    if named:
        text = f"requests that tool events name and the file does not have: {{count}} (the first: `{named[0]}`); times decide instead"
        notes.append(counted("tool_requests_missing", len(named), text))
    if lost:
        text = f"sessions whose parent is not in the file, replayed as main agents: {{count}} (the first: `{lost[0]}`)"
        notes.append(counted("parents_missing", len(lost), text))
    if overlapping:
        text = "requests that overlapped the one before them in their session, and wait for its end: {count}"
        notes.append(counted("requests_overlapped", overlapping, text))
    return out, notes


def _root(session: str, parents: Mapping[str, str | None]) -> str:
    """The main agent above a session; the session itself where parents lead round in a circle."""
    seen = {session}
    at = session
    while (parent := parents[at]) is not None and parent in parents and parent not in seen:
        seen.add(parent)
        at = parent
    return at


def _node(request: _Request, play: str, waits: list[_Request], starter: _Request | None) -> GraphRequest:
    """Due as long after the last of what it waits for as recorded; a sub-agent that began during its parent's request: after its start."""
    after = []
    if waits:
        rest = max(0, request.start_ns - max(w.end_ns for w in waits))
        after = [Dependency(w.id, delay_ns=rest) for w in dict.fromkeys(waits)]
    if starter is not None:
        at_send = request.start_ns < starter.end_ns
        since = starter.start_ns if at_send else starter.end_ns
        after.append(Dependency(starter.id, at_send=at_send, delay_ns=max(0, request.start_ns - since)))
    return GraphRequest(
        id=request.id,
        play=play,
        session=str(request.session),
        model=request.model,
        at_ns=request.start_ns,
        api_ns=request.end_ns - request.start_ns,
        input_length=request.input_length,
        output_length=request.output_length,
        ids=request.ids,
        file=request.file,
        line=request.line,
        after=tuple(after),
    )

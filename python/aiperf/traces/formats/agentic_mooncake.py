"""Agentic Mooncake: recorded agents whose requests name what they wait for. Dynamo's `dynamo.agentic_mooncake`, version 2.

JSON Lines. The first is the header: `{"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 64, "hash_id_scope": "local",
"source": {…}}`; each other one a request: `request_id`, `play_id`, `session_id`, `model`, `input_length`, `output_length`, `hash_ids`,
`not_before_ms` and `dependencies`: `request_id`, `trigger` (`dispatch`, `completion`), `delay_ms`, `relation`. A request is due when all
it depends on was sent or has ended so long ago, and not before its own time since the play's beginning. Replayed in lanes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from pydantic import Field

from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, quote, unused_fields
from aiperf.reading.records import Record, iter_json
from aiperf.session import Session
from aiperf.traces import TraceOptions, TraceTable
from aiperf.traces.agents import AgentTable, Fault, Layout
from aiperf.traces.as_trace import as_trace
from aiperf.traces.graphs import Dependency, GraphRequest, table_of
from aiperf.traces.reading.column_builder import milliseconds, time_ns, whole
from aiperf.traces.replay import prepare

__all__ = ["FIELDS", "FILES", "Options", "load", "read", "read_agents", "retime"]

FILES = frozenset({"jsonl"})
FIELDS = (frozenset({"schema", "version", "block_size", "hash_id_scope"}),)

_SCHEMA, _VERSION = "dynamo.agentic_mooncake", 2
_MS = 1_000_000
_KNOWN = frozenset(
    {
        *(
            "request_id",
            "play_id",
            "session_id",
            "model",
            "input_length",
            "input_tokens",
            "output_length",
            "output_tokens",
        ),
        *("hash_ids", "not_before_ms", "recorded_api_time_ms", "dependencies"),
    }
)
_TRIGGERS = frozenset({"dispatch", "completion"})
_RELATIONS = frozenset({"sequence", "spawn", "join", "replay_barrier"})


class Options(TraceOptions):
    block_size: int = Field(default=64, ge=1, description="Not used: the file's header says it")


def read_agents(path: Path, layout: Layout, *, skip_invalid: bool = False) -> AgentTable:
    """DatasetError that names everything that is wrong with the file."""
    records = iter_json(path)
    _, header = next(records)
    block_size = _block_size(path, header)
    faults: list[Fault] = []
    requests: list[GraphRequest] = []
    unused: Counter[str] = Counter()
    for line, record in records:
        if isinstance(record, BadField):
            faults.append(_fault(path, line, {}, record))
            continue
        unused.update(set(record) - _KNOWN)
        try:
            requests.append(_request(path, line, record, block_size))
        except BadField as e:
            faults.append(_fault(path, line, record, e))
    return table_of(
        path,
        requests,
        layout,
        block_size=block_size,
        scope="play",
        keeps_times=True,
        origin="mooncake",
        skip_invalid=skip_invalid,
        faults=faults,
        notes=unused_fields(unused),
    )


def read(path: Path, options: TraceOptions) -> TraceTable:
    layout = Layout(max_context=options.context_limit)
    return as_trace(path, read_agents(path, layout, skip_invalid=options.skip_invalid), "agentic_mooncake")


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:
    """Times are those of a play, from its own start: they are divided, not moved."""
    del at_ns
    out = dict(record)
    for name in ("not_before_ms", "recorded_api_time_ms"):
        if (at := time_ns(record, name, _MS)) >= 0:
            out[name] = milliseconds(round(at / speed))
    if isinstance(edges := record.get("dependencies"), list):
        out["dependencies"] = [
            {**d, "delay_ms": milliseconds(round(max(0, time_ns(d, "delay_ms", _MS)) / speed))} for d in edges
        ]
    return out


def _block_size(path: Path, header: Record | BadField) -> int:
    """DatasetError for another schema, another version, or ids that mean something beyond their play."""
    try:
        return _checked(header)
    except BadField as e:
        hint = "the first line is the header: `schema`, `version`, `block_size`, `hash_id_scope`, `source`"
        raise DatasetError(f"cannot read `{path}`: line 1: {e}", hint) from e


def _checked(header: Record | BadField) -> int:
    if isinstance(header, BadField):
        raise header
    for name, wanted in (("schema", _SCHEMA), ("version", _VERSION), ("hash_id_scope", "local")):
        if header.get(name) != wanted:
            raise BadField(name, f"`{wanted}`", quote(header.get(name)))
    return whole(header, "block_size", 1)


def _fault(path: Path, line: int, record: Mapping[str, object], bad: BadField) -> Fault:
    name = record.get("request_id")
    play = record.get("play_id")
    return Fault(
        file=str(path),
        line=line,
        session=play if isinstance(play, str) else None,
        request=f"request `{name}`" if isinstance(name, str) else "",
        field=bad.field or "",
        what=f"expected {bad.wanted}, found {bad.found}",
        kind="request",
    )


def _text(record: Mapping[str, object], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise BadField(name, "text that is not empty", quote(value))
    return value


def _length(record: Record, name: str, other: str, least: int) -> int:
    return whole(record, other if record.get(name) is None and record.get(other) is not None else name, least)


def _request(path: Path, line: int, record: Record, block_size: int) -> GraphRequest:
    ids = [] if record.get("hash_ids") is None else record["hash_ids"]
    if not isinstance(ids, list) or any(type(i) is not int or not 0 <= i < 1 << 64 for i in ids):
        raise BadField("hash_ids", "a list of whole numbers of 64 bits", quote(ids))
    length = _length(record, "input_length", "input_tokens", 1)
    if len(ids) > -(-length // block_size):
        raise BadField(
            "hash_ids", f"at most {-(-length // block_size):,} blocks of {block_size} tokens", f"{len(ids):,}"
        )
    at = time_ns(record, "not_before_ms", _MS)
    if at < 0:
        raise BadField("not_before_ms", "milliseconds ≥ 0", "null")
    return GraphRequest(
        id=_text(record, "request_id"),
        play=_text(record, "play_id"),
        session=_text(record, "session_id"),
        model=_text(record, "model"),
        at_ns=at,
        api_ns=time_ns(record, "recorded_api_time_ms", _MS),
        input_length=length,
        output_length=_length(record, "output_length", "output_tokens", 0),
        ids=ids,
        file=str(path),
        line=line,
        after=tuple(_dependencies(record)),
    )


def _dependencies(record: Record) -> Iterator[Dependency]:
    found = [] if record.get("dependencies") is None else record["dependencies"]
    if not isinstance(found, list) or not all(isinstance(d, dict) for d in found):
        raise BadField("dependencies", "a list of JSON objects", quote(found))
    for number, entry in enumerate(found):
        where = f"dependencies[{number}]"
        for name, known in (("trigger", _TRIGGERS), ("relation", _RELATIONS)):
            value = entry.get(name)
            if not isinstance(value, str) or value not in known:
                names = ", ".join(f"`{r}`" for r in sorted(known))
                raise BadField(f"{where}.{name}", f"one of {names}", quote(value))
        try:
            delay = time_ns(entry, "delay_ms", _MS)
            other = _text(entry, "request_id")
        except BadField as e:
            raise BadField(f"{where}.{e.field}", e.wanted, e.found) from e
        if delay < 0:
            raise BadField(f"{where}.delay_ms", "milliseconds ≥ 0", "null")
        yield Dependency(other, at_send=entry["trigger"] == "dispatch", delay_ns=delay)

"""`mooncake_hf`: whole conversations with tool calls, a row each, from the Hugging Face hub or a Parquet or JSON Lines file. AIPerf's.

`{"session_id": "a", "messages": [{"role": "user", "content": "…"}, {"role": "assistant", …}, …], "tools": […], "output_length": 200,
"extra": {"temperature": 0}}`: `messages` is needed, the rest is not; each may be JSON text. For each message of the assistant a request is
sent with all recorded messages before it: the recorded responses stay in the conversation, the server's are not used. Other columns are
named by the option `mapping`, with dots into objects: `{"messages": "data.turns", "extra.temperature": "params.temp"}`.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.chat import message_of
from aiperf.datasets.entry import MAX_TOKENS
from aiperf.datasets.hub_rows import rows_of, unit_of
from aiperf.datasets.row_filter import matches, value_at
from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, quote
from aiperf.session import Session, Turn

__all__ = ["FIELDS", "SAMPLING", "TARGETS", "Options", "load"]

FIELDS: tuple[frozenset[str], ...] = ()
SAMPLING = "sequential"
TARGETS = ("session_id", "messages", "tools", "output_length", "extra")
_LENGTHS = ("max_tokens", "max_completion_tokens")
_OWN = frozenset({"messages", "input", "model", "tools"})
"""Fields of a body that a row's `extra` must not set."""
_LEFT_OUT = frozenset({*_LENGTHS, "stream", "stream_options"})


class Options(DatasetOptions):
    dataset: str | None = Field(default=None, description="Name on the hub, instead of a file")
    subset: str | None = Field(default=None, description="Configuration of the dataset")
    split: str = Field(default="test", description="Split of the dataset")
    mapping: dict[str, str] = Field(
        default_factory=dict, description="Column of each field: `messages`, `session_id`, `tools`, `output_length`, …"
    )
    filters: dict[str, str] = Field(default_factory=dict, description="Only rows whose columns have these values")


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    if not isinstance(options, Options):
        raise TypeError("mooncake_hf.load takes mooncake_hf.Options")
    for target in options.mapping:
        if target not in TARGETS and not target.startswith("extra."):
            raise DatasetError(f"`{target}` is no field of a conversation", f"fields: {', '.join(TARGETS)}, extra.NAME")
    where = str(options.path or options.dataset)
    seen: set[str] = set()
    kept = False
    for file, number, record in rows_of(options, options.dataset, options.subset, options.split):
        if not matches(record, options.filters, where):
            continue
        try:
            session = _session(_mapped(record, options.mapping), number, seen)
        except BadField as bad:
            options.invalid(file, number, bad, unit_of(file))
            continue
        seen.add(session.id)
        kept = True
        yield session
    if not kept and options.filters:
        shown = ", ".join(f"{name}={value}" for name, value in options.filters.items())
        raise DatasetError(f"no row of `{where}` has {shown}", "change or leave out `--dataset-filter`")


def _mapped(record: Mapping[str, object], mapping: Mapping[str, str]) -> dict[str, object]:
    """The fields of a conversation. BadField for a column that is not there."""
    fields: dict[str, object] = {}
    extra: dict[str, object] = {}
    for target in dict.fromkeys((*TARGETS, *mapping)):
        try:
            value = value_at(record, mapping[target]) if target in mapping else record.get(target)
        except KeyError:
            raise BadField(mapping[target], "a column of the row", f"only {', '.join(record)}") from None
        if target.startswith("extra."):
            if value is not None:
                extra[target.removeprefix("extra.")] = value
        else:
            fields[target] = _decoded(value)
    own = fields.get("extra") or {}
    if not isinstance(own, Mapping):
        raise BadField("extra", "an object", quote(own))
    return {**fields, "extra": {**own, **extra}}


def _decoded(value: object) -> object:
    """JSON in a text as what it says; the nulls of columns that other rows need are left out."""
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            value = json.loads(value)
        except ValueError:
            return value
    return _without_nulls(value)


def _without_nulls(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_without_nulls(v) for v in value]
    return value


def _session(row: Mapping[str, object], number: int, seen: Container[str]) -> Session:
    """`seen`: ids of the rows before. BadField for a broken row."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadField("messages", "a list of messages", quote(messages))
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise BadField("messages", "objects with a `role`", quote(message))
    ends = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not ends or ends[0] == 0:
        what = "a message of the assistant" if not ends else "a message before the first one of the assistant"
        raise BadField("messages", what, f"{len(messages)} messages")
    tools, osl, extra = _parameters(row)
    ready = [message_of(_cleaned(message)) for message in messages]
    turns = tuple(Turn(messages=tuple(ready[:i]), osl=osl, tools=tools, extra=extra, fresh=True) for i in ends)
    name = row.get("session_id")
    name = f"row-{number}" if name is None or name == "" else str(name)
    if name in seen:
        raise BadField("session_id", "an id of its own", quote(name))
    return Session(name, turns)


def _cleaned(message: Mapping[str, object]) -> Mapping[str, object]:
    """Tool calls without the `index` that only streams have."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [{k: v for k, v in c.items() if k != "index"} for c in calls]}


def _parameters(
    row: Mapping[str, object],
) -> tuple[tuple[Mapping[str, object], ...], int | None, Mapping[str, object]]:
    """Tools, output length, and the other fields of the body."""
    tools = row.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(t, Mapping) for t in tools):
        raise BadField("tools", "a list of objects", quote(tools))
    extra = row["extra"]
    if not isinstance(extra, Mapping):
        raise BadField("extra", "an object", quote(extra))
    if own := sorted(_OWN & extra.keys()):
        raise BadField("extra", "fields that the request does not have itself", ", ".join(own))
    osl = next((v for v in (row.get("output_length"), *(extra.get(n) for n in _LENGTHS)) if v is not None), None)
    if osl is not None and (not isinstance(osl, int) or isinstance(osl, bool) or not 0 < osl <= MAX_TOKENS):
        raise BadField("output_length", "a number of tokens", quote(osl))
    return tuple(tools), osl, {k: v for k, v in extra.items() if k not in _LEFT_OUT}

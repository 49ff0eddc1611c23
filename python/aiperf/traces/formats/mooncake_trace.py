"""Mooncake traces: JSONL of arrival, lengths and hash ids of 512-token blocks. https://github.com/kvcache-ai/Mooncake

A line has exactly one of `input_length` (with `hash_ids`, if its blocks are known), `text_input`, `messages` (with
`tools`) and `payload` (the request body, sent as it is); and `output_length`, `timestamp` (ms), `delay` (ms after the
previous answer), `session_id` (lines of one id are the turns of a conversation), `extra` (merged into the body), as
AIPerf defines them. Lines of lengths or `text_input` add to their session's conversation; `messages` and `payload` are
whole prompts. Unlike AIPerf, lines of a session whose hash ids begin with those of the session's first line are whole
prompts too: sent as additions, their history would count twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from aiperf.reading.problems import BadField, fields_of, quote
from aiperf.session import Message, Session
from aiperf.traces import UNKNOWN, Content, TraceOptions, TraceTable
from aiperf.traces.reading.column_builder import Row, milliseconds, read_jsonl, time_ns, whole
from aiperf.traces.replay import prepare

__all__ = ["FIELDS", "FILES", "Options", "load", "messages_of", "read", "retime"]

FILES = frozenset({"jsonl"})
FIELDS = (
    frozenset({"input_length", "hash_ids"}),
    frozenset({"input_length", "timestamp"}),
    frozenset({"input_length", "output_length"}),
    frozenset({"text_input"}),
    frozenset({"payload"}),
    frozenset({"messages", "timestamp"}),
    frozenset({"messages", "output_length"}),
)

_PROMPTS = ("input_length", "text_input", "messages", "payload")
_KNOWN = frozenset({*_PROMPTS, "output_length", "hash_ids", "timestamp", "delay", "session_id", "extra", "tools"})
_MS = 1_000_000


class Options(TraceOptions):
    pass


def read(path: Path, options: TraceOptions) -> TraceTable:
    return _whole_sessions(read_jsonl(path, "mooncake_trace", options, _parse, _KNOWN))


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:
    out = dict(record)
    if at_ns is not None:
        out["timestamp"] = milliseconds(at_ns)
    if (delay := time_ns(record, "delay", _MS)) > 0:
        out["delay"] = milliseconds(round(delay / speed))
    return out


def _parse(record: dict[str, object], row: Row) -> None:
    get = record.get
    length = get("input_length")
    if type(length) is int and 0 < length < UNKNOWN:
        row.input_length = length
        if "text_input" in record or "messages" in record or "payload" in record:
            _one_prompt(record)
    elif length is not None:
        row.input_length = whole(record, "input_length", 1)
        _one_prompt(record)
    else:
        _one_prompt(record)
    length = get("output_length")
    if type(length) is int and 0 <= length < UNKNOWN:
        row.output_length = length
    elif length is not None:
        row.output_length = whole(record, "output_length", 0)
    ids = get("hash_ids")
    if ids is not None:
        if type(ids) is not list:
            raise BadField("hash_ids", "a list of whole numbers", quote(ids))
        if ids and row.input_length == UNKNOWN:
            raise BadField("hash_ids", "hash ids only next to `input_length`", quote(ids))
        row.hash_ids = ids
    time = get("timestamp")
    row.at_ns = time * _MS if type(time) is int and 0 <= time < 1 << 43 else time_ns(record, "timestamp", _MS)
    if get("delay") is not None:
        row.delay_ns = time_ns(record, "delay", _MS)
    session = get("session_id")
    if session is not None:
        if type(session) is not str and type(session) is not int:
            raise BadField("session_id", "text", quote(session))
        row.session = str(session)
        row.whole = False
    if row.input_length == UNKNOWN or "extra" in record:
        row.content = _content(record)
        row.whole = row.whole or get("messages") is not None or get("payload") is not None


def _one_prompt(record: dict[str, object]) -> None:
    given = [p for p in _PROMPTS if record.get(p) is not None]
    if len(given) != 1:
        names = ", ".join(f"`{p}`" for p in _PROMPTS)
        found = " and ".join(f"`{p}`" for p in given) or f"none of them (there are {fields_of(record)})"
        raise BadField(None, f"exactly one of {names}", found)


def _content(record: dict[str, object]) -> Content:
    extra, tools = record.get("extra"), record.get("tools")
    if extra is not None and not isinstance(extra, dict):
        raise BadField("extra", "a JSON object", quote(extra))
    if tools is not None and (not isinstance(tools, list) or not all(isinstance(t, dict) for t in tools)):
        raise BadField("tools", "a list of JSON objects", quote(tools))
    if tools and record.get("messages") is None:
        raise BadField("tools", "tools only next to `messages`", quote(tools))
    content = Content(extra=extra or {}, tools=tuple(tools or ()))
    if (text := record.get("text_input")) is not None:
        if not isinstance(text, str) or not text:
            raise BadField("text_input", "text that is not empty", quote(text))
        return replace(content, text=text)
    if (payload := record.get("payload")) is not None:
        if not isinstance(payload, dict) or not payload:
            raise BadField("payload", "a JSON object that is not empty", quote(payload))
        return replace(content, payload=payload)
    if (messages := record.get("messages")) is not None:
        if not isinstance(messages, list) or not messages:
            raise BadField("messages", "a list of messages that is not empty", quote(messages))
        for message in messages:
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise BadField("messages", "messages with a `role`", quote(message))
        plain = messages_of(messages)
        return replace(content, messages=plain) if plain else replace(content, raw_messages=tuple(messages))
    return content


def messages_of(messages: list[Mapping[str, object]]) -> tuple[Message, ...]:
    """OpenAI messages as ours; empty if the content of one is more than text followed by images by URL."""
    out = []
    for message in messages:
        extra = {k: v for k, v in message.items() if k not in {"role", "content", "name"}}
        content, name = message.get("content"), message.get("name")
        if name is not None and not isinstance(name, str):
            return ()
        parts: list[object] = [{"type": "text", "text": content}] if isinstance(content, str) else [content]
        if isinstance(content, list):
            parts = content
        elif content is None and extra:
            parts, extra = [], {"content": None, **extra}
        texts: list[str] = []
        images: list[str] = []
        for part in parts:
            match part:
                case {"type": "text", "text": str(text), **rest} if not rest and not images:
                    texts.append(text)
                case {"type": "image_url", "image_url": {"url": str(url), **detail}, **rest} if not rest and not detail:
                    images.append(url)
                case _:
                    return ()
        out.append(
            Message(role=cast(str, message["role"]), parts=tuple(texts), images=tuple(images), name=name, extra=extra)
        )
    return tuple(out)


def _whole_sessions(table: TraceTable) -> TraceTable:
    """Marks sessions of several lines whose hash ids all begin with the first id of the session's first line."""
    counts = np.diff(table.hash_offsets)
    sizes = np.bincount(table.session)
    if not table.session_names or sizes.max() < 2 or not len(table.hash_ids):
        return table
    firsts = np.where(counts > 0, table.hash_ids[np.minimum(table.hash_offsets[:-1], len(table.hash_ids) - 1)], 0)
    _, first_row = np.unique(table.session, return_index=True)
    same = (counts > 0) & (counts[first_row][table.session] > 0) & (firsts == firsts[first_row][table.session])
    all_same = np.bincount(table.session, weights=same) == sizes
    return replace(table, whole=table.whole | (all_same & (sizes > 1))[table.session])

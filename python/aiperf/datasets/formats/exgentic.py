"""`exgentic`: recorded calls of coding and tool agents, an agent's session in a row, from the hub or a Parquet or JSON Lines file. AIPerf's.

`{"session_id": "a", "harness": "tool_calling", "models": ["gpt-4.1"], "benchmark": "swebench", "spans": [{"type": "llm_call", "start_time":
"2026-01-05T10:00:00Z", "end_time": "…", "attributes": {"gen_ai.input.messages": "[…]", "gen_ai.usage.output_tokens": 210, …}}, …]}`: of each
call to a model all recorded messages, tools and the request's own parameters are sent, the server's responses are not used. Calls that
failed or have no tokens are left out. Between two calls is the recorded pause; in a fixed schedule every call has its own time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.chat import message_of
from aiperf.datasets.entry import MAX_TOKENS
from aiperf.datasets.hub_rows import rows_of, unit_of
from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, quote
from aiperf.session import Message, Session, Turn

__all__ = ["FIELDS", "FILTERS", "PUBLIC", "SAMPLING", "Options", "load"]

FIELDS: tuple[frozenset[str], ...] = (frozenset({"harness", "spans"}),)
SAMPLING = "sequential"
PUBLIC: Final[Mapping[str, str]] = {
    "exgentic": "Exgentic/agent-llm-traces",
    "exgentic_v2": "Exgentic/agent-llm-traces-v2",
}
"""AIPerf's names of the data on the hub."""
FILTERS: Final = ("harness", "source_model", "benchmark")
_PROVIDERS = ("openai/azure/", "azure/", "aws/", "gcp/")
_FAILED = 2
"""OpenTelemetry's code of a span that ended in an error."""


class Options(DatasetOptions):
    dataset: str | None = Field(default=None, description="Name on the hub, instead of a file")
    subset: str | None = Field(default=None, description="Configuration of the dataset")
    split: str = Field(default="train", description="Split of the dataset")
    filters: dict[str, str] = Field(
        default_factory=dict, description="Only sessions of this `harness`, `source_model`, `benchmark`"
    )
    schedule: bool = Field(default=False, description="Each call at its recorded time after its session's first")


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    if not isinstance(options, Options):
        raise TypeError("exgentic.load takes exgentic.Options")
    if unknown := sorted(options.filters.keys() - set(FILTERS)):
        raise DatasetError(f"agent traces are not filtered by `{unknown[0]}`", f"filters: {', '.join(FILTERS)}")
    seen: set[str] = set()
    there: set[str] = set()
    kept = False
    for file, number, record in rows_of(options, options.dataset, options.subset, options.split):
        try:
            models = _models(record)
            harness = _text(record, "harness")
            there.update(f"{harness}/{model}" for model in models)
            if not _matches(record, harness, models, options.filters):
                continue
            sessions = _sessions(record, seen, is_schedule=options.schedule)
        except BadField as bad:
            options.invalid(file, number, bad, unit_of(file))
            continue
        kept = kept or bool(sessions)
        yield from sessions
    if not kept and there:
        wanted = ", ".join(f"{name}={value}" for name, value in options.filters.items())
        raise DatasetError(
            "no session has a call that can be sent" + (f" and {wanted}" if wanted else ""),
            f"there are {', '.join(sorted(there))}",
        )


def _text(record: Mapping[str, object], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise BadField(name, "a text", quote(value))
    return value


def _models(record: Mapping[str, object]) -> list[str]:
    """Without their provider."""
    models = record.get("models")
    if not isinstance(models, list) or not all(isinstance(m, str) and m for m in models):
        raise BadField("models", "a list of names", quote(models))
    return [_bare(m) for m in models]


def _bare(model: str) -> str:
    prefix = next((p for p in _PROVIDERS if model.casefold().startswith(p)), "")
    return model[len(prefix) :]


def _matches(record: Mapping[str, object], harness: str, models: Sequence[str], filters: Mapping[str, str]) -> bool:
    has = {"harness": [harness], "source_model": models, "benchmark": [str(record.get("benchmark"))]}
    return all(
        (_bare(wanted) if name == "source_model" else wanted).casefold() in (v.casefold() for v in has[name])
        for name, wanted in filters.items()
    )


def _sessions(record: Mapping[str, object], seen: set[str], *, is_schedule: bool) -> list[Session]:
    """None if nothing of it can be sent. `seen`: ids of the rows before, this one is added."""
    name = _text(record, "session_id")
    calls = sorted(_calls(_listed(record, "spans")), key=lambda call: (call[0], call[2]))
    if not calls:
        return []
    if name in seen:
        raise BadField("session_id", "an id of its own", quote(name))
    seen.add(name)
    start = calls[0][0]
    if is_schedule:
        return [Session(f"{name}:{i}", (replace(turn, at_ns=at - start),)) for at, _, i, turn in calls]
    turns = []
    ended = start
    for at, end, _, turn in calls:
        turns.append(replace(turn, delay_ns=max(0, at - ended)))
        ended = end
    return [Session(name, tuple(turns))]


def _calls(spans: Sequence[Mapping[str, object]]) -> Iterator[tuple[int, int, int, Turn]]:
    """(start and end in ns since the epoch, number of the span, request) of each call that was answered."""
    for number, span in enumerate(spans):
        attributes, status = _object(span.get("attributes")), _object(span.get("status"))
        is_call = span.get("type") == "llm_call" or (
            span.get("type") is None and attributes.get("gen_ai.operation.name") == "chat"
        )
        if not is_call or status.get("code") == _FAILED:
            continue
        prompt, output = (_tokens(attributes, f"gen_ai.usage.{name}_tokens") for name in ("input", "output"))
        if prompt <= 0 or output <= 0:
            continue
        start, end = _time_ns(span, "start_time"), _time_ns(span, "end_time")
        if end < start:
            raise BadField("end_time", "a time not before `start_time`", quote(span.get("end_time")))
        limit = output
        if attributes.get("gen_ai.request.max_tokens") is not None:
            limit = _tokens(attributes, "gen_ai.request.max_tokens")
        if not 0 < limit <= MAX_TOKENS:
            raise BadField("gen_ai.request.max_tokens", "a number of tokens", quote(limit))
        yield (
            start,
            end,
            number,
            Turn(
                messages=(*_instructions(attributes), *_messages(attributes)),
                osl=limit,
                tools=tuple(_tools(attributes)),
                extra=_parameters(attributes),
                fresh=True,
            ),
        )


def _object(value: object) -> Mapping[str, object]:
    """An object, which may be JSON text; nothing: an empty one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise BadField("spans", "objects", quote(value)) from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadField("spans", "objects", quote(value))
    return value


def _listed(record: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    """A list of objects, which may be JSON text."""
    value = record.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise BadField(name, "JSON", quote(value)) from None
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise BadField(name, "a list of objects", quote(value))
    return value


def _tokens(attributes: Mapping[str, object], name: str) -> int:
    value = attributes.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadField(name, "a number of tokens", quote(value))
    return value


def _time_ns(span: Mapping[str, object], name: str) -> int:
    value = span.get(name)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise BadField(name, "a time of ISO 8601", quote(value)) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e6) * 1000


def _instructions(attributes: Mapping[str, object]) -> Iterator[Message]:
    name = "gen_ai.system_instructions"
    text = attributes.get(name)
    if text is None or text == "":
        return
    if not isinstance(text, str):
        raise BadField(name, "a text", quote(text))
    try:
        parts = _listed(attributes, name)
    except BadField:
        yield Message(role="system", parts=(text,))
        return
    yield from _of_parts("system", parts)


def _messages(attributes: Mapping[str, object]) -> Iterator[Message]:
    name = "gen_ai.input.messages"
    found = _listed(attributes, name)
    if not found:
        raise BadField(name, "at least one message", "none")
    for message in found:
        role = message.get("role")
        if not isinstance(role, str):
            raise BadField(name, "objects with a `role`", quote(message))
        yield from _of_parts("system" if role == "developer" else role, _listed(message, "parts"))


def _of_parts(role: str, parts: Sequence[Mapping[str, object]]) -> Iterator[Message]:
    """A message of the parts up to each result of a tool, which is a message of its own."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Mapping[str, object]] = []

    def gathered() -> Message:
        said: dict[str, object] = {"role": role, "content": "".join(texts)}
        if thoughts:
            said["reasoning_content"] = "".join(thoughts)
        if calls:
            said["tool_calls"] = list(calls)
        return message_of(said)

    is_empty = True
    for part in parts:
        match part.get("type"):
            case "text":
                texts.append(str(part.get("content") or ""))
            case "thinking":
                thoughts.append(str(part.get("thinking") or ""))
            case "tool_call":
                function = {"name": part.get("name"), "arguments": _as_text(part.get("arguments"))}
                calls.append({"id": part.get("id"), "type": "function", "function": function})
            case "tool_call_response":
                if texts or thoughts or calls:
                    yield gathered()
                    texts, thoughts, calls = [], [], []
                content = _as_text(part.get("result"))
                yield message_of({"role": "tool", "tool_call_id": part.get("id"), "content": content})
                is_empty = False
            case other:
                raise BadField("parts", "text, thinking, tool_call or tool_call_response", quote(other))
    if texts or thoughts or calls or is_empty:
        yield gathered()


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # NaN, which Python reads
        raise BadField("parts", "JSON", quote(value)) from None


def _tools(attributes: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    name = "gen_ai.tool.definitions"
    if attributes.get(name) is None:
        return
    for tool in _listed(attributes, name):
        if tool.get("type") != "function":
            raise BadField(name, "functions", quote(tool.get("type")))
        function = {key: tool.get(key) for key in ("name", "description", "parameters")}
        yield {"type": "function", "function": function}


def _parameters(attributes: Mapping[str, object]) -> Mapping[str, object]:
    parameters: dict[str, object] = {}
    temperature = attributes.get("gen_ai.request.temperature")
    if temperature is not None:
        is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not is_number or not math.isfinite(float(str(temperature))):
            raise BadField("gen_ai.request.temperature", "a number", quote(temperature))
        parameters["temperature"] = temperature
    stop = attributes.get("gen_ai.request.stop_sequences")
    if stop is not None:
        if not isinstance(stop, list) or not all(isinstance(s, str) for s in stop):
            raise BadField("gen_ai.request.stop_sequences", "a list of texts", quote(stop))
        if stop:
            parameters["stop"] = stop
    return parameters

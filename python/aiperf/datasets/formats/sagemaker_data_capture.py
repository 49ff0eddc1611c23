r"""`sagemaker_data_capture`: requests as Amazon SageMaker captures them. A file of JSON Lines, or a folder with such files at any depth.

`{"captureData": {"endpointInput": {"data": "{\"messages\": […]}", "encoding": "JSON"}, "endpointOutput": {…}}, "eventMetadata":
{"eventId": "…", "inferenceTime": "2026-11-29T14:05:00Z"}}`; `encoding` `BASE64` for binary data. Each is a conversation of one turn: its
`messages`, `tools`, `max_tokens` and other fields of the body; `model` and `stream` are the run's. Without `max_tokens` the recorded
response says how many tokens are asked for. Sorted by `inferenceTime`, which has whole seconds, and timed by it with `--fixed-schedule`.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from aiperf.datasets import DatasetOptions
from aiperf.datasets.chat import message_of
from aiperf.datasets.entry import MAX_TOKENS
from aiperf.datasets.rows import iter_objects
from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, quote
from aiperf.reading.records import object_of
from aiperf.session import Session, Turn
from aiperf.traces.reading.column_builder import date_ns

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS = (frozenset({"captureData", "eventMetadata"}),)
SAMPLING = "sequential"

_OURS = frozenset({"messages", "tools", "max_tokens", "max_completion_tokens", "model", "stream", "stream_options"})
_READ = {
    "": {"captureData", "eventMetadata", "eventVersion"},
    "captureData": {"endpointInput", "endpointOutput"},
    "captureData.endpointInput": {"data", "encoding", "mode", "observedContentType"},
    "captureData.endpointOutput": {"data", "encoding", "mode", "observedContentType"},
    "eventMetadata": {"eventId", "inferenceTime"},
}


class Options(DatasetOptions):
    pass


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """In the order of their times."""
    captured: list[tuple[int, str, Turn]] = []
    for file in _files(options.file):
        for line, record in iter_objects(file, options):
            try:
                at, name, turn = _turn(record)
            except BadField as bad:
                options.invalid(file, line, bad)
                continue
            options.unused(_unused(record))
            captured.append((at, name or f"line-{line}", turn))
    captured.sort(key=lambda item: item[0])
    first = captured[0][0] if captured else 0
    seen: dict[str, int] = {}
    for at, name, turn in captured:
        seen[name] = count = seen.get(name, 0) + 1
        yield Session(name if count == 1 else f"{name}-{count}", (replace(turn, at_ns=at - first),))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and ".jsonl" in p.suffixes[-2:])
    if not found:
        raise DatasetError(f"cannot read `{path}`: no `.jsonl` file in this folder or below it")
    return found


def _inside(record: Mapping[str, object], where: str) -> dict[str, object]:
    inside: object = record
    for name in where.split("."):
        inside = inside.get(name) if isinstance(inside, dict) else None
    if not isinstance(inside, dict):
        raise BadField(where, "a JSON object", quote(inside))
    return inside


def _turn(record: Mapping[str, object]) -> tuple[int, str | None, Turn]:
    """(time since 1970 in ns, name, what to send)"""
    event = _inside(record, "eventMetadata")
    at = date_ns(event, "inferenceTime")
    body = _data(_inside(record, "captureData.endpointInput"), "captureData.endpointInput")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadField("captureData.endpointInput.data", "a body with `messages`", quote(sorted(body)))
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadField("captureData.endpointInput.data", "messages with a `role`", quote(message))
    tools = body.get("tools") if body.get("tools") is not None else []
    if not isinstance(tools, list) or not all(isinstance(t, dict) for t in tools):
        raise BadField("captureData.endpointInput.data", "`tools` that are a list of JSON objects", quote(tools))
    length = next((v for n in ("max_completion_tokens", "max_tokens") if (v := body.get(n)) is not None), None)
    if length is not None and (type(length) is not int or not 0 < length <= MAX_TOKENS):
        raise BadField("captureData.endpointInput.data", "`max_tokens` of at least 1", quote(length))
    name = event.get("eventId")
    if name is not None and not isinstance(name, str):
        raise BadField("eventMetadata.eventId", "text", quote(name))
    turn = Turn(
        messages=tuple(message_of(m) for m in messages),
        osl=length,
        tools=tuple(tools),
        extra={k: v for k, v in body.items() if k not in _OURS},
        expected=_answer(record),
    )
    return at, name, turn


def _data(side: Mapping[str, object], where: str) -> dict[str, object]:
    """The JSON object that was captured."""
    data, encoding = side.get("data"), str(side.get("encoding", "JSON")).upper()
    if not isinstance(data, str):
        raise BadField(f"{where}.data", "text", quote(data))
    if encoding not in {"JSON", "BASE64"}:
        raise BadField(f"{where}.encoding", "`JSON` or `BASE64`", quote(encoding))
    try:
        body = object_of(base64.b64decode(data, validate=True) if encoding == "BASE64" else data.encode())
    except (ValueError, binascii.Error) as error:
        raise BadField(f"{where}.data", f"{encoding} of a JSON object", quote(data)) from error
    if isinstance(body, BadField):
        raise BadField(f"{where}.data", f"{encoding} of a JSON object", body.found)
    return body


def _answer(record: Mapping[str, object]) -> str | None:
    """The text of the recorded response, if it is one document; a captured stream of events tells nothing."""
    try:
        output = _data(_inside(record, "captureData.endpointOutput"), "captureData.endpointOutput")
    except BadField:
        return None
    match output:
        case {"choices": [{"message": {"content": str(text)}}, *_]} if text:
            return text
    return None


def _unused(record: Mapping[str, object]) -> set[str]:
    """Fields that nothing reads, at all depths but the bodies'."""
    out: set[str] = set()
    for where, known in _READ.items():
        try:
            inside = _inside(record, where) if where else record
        except BadField:
            continue
        out |= {f"{where}.{n}" if where else n for n in set(inside) - known}
    return out

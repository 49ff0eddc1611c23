"""Bodies that are forms (`multipart/form-data`, RFC 7578), and media as they come: data URLs, `wav,<base64>`, URLs."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiperf.json_text import json_text

__all__ = ["CONTENT_TYPE", "File", "form_fields", "form_text", "split_medium"]

_BOUNDARY = "aiperf-5f0d9c1be8a74d6c93e2"
CONTENT_TYPE = ("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
"""The header of a form; the boundary is long enough to stand in no file by accident."""


@dataclass(frozen=True, slots=True)
class File:
    """A form's file: `medium` as in a `Message`. Sent as its bytes, or as text if it is a URL of a server."""

    medium: str


def split_medium(medium: str) -> tuple[str, str]:
    """What says of which kind a medium is (`data:image/png;base64,`, `wav,`, `https://`, nothing), and the rest."""
    head = medium[:64]
    if "://" in head and not head.startswith("data:"):
        front, sign, _ = head.partition("://")
    else:
        front, sign, _ = head.partition(",")
    return (front + sign, medium[len(front + sign) :]) if sign else ("", medium)


def _type_of(front: str) -> str:
    """The content type that a front names: `data:image/png;base64,`, or `wav,`."""
    kind = front.removesuffix(",")
    return kind.removeprefix("data:").partition(";")[0] if kind.startswith("data:") else f"audio/{kind}"


def form_text(fields: Mapping[str, object]) -> str:
    """The form. Lists and objects are JSON text, a list of files is as many fields of one name; None is left out."""
    rows = [(name, item) for name, value in fields.items() for item in _items(value) if item is not None]
    parts = [f"--{_BOUNDARY}\r\n{_field(name, item)}\r\n" for name, item in rows]
    return "".join([*parts, f"--{_BOUNDARY}--\r\n"])


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) and any(isinstance(v, File) for v in value) else [value]


def _field(name: str, value: object) -> str:
    head = f'Content-Disposition: form-data; name="{name}"'
    if isinstance(value, File):
        front, rest = split_medium(value.medium)
        if not front.endswith(","):
            return f"{head}\r\n\r\n{front}{rest}"
        kind = _type_of(front)
        ending = kind.rpartition("/")[2]
        return f'{head}; filename="{name}.{ending}"\r\nContent-Type: {kind}\r\n\r\n{rest}'
    text = value if isinstance(value, str) else json_text(value)
    return f"{head}\r\n\r\n{text}"


_HEAD = re.compile(
    rb'Content-Disposition: form-data; name="(?P<name>[^"]*)"(?:; filename="(?P<file>[^"]*)"\r\nContent-Type: (?P<type>[^\r]*))?'
)


def form_fields(body: bytes) -> dict[str, object] | None:
    """The fields of a form of `form_text`, for files of JSON: texts, and of files what AIPerf writes, their bytes as base64. None for any other body."""
    mark = f"--{_BOUNDARY}".encode()
    if not body.startswith(mark):
        return None
    fields: dict[str, list[object]] = {}
    for part in body.split(mark)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        named = _HEAD.fullmatch(head)
        if named is None:
            raise ValueError(f"not a field of a form: {head[:80]!r}")
        name, file, kind = ((g or b"").decode() for g in named.group("name", "file", "type"))
        data = base64.b64encode(content).decode() if file else content.decode("utf-8", "replace")
        fields.setdefault(name, []).append({"b64_data": data, "filename": file, "content_type": kind} if file else data)
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}

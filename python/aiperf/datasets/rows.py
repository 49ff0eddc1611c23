"""Rows of a dataset checked against a model, and files as data URLs."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from aiperf.datasets import DatasetOptions
from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, fields_of, quote
from aiperf.reading.records import Record, iter_json

__all__ = ["audio_text", "iter_objects", "iter_rows", "media_url"]

Row = TypeVar("Row", bound=BaseModel)
_SHOWN = 60


def iter_objects(path: Path, options: DatasetOptions) -> Iterator[tuple[int, Record]]:
    """(line or item, JSON object) of JSON Lines or of a JSON list; what is none is a broken line."""
    for number, record in iter_json(path):
        if isinstance(record, BadField):
            options.invalid(path, number, record)
        else:
            yield number, record


def iter_rows(path: Path, options: DatasetOptions, model: type[Row]) -> Iterator[tuple[int, Row]]:
    """(line or item, row) of JSON Lines or of a JSON list. Fields the model does not know are counted as unused."""
    for number, value in iter_objects(path, options):
        try:
            row = model.model_validate(value)
        except ValidationError as error:
            options.invalid(path, number, _problem(error, value))
            continue
        options.unused(_unused(row))
        yield number, row


def _unused(row: BaseModel, before: str = "") -> set[str]:
    """Fields that are in no model, those of models in lists included: `turns.lang`."""
    unused = {f"{before}{name}" for name in row.model_extra or ()}
    for name in type(row).model_fields:
        value = getattr(row, name)
        if isinstance(value, list):
            for item in value:
                if isinstance(item, BaseModel):
                    unused |= _unused(item, f"{before}{name}.")
    return unused


def _problem(error: ValidationError, value: Mapping[str, object]) -> BadField:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(p) for p in first["loc"] if not (isinstance(p, str) and ("[" in p or p in {"str", "Named"})))
    if first["type"] == "missing":
        return BadField(where, "a value", f"no such field (there are {fields_of(value)})")
    if first["type"] == "extra_forbidden":
        return BadField(where, "only fields that the format knows", f"this one: {quote(first['input'])}")
    text = first["msg"].removeprefix("Value error, ")
    wanted = text.removeprefix("Input should be ")
    if wanted != text:
        return BadField(where or None, wanted, quote(first["input"]))
    return BadField(where or None, "a usable record", f"{text[:1].lower()}{text[1:]} (there are {fields_of(value)})")


def media_url(value: str, folder: Path, kind: str) -> str:
    """A URL as it is; a file, relative to the working or the dataset's folder, as a data URL. DatasetError if it is neither."""
    if value.startswith(("http://", "https://", "data:")):
        return value
    given = Path(value)
    try:
        file = given if given.is_file() else folder / given
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        hint = "write a URL, a data URL or the path of a file"
        raise DatasetError(
            f"the {kind} `{value[:_SHOWN]}` is neither a URL nor a file that can be read", hint
        ) from error
    mime = mimetypes.guess_type(file.name)[0] or f"{kind}/{file.suffix.lstrip('.') or 'octet-stream'}"
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def audio_text(value: str, folder: Path) -> str:
    """As `media_url`; AIPerf's `wav,<base64>` stays as it is."""
    kind, comma, _ = value.partition(",")
    return value if comma and kind in {"wav", "mp3", "flac", "ogg"} else media_url(value, folder, "audio")

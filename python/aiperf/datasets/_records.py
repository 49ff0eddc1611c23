"""Records of a plain, `.gz` or `.zst` file, checked against a model; and files as data URLs."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import mimetypes
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from aiperf.datasets import DatasetOptions
from aiperf.errors import DatasetError

__all__ = ["audio_text", "iter_csv", "iter_lines", "iter_objects", "iter_rows", "media_url", "read_json", "shown"]

Row = TypeVar("Row", bound=BaseModel)
_SHOWN = 60


def shown(value: object) -> str:
    """A value as it stands in the file, shortened, in backticks."""
    text = (
        value
        if isinstance(value, str) and len(value) > 4 * _SHOWN
        else json.dumps(value, ensure_ascii=False, default=str)
    )
    return f"`{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}`"


def iter_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line with its end); blank lines are left out. DatasetError if the file cannot be read or has none."""
    number = 0
    found = False
    try:
        for line in _raw_lines(path):
            number += 1
            if not line.isspace():
                found = True
                yield number, line
    except FileNotFoundError as error:
        raise DatasetError(f"cannot read the dataset: there is no file `{path}`") from error
    except IsADirectoryError as error:
        raise DatasetError(f"cannot read the dataset: `{path}` is a folder; this format needs a file") from error
    except EOFError as error:
        raise DatasetError(
            f"cannot read the dataset: `{path}` is truncated: its compressed data end too early"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"cannot read the dataset: `{path}` is not gzip data: {error}") from error
    except OSError as error:
        raise DatasetError(f"cannot read the dataset `{path}`: {error.strerror or error}") from error
    if not found:
        raise DatasetError(f"cannot read the dataset: `{path}` is empty")


def _raw_lines(path: Path) -> Iterator[bytes]:
    if path.suffix == ".zst":
        yield from io.BytesIO(_unpacked(path))
    elif path.suffix == ".gz":
        with gzip.open(path, "rb") as file:
            yield from file
    else:
        with path.open("rb") as file:
            yield from file


def _unpacked(path: Path) -> bytes:
    from aiperf._core import read_bytes

    try:
        return bytes(read_bytes(str(path)))
    except ValueError as error:
        raise DatasetError(f"cannot read the dataset: `{path}` is not Zstandard data, or truncated: {error}") from error


def iter_objects(path: Path, options: DatasetOptions) -> Iterator[tuple[int, dict[str, object]]]:
    """(line, JSON object) of a JSON Lines file; what is none is a broken line."""
    for number, line in iter_lines(path):
        try:
            value = json.loads(line)
        except ValueError as error:
            if not line.endswith(b"\n") and number > 1:
                what = "ends in the middle: the file is truncated"
            else:
                what = f"is not JSON ({error}); found {shown(line.decode('utf-8', 'replace').strip())}"
            options.invalid(f"line {number} of `{path}`", what, _SKIP_HINT)
            continue
        if not isinstance(value, dict):
            options.invalid(f"line {number} of `{path}`", f"is not a JSON object; found {shown(value)}", _SKIP_HINT)
            continue
        yield number, value


_SKIP_HINT = "`--skip-invalid` leaves such lines out and counts them"


def iter_rows(path: Path, options: DatasetOptions, model: type[Row]) -> Iterator[tuple[int, Row]]:
    """(line, row) of a JSON Lines file."""
    for number, value in iter_objects(path, options):
        try:
            row = model.model_validate(value)
        except ValidationError as error:
            options.invalid(f"line {number} of `{path}`", _problem(error), _hint(error, value))
            continue
        yield number, row


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(p) for p in first["loc"] if not (isinstance(p, str) and ("[" in p or p in {"str", "Named"})))
    if first["type"] == "missing":
        return f"has no field `{where}`"
    text = first["msg"].removeprefix("Value error, ")
    if not where:
        return f"is broken: {text}"
    if first["type"] == "extra_forbidden":
        return f"has a field `{where}` that the format does not know; found {shown(first['input'])}"
    return f"field `{where}`: {text[:1].lower() + text[1:]}; found {shown(first['input'])}"


def _hint(error: ValidationError, value: Mapping[str, object]) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "missing":
        return f"fields found: {', '.join(f'`{k}`' for k in list(value)[:8]) or 'none'}; {_SKIP_HINT}"
    return _SKIP_HINT


def read_json(path: Path) -> object:
    """A whole JSON file, plain or compressed. DatasetError if it cannot be read or is no JSON."""
    data = b"".join([line for _, line in iter_lines(path)])
    try:
        value: object = json.loads(data)
    except ValueError as error:
        raise DatasetError(f"cannot read the dataset: `{path}` is not JSON: {error}") from error
    return value


def iter_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row by column name). DatasetError if there is no header or the number of values of a row is wrong."""
    text = (line.decode("utf-8-sig" if n == 1 else "utf-8", "replace") for n, line in iter_lines(path))
    rows = csv.reader(text, strict=True)
    try:
        names = next(rows)
        for row in rows:
            if len(row) != len(names):
                found = f"it has {len(row)} values, the header {len(names)}"
                raise DatasetError(f"cannot read the dataset: line {rows.line_num} of `{path}`: {found}")
            yield rows.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise DatasetError(f"cannot read the dataset: line {rows.line_num} of `{path}` is not CSV: {error}") from error


def media_url(value: str, folder: Path, kind: str) -> str:
    """A URL as it is; a file, relative to the working or the dataset's folder, as a data URL. DatasetError if it is neither."""
    if value.startswith(("http://", "https://", "data:")):
        return value
    given = Path(value)
    file = given if given.is_file() else folder / given
    try:
        data = file.read_bytes()
    except OSError as error:
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

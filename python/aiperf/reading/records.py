"""Records of a JSON Lines file, a JSON list or a CSV file, each with its number; and whole JSON documents.

Strict JSON: NaN and Infinity, numbers too large for a float, unpaired surrogates and bytes that are not UTF-8 cost the record
they stand in, since no request body can carry them.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from aiperf.errors import DatasetError
from aiperf.reading.lines import iter_lines
from aiperf.reading.problems import BadField, Item, excerpt, quote

__all__ = ["Record", "first_record", "iter_csv", "iter_json", "object_of", "read_json"]

Record = dict[str, object]

_OBJECT = "a JSON object"
_SPACE = re.compile(r"[ \t\r\n]*")

csv.field_size_limit(min(sys.maxsize, (1 << 31) - 1))
"""A prompt may be longer than the 128 KiB that the csv module takes for a mistake."""


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotJSONError(f"the number `{text}`, too large for JSON readers")
    return value


def _constant(text: str) -> float:
    raise _NotJSONError(f"`{text}`, which JSON does not have")


class _NotJSONError(ValueError):
    """A number that JSON does not have."""


_DECODER = json.JSONDecoder(parse_float=_float, parse_constant=_constant)
_LENIENT = json.JSONDecoder()


def iter_json(path: Path) -> Iterator[tuple[int, Record | BadField]]:
    """(line from 1, object) of JSON Lines, or (item from 1, object) of a JSON list; what is none is a BadField. Blank lines
    count but are left out. DatasetError if the file cannot be read or has no record.
    """
    records = _iter_json(path)
    first = next(records, None)
    if first is None:
        raise DatasetError(f"cannot read `{path}`: it has no record")
    yield first
    yield from records


def _iter_json(path: Path) -> Iterator[tuple[int, Record | BadField]]:
    lines = enumerate(iter_lines(path), 1)
    for number, line in lines:
        if line.isspace():
            continue
        if line.lstrip()[:1] == b"[":
            rest = _until_text(lines)
            if not rest or isinstance(_value(line), BadField):
                data = b"".join(chain((line,), (more for _, more in rest), (more for _, more in lines)))
                for item, record in enumerate(_items(path, number, data), 1):
                    yield Item(item), record
                return
            # A list among other lines: JSON Lines, of which this one is wrong.
            lines = chain(rest, lines)  # type: ignore[assignment]
        yield number, object_of(line)
        break
    for number, line in lines:
        if not line.isspace():
            yield number, object_of(line)


def _until_text(lines: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Lines up to the first that is not blank; empty if there is none."""
    seen = []
    for number, line in lines:
        seen.append((number, line))
        if not line.isspace():
            return seen
    return []


def object_of(line: bytes) -> Record | BadField:
    """A JSON object of UTF-8 text, or why it is none."""
    try:
        text = line.decode()
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as e:
        return _damage(line, e)
    return _checked(value, line)


def _checked(value: object, line: bytes) -> Record | BadField:
    if type(value) is not dict:
        return BadField(None, _OBJECT, quote(value))
    if (b"\\ud" in line or b"\\uD" in line) and not _is_text(value):
        return BadField(None, "text", "an unpaired surrogate (`\\ud800` to `\\udfff`), which is no character")
    return value


def _is_text(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _damage(line: bytes, error: Exception) -> BadField:
    """What to say of a line that is not JSON: where it breaks off, and what stands there."""
    at, why, text = _reason(line, error)
    shown = line.strip()
    if isinstance(error, UnicodeDecodeError):
        return BadField(None, "UTF-8 text", f"{why} at column {at + 1}: {excerpt(text, at)}")
    if not isinstance(error, json.JSONDecodeError):
        return BadField(None, _OBJECT, f"{why}: {quote(line)}")
    if not text[:at].strip():
        return BadField(None, _OBJECT, quote(line))
    is_cut = not line.endswith(b"\n") and (at >= len(text.rstrip()) or error.msg.startswith("Unterminated string"))
    hint = "one record per line: `jq -c . FILE` joins the lines of each record" if shown == b"{" else None
    found = f"damage at column {at + 1} ({why}): {excerpt(text, at)}"
    return BadField(None, _OBJECT, found, hint=hint, truncated=is_cut)


def _reason(data: bytes, error: Exception) -> tuple[int, str, str]:
    """(position of the damage, what is wrong there, the text)."""
    if isinstance(error, UnicodeDecodeError):
        before = data[: error.start].decode("utf-8", "replace")
        return len(before), f"byte 0x{data[error.start]:02x}", data.decode("utf-8", "replace")
    text = data.decode()
    if isinstance(error, json.JSONDecodeError):
        return error.pos, f"{error.msg[:1].lower()}{error.msg[1:].removesuffix(' starting at')}", text
    return 0, "lists or objects nested too deeply" if isinstance(error, RecursionError) else str(error), text


def _value(line: bytes) -> object:
    try:
        return _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as e:
        return _damage(line, e)


def _items(path: Path, first_line: int, data: bytes) -> Iterator[Record | BadField]:
    """Items one after the other, so that damage is named by its place in the file. DatasetError at the first damage: what
    stands behind it cannot be told apart.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as cause:
        raise _document_error(path, data, cause, first_line) from cause
    has_surrogates = "\\ud" in text or "\\uD" in text
    at = _skip(text, _skip(text, 0) + 1)
    number = 0
    while text[at : at + 1] != "]" or number:
        number += 1
        try:
            value, end = _item(text, at)
            yield (
                value
                if isinstance(value, BadField)
                else _checked(value, text[at:end].encode() if has_surrogates else b"")
            )
            at = _skip(text, end)
            if text[at : at + 1] == "]":
                break
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _skip(text, at + 1)
        except (ValueError, RecursionError) as cause:
            raise _document_error(path, data, cause, first_line, number) from cause
    behind = _skip(text, at + 1)
    if behind < len(text):
        error = json.JSONDecodeError("Extra data", text, behind)
        raise _document_error(path, data, error, first_line, number)


def _item(text: str, at: int) -> tuple[object, int]:
    """(value that begins at `at`, where it ends); a number JSON does not have costs its item only."""
    try:
        return _DECODER.raw_decode(text, at)
    except _NotJSONError as e:
        return BadField(None, _OBJECT, str(e)), _LENIENT.raw_decode(text, at)[1]


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _document_error(
    path: Path, data: bytes, error: Exception, first_line: int = 1, item: int | None = None
) -> DatasetError:
    at, why, text = _reason(data, error)
    where = f"item {item} of its JSON list" if item else "its JSON"
    if isinstance(error, json.JSONDecodeError) and at >= len(text.rstrip()):
        return DatasetError(f"cannot read `{path}`: it is truncated: it ends in the middle of {where}")
    if not isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return DatasetError(f"cannot read `{path}`: {where} cannot be read: {why}")
    line = text.count("\n", 0, at) + first_line
    column = at - text.rfind("\n", 0, at)
    found = f"line {line}, column {column} ({why}): {excerpt(text, at)}"
    return DatasetError(f"cannot read `{path}`: {where} is damaged at {found}")


def read_json(path: Path) -> object:
    """A whole JSON document. DatasetError if it cannot be read or is no JSON."""
    data = b"".join(iter_lines(path))
    try:
        value: object = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as e:
        raise _document_error(path, data, e) from e
    if (b"\\ud" in data or b"\\uD" in data) and not _is_text(value):
        raise DatasetError(f"cannot read `{path}`: it has an unpaired surrogate (`\\ud800` to `\\udfff`)")
    return value


def first_record(path: Path) -> Record | BadField:
    """The first good record of a JSON file, or the document if it is one object over several lines; else what is wrong with
    the first. DatasetError as `iter_json`.
    """
    records = iter_json(path)
    _, first = next(records)
    if not isinstance(first, BadField):
        return first
    if first.found.startswith("damage"):
        try:
            document = read_json(path)
        except DatasetError:
            document = None
        if isinstance(document, dict):
            return document
    return next((r for _, r in records if not isinstance(r, BadField)), first)


def iter_csv(path: Path) -> Iterator[tuple[int, Record | BadField]]:
    """(number of the line the row begins in, row by column name, or what is wrong with it).

    The first item is the header: (1, {name: name}). DatasetError if the file is empty, not CSV, or names a column twice.
    """
    ended = True
    number = 0

    def text() -> Iterator[str]:
        nonlocal ended, number
        for raw in iter_lines(path):
            number += 1
            ended = raw.endswith(b"\n")
            yield raw.decode()

    rows = csv.reader(text(), strict=True)
    try:
        header = next((row for row in rows if row), [])
        names = [h.strip() for h in header]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise DatasetError(f"cannot read `{path}`: its header names the column `{twice[0]}` twice")
        yield 1, {n: n for n in names}
        begins = rows.line_num + 1
        for row in rows:
            if len(row) == len(names):
                yield begins, dict(zip(names, row, strict=True))
            elif row:
                is_cut = not ended and len(row) < len(names)
                yield begins, BadField(None, f"{len(names)} values", f"{len(row)}", truncated=is_cut)
            begins = rows.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"cannot read `{path}`: line {rows.line_num} is not CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"cannot read `{path}`: line {number} is not UTF-8 text: byte 0x{error.object[error.start]:02x} at column {error.start + 1}",
            "save the file as UTF-8",
        ) from error

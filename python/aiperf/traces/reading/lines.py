"""Lines of a plain, `.gz` or `.zst` file, and what is wrong with one.

`.gz` is read as a stream, so that a long trace never is in memory as text; `.zst` is unpacked whole by the native core.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from aiperf.errors import DatasetError, Note

__all__ = ["BadField", "BadLine", "BadLines", "iter_csv", "iter_lines", "quote", "whole"]

_SHOWN = 60
"""Longest quoted value in a message, characters."""
_LISTED = 100
"""Broken lines kept by `skip_invalid` for the list; the rest are only counted."""


def iter_lines(path: Path) -> Iterator[bytes]:
    """Lines with their line ends. DatasetError if the file cannot be read or its compressed data end too early."""
    try:
        if path.suffix == ".zst":
            from aiperf._core import read_bytes

            yield from io.BytesIO(read_bytes(str(path)))
        elif path.suffix == ".gz":
            with gzip.open(path, "rb") as file:
                yield from file
        else:
            with path.open("rb") as file:
                yield from file
    except FileNotFoundError as e:
        raise DatasetError(f"cannot read the trace: there is no file `{path}`") from e
    except IsADirectoryError as e:
        raise DatasetError(f"cannot read the trace: `{path}` is a directory") from e
    except EOFError as e:
        raise DatasetError(f"cannot read the trace: `{path}` is truncated: its compressed data end too early") from e
    except (gzip.BadGzipFile, zlib.error) as e:
        raise DatasetError(f"cannot read the trace: `{path}` is not gzip data: {e}") from e
    except OSError as e:
        raise DatasetError(f"cannot read the trace `{path}`: {e.strerror or e}") from e
    except ValueError as e:
        raise DatasetError(f"cannot read the trace: `{path}` is not Zstandard data, or truncated: {e}") from e


class BadField(Exception):  # noqa: N818 (a signal inside this package, never shown as it is)
    """`field`: None if the whole line is wrong. `wanted` completes "expected …"; `found`: the value as it stands."""

    def __init__(self, field: str | None, wanted: str, found: str) -> None:
        super().__init__(field, wanted, found)
        self.field, self.wanted, self.found = field, wanted, found


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used."""

    line: int
    field: str | None
    wanted: str
    found: str

    def __str__(self) -> str:
        where = f"field `{self.field}`: " if self.field else ""
        return f"line {self.line}: {where}expected {self.wanted}, found {self.found}"


class BadLines:
    """Fails at the first broken line, or counts them all (`skip_invalid`)."""

    def __init__(self, path: Path, *, skip: bool) -> None:
        self._path, self._skip = path, skip
        self.count = 0
        self.lines: list[BadLine] = []

    def add(self, line: int, bad: BadField, *, truncated: bool = False) -> None:
        """`truncated`: it is the last line and has no line end. DatasetError unless broken lines are skipped."""
        self.count += 1
        found = BadLine(line, bad.field, bad.wanted, bad.found)
        if not self._skip:
            self._fail(found, truncated=truncated)
        if len(self.lines) < _LISTED:
            self.lines.append(found)

    def _fail(self, bad: BadLine, *, truncated: bool) -> NoReturn:
        where = f"line {bad.line} of `{self._path}`"
        if truncated:
            raise DatasetError(
                f"cannot read the trace: `{self._path}` is truncated: its last line, {bad.line}, ends in the middle",
                "fetch the file again, or leave the line out with `--skip-invalid`",
            )
        field = f": field `{bad.field}`" if bad.field else ""
        raise DatasetError(
            f"cannot read the trace: {where}{field}: expected {bad.wanted}, found {bad.found}",
            "`--skip-invalid` leaves such lines out and counts them; `aiperf trace validate` lists them all",
        )

    def notes(self) -> tuple[Note, ...]:
        if not self.count:
            return ()
        first = "; ".join(str(b) for b in self.lines[:3])
        listed = [{"line": b.line, "field": b.field, "expected": b.wanted, "found": b.found} for b in self.lines]
        text = f"lines left out that cannot be read: {self.count:,} ({first})"
        return (Note("invalid_lines", text, {"count": self.count, "lines": listed}),)


def quote(value: object) -> str:
    """A value as it stands in the file, shortened, in backticks. `bytes`: a raw line."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        text = value[: 4 * _SHOWN].decode("utf-8", "replace").strip()
        return f"`{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}`"
    text = (
        value
        if isinstance(value, str) and len(value) > 4 * _SHOWN
        else json.dumps(value, ensure_ascii=False, default=str)
    )
    return f"`{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}`"


def whole(record: dict[str, object], field: str, least: int) -> int:
    """A whole number ≥ `least`; 7.0 and "7" count as 7. BadField if it is missing or something else."""
    value = record.get(field)
    wanted = f"a whole number ≥ {least}"
    if value is None:
        raise BadField(field, wanted, "null" if field in record else f"no such field (there are {fields_of(record)})")
    number: int | None = None
    if type(value) is int:
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str):
        try:
            as_float = float(value)
            number = (
                int(value) if value.strip().lstrip("+-").isdigit() else int(as_float) if as_float.is_integer() else None
            )
        except (ValueError, OverflowError):
            number = None
    if number is None or number < least or number > 0xFFFF_FFFE:
        raise BadField(field, wanted, quote(value))
    return number


def fields_of(record: Sequence[str] | dict[str, object]) -> str:
    names = list(record)
    return ", ".join(f"`{n}`" for n in names[:8]) + (", …" if len(names) > 8 else "") if names else "none"


def iter_csv(path: Path) -> Iterator[tuple[int, dict[str, object] | int, bool]]:
    """(number of the line the row begins in, row by column name or the number of its values if that is wrong, truncated).

    The first item is the header: (1, {name: name}, False). DatasetError if the file is empty or not UTF-8.
    """
    ended = True

    def text() -> Iterator[str]:
        nonlocal ended
        for raw in iter_lines(path):
            ended = raw.endswith(b"\n")
            yield raw.decode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8")

    rows = csv.reader(text(), strict=True)
    try:
        header = next(rows, None)
        if not header:
            raise DatasetError(f"cannot read the trace: `{path}` is empty")
        names = [h.strip() for h in header]
        yield 1, {n: n for n in names}, False
        begins = rows.line_num + 1
        for row in rows:
            if row:
                good = len(row) == len(names)
                yield begins, dict(zip(names, row, strict=True)) if good else len(row), not ended and not good
            begins = rows.line_num + 1
    except csv.Error as e:
        raise DatasetError(f"cannot read the trace: line {rows.line_num} of `{path}` is not CSV: {e}") from e
    except UnicodeDecodeError as e:
        raise DatasetError(f"cannot read the trace: line {rows.line_num + 1} of `{path}` is not UTF-8 text") from e

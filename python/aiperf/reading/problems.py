"""What is wrong with a record: one message for all formats, and the broken ones counted where they are to be left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiperf.errors import DatasetError, Note

__all__ = ["BadField", "BrokenRecords", "Item", "excerpt", "fields_of", "place", "quote", "unused_fields"]

_SHOWN = 60
"""Longest quoted value in a message, characters."""
_AROUND = 24
"""Characters shown on both sides of damage."""
_LISTED = 100
"""Broken records kept for the list; the rest are only counted."""
_SKIP = "`--skip-invalid` leaves such {}s out and counts them"


class Item(int):
    """Number of a record that is an item of a JSON list; a plain number is that of a line."""


def place(number: int) -> str:
    """`line 3`, or `item 3` of a JSON list."""
    return f"item {number}" if isinstance(number, Item) else f"line {number}"


class BadField(Exception):  # noqa: N818 (a signal between reader and format, never shown as it is)
    """`field`: None if the whole record is wrong. `wanted` completes "expected …"; `found`: the value as it stands.

    `truncated`: it is the file's last line and ends in the middle.
    """

    def __init__(
        self, field: str | None, wanted: str, found: str, *, hint: str | None = None, truncated: bool = False
    ) -> None:
        super().__init__(field, wanted, found)
        self.field, self.wanted, self.found = field, wanted, found
        self.hint, self.truncated = hint, truncated

    def __str__(self) -> str:
        where = f"field `{self.field}`: " if self.field else ""
        return f"{where}expected {self.wanted}, found {self.found}"


class BrokenRecords:
    """Fails at the first broken record, or counts them all (`skip`). `hint`: what else can be done."""

    def __init__(self, *, skip: bool, hint: str = "") -> None:
        self._skip, self._hint = skip, hint
        self.count = 0
        self._listed: list[dict[str, object]] = []

    def add(self, path: Path | str, number: int, bad: BadField, unit: str | None = None) -> None:
        """DatasetError unless broken records are left out. `unit`: what the number counts, if it does not tell itself."""
        where = place(number) if unit is None else f"{unit} {number}"
        unit = where.partition(" ")[0]
        self.count += 1
        if not self._skip:
            more = "; ".join(t for t in (bad.hint or "", _SKIP.format(unit), self._hint) if t)
            if bad.truncated:
                what = f"cannot read `{path}`: it is truncated: its last line, {number}, ends in the middle"
                raise DatasetError(what, "fetch the file again, or leave the line out with `--skip-invalid`")
            raise DatasetError(f"cannot read `{path}`: {where}: {bad}", more)
        if len(self._listed) < _LISTED:
            found = {"field": bad.field, "expected": bad.wanted, "found": bad.found}
            self._listed.append({"line": number, "unit": unit, "text": f"{where}: {bad}", **found})

    def notes(self) -> tuple[Note, ...]:
        if not self.count:
            return ()
        first = "; ".join(str(bad["text"]) for bad in self._listed[:3])
        text = (
            f"{_plural(self.count)} left out because {'it' if self.count == 1 else 'they'} could not be read ({first})"
        )
        return (Note("invalid_lines", text, {"count": self.count, "lines": list(self._listed)}),)


def _plural(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"


def unused_fields(counts: Mapping[str, int]) -> tuple[Note, ...]:
    """A note of the fields that nothing reads, with the number of records that have them; most frequent first."""
    if not counts:
        return ()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"`{name}` ({count:,})" for name, count in ordered[:8]) + (", …" if len(ordered) > 8 else "")
    text = f"fields of the file that are not used, with the number of their records: {listed}"
    return (Note("unused_fields", text, {"count": len(ordered), "fields": dict(ordered[:_LISTED])}),)


def quote(value: object) -> str:
    """A value as it stands in the file, shortened, in backticks. `bytes`: a raw line."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        text = value[: 4 * _SHOWN].decode("utf-8", "replace").strip()
    elif isinstance(value, str) and len(value) > 4 * _SHOWN:
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    text = text.encode("utf-8", "backslashreplace").decode()
    return f"`{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}`"


def excerpt(text: str, at: int) -> str:
    """The text around position `at`, in backticks: what a message shows of damage in a long line."""
    begin, end = max(0, at - _AROUND), at + _AROUND
    shown = text[begin:end].replace("\n", " ").replace("\r", " ").strip()
    return f"`{'…' if begin else ''}{shown}{'…' if end < len(text.rstrip()) else ''}`"


def fields_of(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(f"`{n}`" for n in listed[:8]) + (", …" if len(listed) > 8 else "") if listed else "none"

"""Rows into columns: flat arrays that grow, so a trace of a million lines costs its numbers and no objects."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError, Note
from aiperf.reading.problems import BadField, BrokenRecords, fields_of, quote, unused_fields
from aiperf.reading.records import Record, iter_csv, iter_json
from aiperf.traces import NO_TIME, UNKNOWN, Content, TraceOptions, TraceTable, counted

__all__ = ["Row", "TableBuilder", "date_ns", "milliseconds", "read_csv", "read_jsonl", "time_ns", "whole"]

_CHUNK = 1 << 22
"""Blocks looked at together in the checks: bounds their memory to a few times this, bytes."""


_LAST_NS = (1 << 63) - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"\.(\d+)")


class Row:
    """One request, filled by a format's parser; reused for the next line."""

    __slots__ = ("at_ns", "content", "delay_ns", "hash_ids", "input_length", "output_length", "session", "whole")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.at_ns = NO_TIME
        self.delay_ns = 0
        self.input_length = UNKNOWN
        self.output_length = UNKNOWN
        self.hash_ids: list[int] | None = None
        self.session: str | None = None
        self.whole = True
        self.content: Content | None = None


class TableBuilder:
    """Collects rows; `build` gives the table with the notes that the columns themselves tell."""

    def __init__(self) -> None:
        self._at, self._delay = array("q"), array("q")
        self._isl, self._osl = array("I"), array("I")
        self._ends, self._ids = array("q", [0]), array("q")
        self._session, self._line, self._whole = array("i"), array("I"), bytearray()
        self._names: dict[str, int] = {}
        self._num_sessions = 0
        self._contents: dict[int, Content] = {}
        self._large_ids = 0

    def __len__(self) -> int:
        return len(self._at)

    def add(self, line: int, row: Row) -> None:
        """BadField, and nothing added, if the hash ids are not a list of 64-bit whole numbers."""
        ids = row.hash_ids
        if ids:
            before = len(self._ids)
            try:
                self._ids.extend(ids)
            except (TypeError, OverflowError):
                del self._ids[before:]
                self._ids.extend(_as_int64(ids))
                self._large_ids += sum(i >> 63 > 0 for i in ids)
        if row.content is not None:
            self._contents[len(self._at)] = row.content
        self._at.append(row.at_ns)
        self._delay.append(row.delay_ns)
        self._isl.append(row.input_length)
        self._osl.append(row.output_length)
        self._ends.append(len(self._ids))
        name = row.session
        if name is None:
            number = self._num_sessions
            self._num_sessions += 1
        else:
            number = self._names.setdefault(name, self._num_sessions)
            if number == self._num_sessions:
                self._num_sessions += 1
        self._session.append(number)
        self._line.append(line)
        self._whole.append(row.whole)

    def build(self, path: Path, name: str, block_size: int, notes: tuple[Note, ...] = ()) -> TraceTable:
        """DatasetError if there is not one row."""
        if not self._at:
            why = "none of its lines can be used" if notes else "it has no rows"
            raise DatasetError(f"cannot read `{path}`: {why}", notes[0].text if notes else None)
        table = TraceTable(
            path=path,
            format=name,
            block_size=block_size,
            at_ns=np.frombuffer(self._at, np.int64),
            delay_ns=np.frombuffer(self._delay, np.int64),
            input_length=np.frombuffer(self._isl, np.uint32),
            output_length=np.frombuffer(self._osl, np.uint32),
            hash_offsets=np.frombuffer(self._ends, np.int64),
            hash_ids=np.frombuffer(self._ids, np.int64) if self._ids else np.empty(0, np.int64),
            session=np.frombuffer(self._session, np.int32),
            whole=np.frombuffer(self._whole, np.bool_),
            line=np.frombuffer(self._line, np.uint32),
            session_names={number: given for given, number in self._names.items()},
            contents=self._contents,
        )
        return replace(table, notes=(*notes, *_notes(table), *self._signed(table)))

    def _signed(self, table: TraceTable) -> tuple[Note, ...]:
        """A negative id is the unsigned number of the same 64 bits: right unless the file has that number too."""
        negative = int((table.hash_ids < 0).sum()) - self._large_ids
        if not negative:
            return ()
        if self._large_ids:
            raise DatasetError(
                f"cannot read `{table.path}`: it has hash ids below 0 ({negative:,}) and of 2⁶³ or more "
                f"({self._large_ids:,}), which 64 bits cannot tell apart",
                "write all ids as signed or all as unsigned numbers of 64 bits",
            )
        text = "hash ids below 0: {count}; each is read as the unsigned number of the same 64 bits (−1 as 2⁶⁴−1)"
        return (counted("negative_hash_ids", negative, text),)


def _as_int64(ids: list[int]) -> list[int]:
    out = []
    for i in ids:
        if type(i) is not int or not -(1 << 63) <= i < 1 << 64:
            raise BadField("hash_ids", "a list of whole numbers of at most 64 bits", quote(i))
        out.append(i - (1 << 64) if i >= 1 << 63 else i)
    return out


def _notes(table: TraceTable) -> tuple[Note, ...]:
    known = table.at_ns[table.at_ns >= 0]
    size = table.block_size
    counts = np.diff(table.hash_offsets)
    has = (counts > 0) & (table.input_length != UNKNOWN)
    blocks = -(-table.input_length.astype(np.int64) // size)
    data = {"block_size": size}
    reasons: tuple[tuple[str, int, str, dict[str, int]], ...] = (
        (
            "sorted",
            int((known < np.maximum.accumulate(known)).sum()),
            "lines earlier than a line before them: {count}; the trace is sorted by time",
            {},
        ),
        (
            "hash_ids_too_many",
            int((has & (counts > blocks)).sum()),
            f"lines with more hash ids than their input length has blocks of {size} tokens: {{count}}; the surplus is ignored",
            data,
        ),
        (
            "hash_ids_too_few",
            int((has & (counts < blocks)).sum()),
            f"lines with fewer hash ids than their input length has blocks of {size} tokens: {{count}}; fresh text fills the rest",
            data,
        ),
        (
            "hash_id_sizes",
            _ids_of_two_sizes(table, counts, blocks),
            "hash ids that stand for blocks of different sizes: {count}; the same id should mean the same tokens",
            data,
        ),
        (
            "no_output",
            int((table.output_length == 0).sum()),
            "lines with an output length of 0: {count}; one token is asked for",
            {},
        ),
    )
    return tuple(counted(kind, count, text, **more) for kind, count, text, more in reasons if count)


def _ids_of_two_sizes(table: TraceTable, counts: NDArray[np.int64], blocks: NDArray[np.int64]) -> int:
    """Ids that are a partial last block in one place and full, or partial at another size, elsewhere."""
    partial = (
        (counts > 0)
        & (counts == blocks)
        & (table.input_length % table.block_size != 0)
        & (table.input_length != UNKNOWN)
    )
    if not partial.any():
        return 0
    rows = np.nonzero(partial)[0]
    ids = table.hash_ids[table.hash_offsets[rows + 1] - 1]
    sizes = table.input_length[rows] % table.block_size
    unique, where = np.unique(ids, return_inverse=True)
    smallest = np.full(len(unique), UNKNOWN, np.uint32)
    largest = np.zeros(len(unique), np.uint32)
    np.minimum.at(smallest, where, sizes)
    np.maximum.at(largest, where, sizes)
    differ = smallest != largest
    is_last = np.zeros(len(table.hash_ids), np.bool_)
    is_last[table.hash_offsets[rows + 1] - 1] = True
    for start in range(0, len(table.hash_ids), _CHUNK):
        values = table.hash_ids[start : start + _CHUNK][~is_last[start : start + _CHUNK]]
        at = np.minimum(np.searchsorted(unique, values), len(unique) - 1)
        differ[at[unique[at] == values]] = True
    return int(differ.sum())


def time_ns(record: dict[str, object], field: str, scale: int) -> int:
    """A time ≥ 0 in units of `scale` ns, as ns; NO_TIME if the field is missing or null. BadField for anything else."""
    value = record.get(field)
    if value is None:
        return NO_TIME
    if type(value) is int and 0 <= value <= (1 << 63) // scale - 1:
        return value * scale
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().isdecimal() else float(value)
        except ValueError:
            value = -1.0
        if isinstance(value, int) and value * scale <= _LAST_NS:
            return value * scale
    if isinstance(value, float) and 0 <= value < 9e18 / scale:
        return round(value * scale)
    unit = {1: "nanoseconds", 1_000: "microseconds", 1_000_000: "milliseconds", 1_000_000_000: "seconds"}[scale]
    raise BadField(field, f"{unit} ≥ 0", quote(record[field]))


def date_ns(record: dict[str, object], field: str) -> int:
    """An ISO 8601 date and time, up to ns, as ns since 1970; UTC without a zone. BadField for anything else."""
    value = record.get(field)
    text = value.strip() if isinstance(value, str) else ""
    found = _FRACTION.search(text)
    fraction = found[1] if found else ""
    try:
        date = datetime.fromisoformat(text.replace("." + fraction, "", 1) if fraction else text)
    except ValueError as e:
        raise BadField(field, "a date and time", quote(value)) from e
    since = (date if date.tzinfo else date.replace(tzinfo=UTC)) - _EPOCH
    ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)
    if not 0 <= ns <= _LAST_NS:
        raise BadField(field, "a date from 1970 to 2262", quote(value))
    return ns


def milliseconds(ns: int) -> int | float:
    """Ns as a trace writes milliseconds: a whole number where it is one."""
    return ns // 1_000_000 if ns % 1_000_000 == 0 else ns / 1e6


def read_jsonl(
    path: Path,
    name: str,
    options: TraceOptions,
    parse: Callable[[Record, Row], object],
    known: frozenset[str] | None = None,
) -> TraceTable:
    """Of JSON Lines or a JSON list. `parse` fills the row from one object, or raises BadField. Empty lines are nothing.

    `known`: fields the format has a use for, or leaves out on purpose; others are counted in a note. None: any.
    """
    return _read(path, name, options, iter_json(path), parse, known)


def read_csv(
    path: Path,
    name: str,
    options: TraceOptions,
    needed: frozenset[str],
    parse: Callable[[Record, Row], object],
    known: frozenset[str] | None = None,
) -> TraceTable:
    """As `read_jsonl`, for rows of a CSV file with a header; rows for which `parse` is false are none of the trace.

    DatasetError if a column of `needed` is missing.
    """
    rows = iter_csv(path)
    _, header = next(rows)
    columns = [] if isinstance(header, BadField) else list(header)
    if missing := sorted(needed - set(columns)):
        raise DatasetError(
            f"cannot read `{path}`: its header has no column {', '.join(f'`{m}`' for m in missing)}",
            f"columns found: {fields_of(columns)}",
        )
    return _read(path, name, options, rows, parse, known)


def _read(
    path: Path,
    name: str,
    options: TraceOptions,
    records: Iterator[tuple[int, Record | BadField]],
    parse: Callable[[Record, Row], object],
    known: frozenset[str] | None,
) -> TraceTable:
    bad, builder, row = BrokenRecords(skip=options.skip_invalid, hint=_LISTS), TableBuilder(), Row()
    shapes: Counter[tuple[str, ...]] = Counter()
    for number, record in records:
        try:
            if isinstance(record, BadField):
                raise record
            row.clear()
            # A CSV parser is false for a row that is none of the trace; one of JSON returns nothing.
            if parse(record, row) is not False:
                builder.add(number, row)
                if known is not None:
                    shapes[tuple(record)] += 1
        except BadField as e:
            bad.add(path, number, e)
    unused: Counter[str] = Counter()
    for fields, count in shapes.items():
        unused.update(dict.fromkeys(set(fields).difference(known or ()), count))
    return builder.build(path, name, options.block_size, (*bad.notes(), *unused_fields(unused)))


_LISTS = "`aiperf trace validate` lists them all"


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
                int(value)
                if value.strip().lstrip("+-").isdecimal()
                else int(as_float)
                if as_float.is_integer()
                else None
            )
        except (ValueError, OverflowError):
            number = None
    if number is None or number < least or number > 0xFFFF_FFFE:
        raise BadField(field, wanted, quote(value))
    return number

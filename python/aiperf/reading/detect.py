"""Which format a file has, by the fields of its first record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiperf.errors import DatasetError
from aiperf.reading.lines import kind_of
from aiperf.reading.problems import BadField, fields_of
from aiperf.reading.records import first_record, iter_csv

__all__ = ["Format", "detect_format", "first_fields"]


@dataclass(frozen=True, slots=True)
class Format:
    """`fields`: sets of field names; a file whose first record has all of one set is taken for this format. `turns.messages`
    is the field `messages` of the object `turns`, or of the first object in a list. `files`: kinds of file it reads.
    """

    name: str
    fields: tuple[frozenset[str], ...]
    files: frozenset[str]


def first_fields(path: Path) -> frozenset[str]:
    """Names of the first record's fields (CSV: of the columns), and of those of an object or of the first one in a list.

    DatasetError if the file cannot be read, is empty, or has no record.
    """
    if kind_of(path) == "csv":
        _, record = next(iter_csv(path))
    else:
        record = first_record(path)
    if isinstance(record, BadField):
        raise DatasetError(
            f"cannot recognise the format of `{path}`: its first record: {record}",
            "files with columns end in `.csv`; name the format if `--skip-invalid` is to leave such lines out",
        )
    return frozenset(record) | _nested(record)


def _nested(record: Mapping[str, object]) -> frozenset[str]:
    firsts = {n: v[0] if isinstance(v, list) and v else v for n, v in record.items()}
    return frozenset(f"{name}.{inner}" for name, first in firsts.items() if isinstance(first, dict) for inner in first)


def detect_format(path: Path, formats: Iterable[Format], option: str) -> str:
    """The first of the formats that knows the file's fields. DatasetError if there is none; `option` names one."""
    kind = kind_of(path)
    readers = [f for f in formats if kind in f.files]
    if kind == "parquet" and readers:
        return readers[0].name
    fields = first_fields(path)
    for found in readers:
        if any(known <= fields for known in found.fields):
            return found.name
    names = ", ".join(f"`{f.name}`" for f in readers) or "none that reads such a file"
    raise DatasetError(
        f"cannot recognise the format of `{path}`: its first record has the fields "
        f"{fields_of(sorted(f for f in fields if '.' not in f))}",
        f"name it with `{option}`; known: {names}",
    )

"""Which format a file has, from its first record."""

from __future__ import annotations

import json
from pathlib import Path

from aiperf import registry
from aiperf.errors import DatasetError
from aiperf.traces import TraceModule, TraceOptions, TraceTable, trace_module
from aiperf.traces.reading.lines import fields_of, iter_csv, iter_lines

__all__ = ["detect", "is_csv", "read_trace"]

_LAST = "generic"
"""Tried after all others: its field names are common words."""


def is_csv(path: Path) -> bool:
    return ".csv" in path.suffixes[-2:]


def detect(path: Path) -> str:
    """Name of the format. DatasetError if the file cannot be read or no format has its fields."""
    kind = "parquet" if path.suffix == ".parquet" else "csv" if is_csv(path) else "jsonl"
    readers = [n for n in sorted(registry.names("traces"), key=lambda n: n == _LAST) if kind in trace_module(n).FILES]
    if kind == "parquet":
        return readers[0]
    fields = _first_fields(path)
    for name in readers:
        if any(known <= fields for known in trace_module(name).FIELDS):
            return name
    raise DatasetError(
        f"cannot tell which trace format `{path}` has: its first record has the fields {fields_of(sorted(fields))}",
        "name it with `--format`; known: " + ", ".join(f"`{n}`" for n in registry.names("traces")),
    )


def read_trace(path: Path, name: str | None = None, **options: object) -> tuple[TraceModule, TraceOptions, TraceTable]:
    """The table of a file, with the module of its format (`name`, or found out) and the options used."""
    if not path.exists():
        raise DatasetError(f"cannot read the trace: there is no file `{path}`")
    module = trace_module(name or detect(path))
    given = module.Options(path=path, **{k: v for k, v in options.items() if v is not None})
    return module, given, module.read(path, given)


def _first_fields(path: Path) -> frozenset[str]:
    if is_csv(path):
        _, header, _ = next(iter_csv(path))
        return frozenset(header if isinstance(header, dict) else ())
    for number, line in enumerate(iter_lines(path), 1):
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise DatasetError(
                f"cannot tell which trace format `{path}` has: line {number} is not a JSON object",
                "CSV files end in `.csv`; name the format with `--format`",
            )
        return frozenset(record)
    raise DatasetError(f"cannot read the trace: `{path}` is empty")

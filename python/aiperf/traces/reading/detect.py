"""Which trace format a file has, and its table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aiperf import registry
from aiperf.errors import DatasetError
from aiperf.reading.detect import Format, detect_format
from aiperf.reading.lines import require_file
from aiperf.traces import TraceModule, TraceOptions, TraceTable, trace_module

__all__ = ["detect", "read_trace", "trace_formats"]

_LAST = "generic"
"""Tried after all others: its field names are common words."""


def trace_formats() -> Iterator[Format]:
    """In the order they are tried."""
    for name in sorted(registry.names("traces"), key=lambda n: n == _LAST):
        module = trace_module(name)
        yield Format(name, module.FIELDS, module.FILES)


def detect(path: Path) -> str:
    """Name of the format. DatasetError if the file cannot be read or no format has its fields."""
    if path.is_dir():
        first = next((p for p in sorted(path.iterdir()) if p.suffix in {".json", ".jsonl"}), None)
        if first is None:
            raise DatasetError(f"cannot read `{path}`: no `.json` or `.jsonl` file in this folder")
        return detect_format(first, trace_formats(), "--format")
    if {".tar", ".tgz"} & {s.lower() for s in path.suffixes}:
        return "weka_trace"
    return detect_format(path, trace_formats(), "--format")


def read_trace(path: Path, name: str | None = None, **options: object) -> tuple[TraceModule, TraceOptions, TraceTable]:
    """The table of a file, with the module of its format (`name`, or found out) and the options used."""
    require_file(path)
    module = trace_module(name or detect(path))
    given = module.Options(path=path, **{k: v for k, v in options.items() if v is not None})
    return module, given, module.read(path, given)

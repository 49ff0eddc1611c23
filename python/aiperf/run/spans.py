"""Spans of the server joined to a run: what came over the network beside the load, or a file given to `aiperf report` afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.errors import Note, ResultError
from aiperf.records.store import ServerColumns
from aiperf.reports.writing import Outputs, write_pieces
from aiperf.run.run import Run

if TYPE_CHECKING:
    from aiperf.telemetry.spans import Span
    from aiperf.telemetry.spans.join import Traces

__all__ = ["join_file", "join_spans"]


def join_spans(run: Run, spans: Sequence[Span], outputs: Outputs) -> tuple[Run, ServerColumns]:
    """The run with what is to be said about its spans, and the columns they make of its rows; the spans are written to a file."""
    from aiperf.telemetry.spans.otlp import render_jsonl

    if spans:
        with outputs.attempt("server spans", run.files.spans):
            write_pieces(run.files.spans, render_jsonl(spans))
            run = replace(run, written=(*run.written, ("server spans", run.files.spans)))
    from aiperf.telemetry.spans.join import collect
    from aiperf.telemetry.spans.table import SpanTable

    return _joined(run, collect([SpanTable.of(spans)]))


def _joined(run: Run, times: Traces) -> tuple[Run, ServerColumns]:
    from aiperf.telemetry.spans.join import join, span_columns

    joined = join(times, run.columns)
    notes: tuple[Note, ...] = joined.notes()
    offset = joined.offset
    run = run.with_json(server_clock_ns=None if offset is None else (offset.low, offset.high))
    return replace(run, notes=(*run.notes, *notes)), lambda columns: span_columns(joined, columns)


def join_file(run: Run, path: Path, outputs: Outputs) -> tuple[Run, ServerColumns]:
    """ResultError if the file holds no spans. A copy stays in the run directory: as it is if it holds an object a line."""
    from aiperf.telemetry.spans.join import ATTRIBUTES, collect
    from aiperf.telemetry.spans.otlp import is_lines, read_lines, read_spans

    kept = run.files.spans
    if not is_lines(path):
        return join_spans(run, read_spans(path), outputs)
    times = collect(read_lines(path, set(ATTRIBUTES)))
    if not times:
        raise ResultError(f"`{path}` holds no spans")
    if not (kept.exists() and kept.samefile(path)):
        with outputs.attempt("server spans", kept):
            shutil.copyfile(path, kept)
            run = replace(run, written=(*run.written, ("server spans", kept)))
    return _joined(run, times)

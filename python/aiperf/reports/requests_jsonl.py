"""`profile_export.jsonl`: one line per request, keys as AIPerf 0.13 (aiperf-compatibility.md §3), what does not exist left out.

The columns of a batch (≤ 50,000 rows) are built here; writing them as text is native (`aiperf._core.write_jsonl`), one call
per batch. `render_jsonl` is the reference the native writer is tested against: the same bytes.

A line is `{"metadata": {…}, "metrics": {"<tag>": {"value": …, "unit": "…"}, …}}` plus `"error": {"code", "type", "message"}` on rows
that have one, plus `"trace_data": {…}` with --export-http-trace,
and `"spec_decode_acceptance": {…}` where the server told it. Keys come in the order of the columns; a row's cell that is absent leaves its key out (an error's code is
`null` instead). Floats are written as Python's `repr` writes them (shortest text that reads back the same); a column
marked `integers` holds whole numbers, written without a point.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aiperf._core import GapLists
from aiperf.errors import ErrorKind
from aiperf.json_text import json_text
from aiperf.metrics import METRICS, Floats, Ints, Metric, load_all
from aiperf.metrics.chunks import ChunkScan, GapPool, LagPool, RowChunks, scan
from aiperf.metrics.compute import shown
from aiperf.metrics.context import MetricContext, MetricOptions
from aiperf.metrics.error_table import error_code, error_type
from aiperf.metrics.goodput import good_mask
from aiperf.metrics.summary import Phase
from aiperf.records import Columns
from aiperf.reports.agent_metadata import overflowed, source_columns
from aiperf.reports.speculation import acceptance_records

__all__ = [
    "Choices",
    "ErrorColumns",
    "JsonlBatch",
    "JsonlOptions",
    "JsonlWriter",
    "ListColumn",
    "NumberColumn",
    "ObjectColumn",
    "TextColumn",
    "build_jsonl",
    "errors_of",
    "metadata_of",
    "render_jsonl",
]

_INTEGER_UNITS = frozenset({"tokens", "requests", "count"})
_NO_CODE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberColumn:
    """`values`: (rows,) float64, NaN where absent. `integers`: whole numbers. Metadata: `unit` is "" and the value is bare.

    Times in metadata (epoch ns) exceed float64's 53 bits: they come in `exact`, (rows,) int64, absent where `values` is NaN.
    """

    key: str
    unit: str
    values: Floats
    integers: bool = False
    exact: Ints | None = None


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A list per row: values[offsets[i] : offsets[i + 1]] in the shown unit, float64; absent where the list is empty."""

    key: str
    unit: str
    values: Floats
    offsets: Ints


@dataclass(frozen=True, slots=True)
class TextColumn:
    """`values`: (rows,) texts, None where absent."""

    key: str
    values: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Choices:
    """Few distinct JSON values: row i has `json[index[i]]`, a JSON literal (quoted text, `true`, `0`); −1: absent."""

    key: str
    index: NDArray[np.int32]
    json: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObjectColumn:
    """`objects`: (rows,) JSON objects as text, written as they are; None where absent."""

    key: str
    objects: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class ErrorColumns:
    """`rows`: ascending row numbers that have an error; the other three run along it. `codes`: int64, −1 is null."""

    rows: Ints
    codes: Ints
    types: Sequence[str]
    messages: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlBatch:
    """A batch, ready to be written. Keys are plain ASCII."""

    num_rows: int
    metadata: tuple[NumberColumn | TextColumn | Choices, ...]
    metrics: tuple[NumberColumn | ListColumn, ...]
    errors: ErrorColumns
    extra: tuple[ObjectColumn, ...] = ()


class JsonlWriter(Protocol):
    """The native writer: appends the batch's lines to the file and returns the bytes written; releases the GIL."""

    def __call__(self, path: str, batch: JsonlBatch) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlOptions:
    """`sessions`: conversation ids by plan row, empty for `session_000000`, …. `benchmark_id`: seeds the worker's names.
    `http_trace`: with `trace_data` (--export-http-trace). `parents`: by plan row of the session, −1 for a root; empty if all are roots.
    """

    metrics: MetricOptions
    phases: tuple[Phase, ...] = (Phase(),)
    sessions: Sequence[str] = ()
    benchmark_id: str = ""
    http_trace: bool = False
    parents: Sequence[int] = ()


def build_jsonl(columns: Columns, options: JsonlOptions) -> JsonlBatch:
    """The columns of a batch of records; failed and cancelled rows have no metric but error_isl."""
    load_all()
    context = MetricContext(columns, options.metrics)
    lists = _scan(context) if options.metrics.streaming else []
    extra = [ObjectColumn("trace_data", columns.strings("http_trace"))] if options.http_trace else []
    if any(speculation := acceptance_records(columns)):
        extra.append(ObjectColumn("spec_decode_acceptance", speculation))
    return JsonlBatch(
        num_rows=columns.num_rows,
        metadata=_metadata(context, options),
        metrics=_metrics(context, lists),
        errors=_errors(context),
        extra=tuple(extra),
    )


def metadata_of(columns: Columns, options: JsonlOptions) -> Callable[[int], dict[str, object]]:
    """The `metadata` of a row, by its number."""
    found = _metadata(MetricContext(columns, options.metrics), options)
    return lambda row: {key: value for key, value in (_cell(c, row) for c in found) if value is not None}


def errors_of(columns: Columns) -> dict[int, dict[str, object]]:
    """The `error` of each row that has one, by its number."""
    found = _errors(MetricContext(columns, MetricOptions()))
    cells = zip(found.rows.tolist(), found.codes.tolist(), found.types, found.messages, strict=True)
    return {
        row: {"code": None if code == _NO_CODE else code, "type": kind, "message": text}
        for row, code, kind, text in cells
    }


def _scan(context: MetricContext) -> list[ListColumn]:
    """The pass over the chunks: facts for the context, and the gaps of each request by metric that lists them."""
    facts = ChunkScan(RowChunks(context.num_rows), GapPool(), LagPool())
    metrics = [m for m in METRICS.values() if m.kind == "chunks" and _is_listed(m, context)]
    sinks = [GapLists(context.num_rows, m.unit.divisor) for m in metrics]
    scan(context.columns, context.ok, (facts.rows.sink, *sinks))
    context.set_chunks(facts)
    return [ListColumn(m.tag, m.unit.shown, *sink.take()) for m, sink in zip(metrics, sinks, strict=True)]


def _is_listed(metric: Metric, context: MetricContext) -> bool:
    if not metric.is_exported or metric.kind in ("scalar", "weighted") or "no_individual" in metric.flags:
        return False
    return context.options.streaming or not metric.needs_streaming


def _times(context: MetricContext, key: str, values: Floats) -> NumberColumn:
    """Epoch ns, exact: run time is below 2⁵³ ns (104 days), only the sum is not."""
    exact = np.where(np.isnan(values), 0.0, values).astype(np.int64) + context.columns.start_wall_ns
    return NumberColumn(key=key, unit="", values=values, integers=True, exact=exact)


def _whole(key: str, values: Floats) -> NumberColumn:
    return NumberColumn(key=key, unit="", values=values, integers=True)


def _choices(key: str, index: Floats | Ints, values: Sequence[object]) -> Choices:
    chosen = np.nan_to_num(np.asarray(index, dtype=np.float64), nan=-1.0).astype(np.int32)
    return Choices(key, chosen, tuple(json_text(v) for v in values))


def _worker_names(count: int, benchmark_id: str, prefix: str) -> list[str]:
    from zlib import crc32

    return [f"{prefix}_{crc32(f'{benchmark_id}/{prefix}/{i}'.encode()):08x}" for i in range(count)]


def _metadata(context: MetricContext, options: JsonlOptions) -> tuple[NumberColumn | TextColumn | Choices, ...]:
    columns = context.columns
    phase = np.minimum(np.nan_to_num(context.column("phase")), len(options.phases) - 1).astype(np.int64)
    kinds = [p.kind for p in options.phases]
    profiling_index = np.cumsum([k == "profiling" for k in kinds]) - 1
    is_profiling = np.array([k == "profiling" for k in kinds])
    worker = np.nan_to_num(context.column("worker"))
    num_workers = int(worker.max(initial=0)) + 1
    session = context.column("session")
    correlation = columns.texts("correlation_id")
    request_end = np.where(context.ok, context.finish, context.column("end"))
    # Head and body may come in one read, whose kernel timestamp is earlier than the moment the head was parsed.
    ack = np.where(context.column("status") == 200, np.fmin(context.column("headers"), request_end), np.nan)
    cancelled = context.cancelled
    cancelled_at = np.where(
        np.isnan(context.column("cancelled_at")), context.column("end"), context.column("cancelled_at")
    )
    return (
        _whole("session_num", context.column("session_num")),
        TextColumn("x_request_id", columns.texts("request_id")),
        TextColumn("x_correlation_id", correlation),
        TextColumn("conversation_id", _conversations(session, options.sessions)),
        _whole("turn_index", np.nan_to_num(context.column("turn"))),
        _times(context, "credit_issued_ns", context.scheduled),
        _times(context, "request_start_ns", context.start),
        _times(context, "request_ack_ns", ack),
        _times(context, "request_end_ns", request_end),
        _choices("worker_id", worker, _worker_names(num_workers, options.benchmark_id, "worker")),
        _choices("record_processor_id", worker, _worker_names(num_workers, options.benchmark_id, "record_processor")),
        _choices("benchmark_phase", phase, kinds),
        _whole("phase_index", phase.astype(np.float64)),
        _whole("profiling_index", np.where(is_profiling[phase], profiling_index[phase], np.nan)),
        _choices("phase_name", phase, [p.name for p in options.phases]),
        _choices("phase_kind", phase, kinds),
        _choices("was_cancelled", cancelled.astype(np.int64), (False, True)),
        _times(context, "cancellation_time_ns", np.where(cancelled, cancelled_at, np.nan)),
        _choices("context_overflow_skip", overflowed(context), (False, True)),
        *_tree(session, correlation, options.parents),
        *(_agent_column(key, values) for key, values in source_columns(context).items()),
    )


def _tree(
    session: Floats, correlation: Sequence[str | None], parents: Sequence[int]
) -> tuple[TextColumn | Choices, ...]:
    """Whose child a request's session is."""
    if not parents:
        return (
            _choices("agent_depth", np.zeros(len(session), dtype=np.int64), (0,)),
            TextColumn("root_correlation_id", correlation),
        )
    from aiperf.records.session_tree import SessionTree

    tree = SessionTree(parents)
    rows = session.astype(np.int64)
    depth = tree.depth(rows)
    return (
        _choices("agent_depth", depth, tuple(range(int(depth.max(initial=0)) + 1))),
        TextColumn("parent_correlation_id", tree.parent_ids(rows, correlation)),
        TextColumn("root_correlation_id", tree.root_ids(rows, correlation)),
    )


def _agent_column(key: str, values: Sequence[str | None] | Ints) -> NumberColumn | TextColumn:
    if not isinstance(values, np.ndarray):
        return TextColumn(key, values)
    return _whole(key, np.where(values < 0, np.nan, values).astype(np.float64))


def _conversations(session: Floats, names: Sequence[str]) -> list[str | None]:
    numbers = np.nan_to_num(session, nan=-1.0).astype(np.int64)
    if not names:
        return [None if n < 0 else f"session_{n:06d}" for n in numbers.tolist()]
    count = len(names)
    if ((numbers >= 0) & (numbers < count)).all():
        return list(map(names.__getitem__, numbers.tolist()))
    return [names[n] if 0 <= n < count else None for n in numbers.tolist()]


def _metrics(context: MetricContext, lists: Sequence[ListColumn]) -> tuple[NumberColumn | ListColumn, ...]:
    out: list[NumberColumn | ListColumn] = []
    for tag, metric in METRICS.items():
        if not _is_listed(metric, context):
            continue
        if metric.kind == "chunks":
            out += (column for column in lists if column.key == tag)
            continue
        unit = metric.unit.shown
        # In the records cancelled requests keep their prompt's length too, as AIPerf's.
        values = (
            np.where(context.ok, np.nan, context.input_tokens)
            if tag == "error_isl"
            else shown(metric, context.value(tag))
        )
        whole = unit in _INTEGER_UNITS or tag == "http_req_connection_reused"
        if not np.isnan(values).all():
            out.append(NumberColumn(key=tag, unit=unit, values=values, integers=whole))
    if context.options.slos:
        good = np.where(context.ok, good_mask(context, context.options.slos).astype(np.float64), np.nan)
        out.append(NumberColumn(key="good_request_count", unit="requests", values=good, integers=True))
    return tuple(out)


def _errors(context: MetricContext) -> ErrorColumns:
    rows = np.flatnonzero(~context.ok)
    if not len(rows):
        return ErrorColumns(rows, np.zeros(0, dtype=np.int64), (), ())
    kinds = [ErrorKind(int(k)) for k in context.error_kind[rows].tolist()]
    statuses = [int(s) for s in np.nan_to_num(context.column("status")[rows]).tolist()]
    texts = context.columns.strings("error_message")
    codes = [error_code(k, s) for k, s in zip(kinds, statuses, strict=True)]
    return ErrorColumns(
        rows,
        np.array([_NO_CODE if c is None else c for c in codes], dtype=np.int64),
        [error_type(k, s) for k, s in zip(kinds, statuses, strict=True)],
        [texts[i] or "" for i in rows.tolist()],
    )


def render_jsonl(batch: JsonlBatch) -> bytes:
    """The lines in plain Python: the reference for the native writer, and for small tests."""
    errors = dict(
        zip(
            batch.errors.rows.tolist(),
            zip(batch.errors.codes.tolist(), batch.errors.types, batch.errors.messages, strict=True),
            strict=True,
        )
    )
    lines: list[str] = []
    for row in range(batch.num_rows):
        line: dict[str, object] = {
            "metadata": {k: v for k, v in (_cell(c, row) for c in batch.metadata) if v is not None},
            "metrics": {
                c.key: {"value": v, "unit": c.unit}
                for c, v in ((c, _cell(c, row)[1]) for c in batch.metrics)
                if v is not None
            },
        }
        if row in errors:
            code, kind, message = errors[row]
            line["error"] = {"code": None if code == _NO_CODE else code, "type": kind, "message": message}
        line |= {c.key: json.loads(text) for c in batch.extra if (text := c.objects[row]) is not None}
        lines.append(json_text(line) + "\n")
    return "".join(lines).encode()


def _cell(column: NumberColumn | ListColumn | TextColumn | Choices, row: int) -> tuple[str, object]:
    value: object = None
    match column:
        case NumberColumn():
            number = float(column.values[row])
            if number == number:  # noqa: PLR0124 — NaN is absent
                exact = column.exact
                value = int(exact[row]) if exact is not None else int(number) if column.integers else number
        case ListColumn():
            listed = column.values[int(column.offsets[row]) : int(column.offsets[row + 1])].tolist()
            value = listed or None
        case TextColumn():
            value = column.values[row]
        case Choices():
            index = int(column.index[row])
            value = None if index < 0 else json.loads(column.json[index])
    return column.key, value

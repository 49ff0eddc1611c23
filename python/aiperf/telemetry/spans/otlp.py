"""OTLP to spans: requests as protobuf or JSON, and files as collectors and SDKs write them.

JSON is read natively, for its amount and as OTLP writes ids in hex where protobuf's own JSON has base64
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding). A file may hold one JSON object, one per line, one protobuf
message, or messages with their length in front (4 bytes, big-endian: the collector's file exporter).
"""

from __future__ import annotations

import base64
import binascii
import gzip
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiperf._core import parse_otlp_json
from aiperf.errors import ConfigError, ResultError
from aiperf.json_text import json_text
from aiperf.telemetry.spans.span import Span, Value
from aiperf.telemetry.spans.table import SpanTable

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = [
    "is_lines",
    "parse_json",
    "parse_message",
    "parse_protobuf",
    "parse_table",
    "read_lines",
    "read_spans",
    "render_jsonl",
    "request_class",
]

_LENGTH_BYTES = 4
_SPANS_A_LINE = 500
_SHAPES = "give OTLP as a collector's file exporter writes it: JSON (one object, or one a line) or protobuf"


def request_class() -> Callable[[], ExportTraceServiceRequest]:
    """The protobuf message of a request. ConfigError without the packages."""
    try:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError as error:
        raise ConfigError(
            "`--engine-traces` needs opentelemetry-proto and grpcio", "pip install 'aiperf[traces]'"
        ) from error
    # Without the packages the name has no type.
    found: Callable[[], ExportTraceServiceRequest] = ExportTraceServiceRequest
    return found


def parse_protobuf(data: bytes) -> list[Span]:
    """ValueError if it is not an export request."""
    from google.protobuf.message import DecodeError

    message = request_class()()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"not an OTLP export request: {error}") from error
    return parse_message(message)


def parse_message(message: ExportTraceServiceRequest) -> list[Span]:
    """The spans of a decoded request."""
    return [
        Span(
            trace=span.trace_id.hex(),
            parent=span.parent_span_id.hex(),
            name=span.name,
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes={a.key: v for a in span.attributes if (v := _protobuf_value(a.value)) is not None},
        )
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _protobuf_value(value: Any) -> Value | None:
    kind = value.WhichOneof("value")
    if kind not in {"string_value", "bool_value", "int_value", "double_value"}:
        return None
    found: Value = getattr(value, kind)
    return found


def parse_json(text: str | bytes) -> list[Span]:
    """ValueError if it is not an export request."""
    return list(parse_table(text.encode() if isinstance(text, str) else text).spans())


def parse_table(text: bytes, wanted: set[str] | None = None) -> SpanTable:
    """As `parse_json`. `wanted`: keys of the attributes to keep; None: all of them."""
    try:
        table = parse_otlp_json(text, wanted)
    except ValueError as error:
        raise ValueError(f"not an OTLP export request: {error}") from error
    return SpanTable(
        traces=[_hex(i, 32) for i in table["traces"]],
        parents=[_hex(i, 16) if i else i for i in table["parents"]],
        names=table["names"],
        starts_ns=table["starts"],
        ends_ns=table["ends"],
        rows=table["rows"],
        keys=table["keys"],
        key_names=table["key_names"],
        values=table["values"],
    )


def _hex(text: str, digits: int) -> str:
    """Hex as OTLP says; base64 as protobuf's JSON writes bytes, which some tools do."""
    if len(text) == digits:
        return text.lower()
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return text.lower()


def render_jsonl(spans: Sequence[Span]) -> Iterator[bytes]:
    """OTLP JSON, at most 500 spans a line; `read_spans` reads it again."""
    for at in range(0, len(spans), _SPANS_A_LINE):
        entries = [
            {
                "traceId": span.trace,
                **({"parentSpanId": span.parent} if span.parent else {}),
                "name": span.name,
                "startTimeUnixNano": str(span.start_ns),
                "endTimeUnixNano": str(span.end_ns),
                "attributes": [{"key": k, "value": _to_json(v)} for k, v in span.attributes.items()],
            }
            for span in spans[at : at + _SPANS_A_LINE]
        ]
        line = {"resourceSpans": [{"scopeSpans": [{"spans": entries}]}]}
        yield json_text(line, separators=(",", ":")).encode() + b"\n"


def _to_json(value: Value) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def read_spans(path: Path) -> list[Span]:
    """All spans of a file, gzip or not. ResultError if it cannot be read or holds none."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise ResultError(f"cannot read the spans in `{path}`: {error}") from error
    try:
        spans = _parse_file(data)
    except ValueError as error:
        raise ResultError(
            f"cannot read the spans in `{path}`: {error}",
            _SHAPES,
        ) from error
    if not spans:
        raise ResultError(f"`{path}` holds no spans")
    return spans


def is_lines(path: Path) -> bool:
    """Is the file OTLP JSON, an object a line, as `render_jsonl` writes it? False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return all(line.startswith(b"{") and line.rstrip().endswith(b"}") for line in file if line.strip())
    except OSError:
        return False


def read_lines(path: Path, wanted: set[str]) -> Iterator[SpanTable]:
    """The spans of a file of which `is_lines` holds, those of a line at a time: few of a large file are in memory. ResultError."""
    try:
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield parse_table(line, wanted)
    except (OSError, ValueError) as error:
        raise ResultError(f"cannot read the spans in `{path}`: {error}", _SHAPES) from error


def _parse_file(data: bytes) -> list[Span]:
    if data.lstrip()[:1] == b"{":
        try:
            return parse_json(data)
        except ValueError:
            lines = [line for line in data.splitlines() if line.strip()]
            if len(lines) < 2:
                raise
            return [span for line in lines for span in parse_json(line)]
    pieces = _pieces(data)
    return [span for piece in pieces for span in parse_protobuf(piece)]


def _pieces(data: bytes) -> Sequence[bytes]:
    """Messages with their length in front, else the whole as one."""
    out: list[bytes] = []
    at = 0
    while at + _LENGTH_BYTES <= len(data):
        size = int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        if size == 0 or at + _LENGTH_BYTES + size > len(data):
            break
        out.append(data[at + _LENGTH_BYTES : at + _LENGTH_BYTES + size])
        at += _LENGTH_BYTES + size
    return out if at == len(data) and out else [data]

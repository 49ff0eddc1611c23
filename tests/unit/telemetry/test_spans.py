"""OTLP in and out, joined to records: shapes of several servers, clocks that differ, spans of strangers, broken requests."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from aiperf.errors import ConfigError, ResultError
from aiperf.records import Columns
from aiperf.telemetry.spans import Span
from aiperf.telemetry.spans import join as joining
from aiperf.telemetry.spans.join import Traces, join, span_columns
from aiperf.telemetry.spans.otlp import parse_json, read_spans, render_jsonl
from aiperf.telemetry.spans.receiver import Receiver, parse_address, start_receiver
from aiperf.telemetry.spans.span import client_span
from aiperf.telemetry.spans.table import SpanTable

MS = 1_000_000
WALL = 1_700_000_000_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = client_span(TRACE)
VLLM = {
    "gen_ai.usage.prompt_tokens": 10,
    "gen_ai.latency.time_in_queue": 0.02,
    "gen_ai.latency.time_to_first_token": 0.05,
    "gen_ai.latency.time_in_model_prefill": 0.03,
    "gen_ai.latency.time_in_model_decode": 0.1,
    "gen_ai.latency.e2e": 0.15,
}


def collect(spans: Sequence[Span]) -> Traces:
    """As if a request had come with each."""
    return joining.collect(SpanTable.of([span]) for span in spans)


def span(
    trace: str = TRACE, name: str = "llm_request", start: int = WALL, length: int = 150 * MS, **more: object
) -> Span:
    attributes = more.get("attributes", {})
    assert isinstance(attributes, dict)
    return Span(trace=trace, name=name, start_ns=start, end_ns=start + length, attributes=attributes)


def records(*traces: str, sent: float = -1.0 * MS, end: float = 151.0 * MS) -> Columns:
    """Requests with these ids, sent and ended at these run times."""
    n = len(traces)
    ids: list[str | None] = [f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in traces]
    columns = {"sent": np.full(n, sent), "end": np.full(n, end), "error_kind": np.zeros(n)}
    return Columns.from_arrays(columns, strings={"request_id": ids}, start_wall_ns=WALL)


@pytest.mark.parametrize(
    ("spans", "queue", "prefill", "decode", "total"),
    [
        ([span(attributes=VLLM)], 20, 30, 100, 150),
        ([span(attributes={k: v for k, v in VLLM.items() if "model" not in k})], 20, 30, 100, 150),  # vLLM before 0.7
        (
            [span(name="generate", attributes={"queue_time": "5ms", "inference_time": "0.12s", "total_time": "130ms"})],
            5,
            None,
            None,
            130,
        ),
        (
            [
                span(name="Req 1"),
                span(name="request waiting", start=WALL + MS, length=7 * MS),
                span(name="prefill_forward", start=WALL + 8 * MS, length=40 * MS),
                span(name="decode_loop", start=WALL + 48 * MS, length=60 * MS),
            ],
            7,
            40,
            60,
            150,
        ),
    ],
)
def test_each_server_s_spans_say_what_it_waited_for(
    spans: list[Span], queue: float, prefill: float | None, decode: float | None, total: float
) -> None:
    times = collect(spans)[TRACE]
    assert times.queue == pytest.approx(queue * MS)
    assert times.total == pytest.approx(total * MS)
    for found, wanted in ((times.prefill, prefill), (times.decode, decode)):
        assert np.isnan(found) if wanted is None else found == pytest.approx(wanted * MS)


@pytest.mark.parametrize(("ahead", "low", "high"), [(0, -1, 1), (5000, 4999, 5001), (-40, -41, -39)])
def test_the_server_s_clock_may_be_ahead_or_behind(ahead: int, low: float, high: float) -> None:
    columns = records(TRACE)
    joined = join(collect([span(start=WALL + ahead * MS, attributes=VLLM)]), columns)
    assert joined.offset is not None
    assert (joined.offset.low / MS, joined.offset.high / MS) == (low, high)
    assert joined.offset.bound <= 2 * MS
    made = span_columns(joined, columns)
    assert abs(made["server_arrival"][0]) <= 1.0 * MS
    assert made["server_queue_ns"].tolist() == [20 * MS]
    assert made["server_source"].tolist() == [3]
    assert joined.notes() == ()


def test_a_clock_that_jumps_is_said() -> None:
    other = TRACE[::-1]
    columns = records(TRACE, other)
    joined = join(collect([span(attributes=VLLM), span(other, start=WALL + 900 * MS, attributes=VLLM)]), columns)
    assert [n.kind for n in joined.notes()] == ["server_clock_jumped"]


def test_who_has_gone_and_spans_that_end_late_bound_no_clock() -> None:
    """A server may end an HTTP span when it pleases, and works on for a client that has gone (Dynamo: both)."""
    columns = records(TRACE)
    late = [span(name="http-request", length=400 * MS), span(name="handle_payload", start=WALL + 30 * MS)]
    joined = join(collect(late), columns)
    assert joined.offset is not None
    assert joined.offset.is_consistent
    assert joined.offset.low == -121 * MS, "its last sign of work, 30 ms after its arrival"
    gone = Columns.from_arrays(
        {"sent": np.array([-1.0 * MS]), "end": np.array([10.0 * MS]), "error_kind": np.array([9.0])},
        strings={"request_id": columns.strings("request_id")},
        start_wall_ns=WALL,
    )
    assert join(collect([span(attributes=VLLM)]), gone).offset is None


def test_spans_that_say_nothing_of_its_parts_leave_what_the_response_said() -> None:
    told = {"server_decode_ns": np.array([70.0 * MS]), "server_total_ns": np.array([150.0 * MS])}
    columns = Columns.from_arrays(
        {
            "sent": np.zeros(1),
            "end": np.array([151.0 * MS]),
            "error_kind": np.zeros(1),
            "server_source": np.ones(1),
            **told,
        },
        strings={"request_id": records(TRACE).strings("request_id")},
        start_wall_ns=WALL,
    )
    made = span_columns(join(collect([span(name="http-request", length=149 * MS)]), columns), columns)
    assert made["server_decode_ns"].tolist() == [70 * MS]
    assert made["server_source"].tolist() == [1]
    assert np.isfinite(made["server_arrival"]).all()


def test_a_trace_has_ended_with_the_span_below_the_client_s() -> None:
    """A frontend's spans come seconds after its workers': the trace id alone does not say that all are there."""
    with Receiver("127.0.0.1", 0) as receiver:
        receiver.take([Span(trace=TRACE, parent="c6b68a2e2225eaf9", name="handle_payload", start_ns=1, end_ns=2)])
        began = time.monotonic()
        threading.Timer(
            0.2, receiver.take, [[Span(trace=TRACE, parent=PARENT, name="http", start_ns=0, end_ns=3)]]
        ).start()
        receiver.wait_for(1)
        assert 0.15 <= time.monotonic() - began < 5
        assert len(receiver.stop()) == 2


def test_strangers_and_missing_spans_are_counted() -> None:
    columns = records(TRACE, TRACE[::-1])
    joined = join(collect([span(attributes=VLLM), span("f" * 32, attributes=VLLM)]), columns)
    assert [n.kind for n in joined.notes()] == ["spans_incomplete", "spans_of_strangers"]
    made = span_columns(joined, columns)
    assert made["server_source"].tolist() == [3, 0]
    assert np.isnan(made["server_queue_ns"][1])
    assert [n.kind for n in join(collect([]), columns).notes()] == ["spans_missing"]


def test_files_of_all_shapes_hold_the_same_spans(tmp_path: Path) -> None:
    spans = [span(attributes=VLLM), span("f" * 32, attributes={"a": True, "b": "x", "c": 1.5, "d": 7})]
    text = b"".join(render_jsonl(spans))
    assert parse_json(text) == spans
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for s in spans:
        made = scope.spans.add()
        made.trace_id, made.name = bytes.fromhex(s.trace), s.name
        made.start_time_unix_nano, made.end_time_unix_nano = s.start_ns, s.end_ns
        for key, value in s.attributes.items():
            entry = made.attributes.add()
            entry.key = key
            kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
            setattr(entry.value, kind, value)
    binary = message.SerializeToString()
    framed = len(binary).to_bytes(4, "big") + binary
    indented = json.dumps(json.loads(text), indent=2).encode()
    lines = b"".join(b"".join(render_jsonl([s])) for s in spans)
    for i, data in enumerate((text, lines, indented, binary, framed, framed + framed, gzip.compress(text))):
        path = tmp_path / f"{i}"
        path.write_bytes(data)
        assert read_spans(path) == (spans * 2 if data == framed + framed else spans)


@pytest.mark.parametrize("data", [b"", b"{}", b"hello", b'{"resourceSpans": 3}', b"\x1f\x8bxx", b"\xff" * 40])
def test_files_without_spans_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "spans"
    path.write_bytes(data)
    with pytest.raises(ResultError):
        read_spans(path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("4317", ("0.0.0.0", 4317)),
        (":4317", ("0.0.0.0", 4317)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:9", ("::1", 9)),
    ],
)
def test_addresses(text: str, place: tuple[str, int]) -> None:
    assert parse_address(text) == place


@pytest.mark.parametrize("text", ["", "spans.json", "host", "1.2.3.4:x", "70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        start_receiver(text)


def _post(port: int | None, data: bytes, kind: str, path: str = "/v1/traces", **headers: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"Content-Type": kind, **headers}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def test_http_takes_json_and_protobuf_and_refuses_the_rest() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    message = ExportTraceServiceRequest()
    made = message.resource_spans.add().scope_spans.add().spans.add()
    made.trace_id, made.name = bytes.fromhex(TRACE), "llm_request"
    binary, text = message.SerializeToString(), b"".join(render_jsonl([span(attributes=VLLM)]))
    with Receiver("127.0.0.1", 0) as receiver:
        port = receiver.http_port
        assert _post(port, text, "application/json") == 200
        assert _post(port, gzip.compress(binary), "application/x-protobuf", **{"Content-Encoding": "gzip"}) == 200
        assert _post(port, b"not json", "application/json") == 400
        assert _post(port, b"\xff\xff\xff", "application/x-protobuf") == 400
        assert _post(port, b"xx", "application/x-protobuf", **{"Content-Encoding": "gzip"}) == 400
        assert _post(port, text, "application/json", "/elsewhere") == 404
        receiver.wait_for(1)
        assert [s.trace for s in receiver.stop()] == [TRACE, TRACE]
    assert [n.kind for n in receiver.notes] == ["spans_refused"]


def test_a_port_that_is_taken_is_a_note_and_no_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with Receiver("127.0.0.1", taken.getsockname()[1]) as receiver:
            assert receiver.grpc_port is None
            assert receiver.stop() == []
    assert "receiver_failed" in [n.kind for n in receiver.notes]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_sdk_s_grpc_exporter_is_received() -> None:
    """A server's own SDK: the trace id is the one of the `traceparent` it was sent."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    with Receiver("127.0.0.1", 0) as receiver:
        provider = TracerProvider()
        exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{receiver.grpc_port}", insecure=True)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        context = TraceContextTextMapPropagator().extract({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        with provider.get_tracer("engine").start_as_current_span("llm_request", context=context) as made:
            made.set_attributes(VLLM)
        provider.shutdown()
        receiver.wait_for(1)
        found = collect(receiver.stop())
    assert found[TRACE].queue == pytest.approx(20 * MS)

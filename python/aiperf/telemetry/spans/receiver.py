"""An OTLP receiver of our own: gRPC on a port, HTTP (protobuf and JSON) on the next one. What it gets it keeps; nothing is forwarded."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from aiperf.background import yield_to_load
from aiperf.errors import ConfigError, Note
from aiperf.telemetry.spans.otlp import parse_json, parse_message, parse_protobuf, request_class
from aiperf.telemetry.spans.span import Span, client_span

if TYPE_CHECKING:
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

__all__ = ["Receiver", "parse_address", "start_receiver"]

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_MOST_BYTES: Final = 64 << 20
"""Of one export request."""
_MOST_SPANS: Final = 2_000_000
_QUIET_S: Final = 6.0
"""SDKs export in batches, every five seconds by default: so long after the last span there may be more."""
_STEP_S: Final = 0.05


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of `4317`, `:4317`, `0.0.0.0:4317`, `[::1]:4317`; without a host all interfaces are listened on. ValueError."""
    host, _, port = text.strip().rpartition(":")
    if not port.isdigit() or int(port) > 65_534:
        raise ValueError(f"`{text}` is not a port or `host:port`")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - servers on other machines send their spans here


class Receiver:
    """Keeps the spans it gets, up to two million. `grpc_port` None: grpcio's port could not be taken, HTTP alone is served, and the other way
    round.
    """

    def __init__(self, host: str, port: int) -> None:
        self.notes: list[Note] = []
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._ended: set[str] = set()
        """Traces of which the span below the client's has come: it ends last."""
        self._dropped = 0
        self._bad = 0
        self._last = time.monotonic()
        self.grpc_port: int | None = None
        self.http_port: int | None = None
        self._grpc = self._serve_grpc(host, port)
        wanted = 0 if port == 0 else port + 1
        self._http = self._serve_http(host, wanted)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_listening(self) -> bool:
        return self.grpc_port is not None or self.http_port is not None

    @property
    def listening(self) -> str:
        """Where, in words."""
        ports = [f"{p} ({what})" for p, what in ((self.grpc_port, "gRPC"), (self.http_port, "HTTP")) if p is not None]
        return f"receiving the server's spans on port {' and '.join(ports)}"

    def take(self, spans: list[Span]) -> None:
        with self._lock:
            room = max(0, _MOST_SPANS - len(self._spans))
            self._dropped += max(0, len(spans) - room)
            self._spans += spans[:room]
            self._ended.update(s.trace for s in spans if len(s.trace) == 32 and s.parent == client_span(s.trace))
            self._last = time.monotonic()

    def reject(self) -> None:
        with self._lock:
            self._bad += 1

    def wait_for(self, traces: int) -> None:
        """Until so many traces have come to their end, or nothing has come for six seconds: a frontend and its workers export on their own."""
        began = time.monotonic()
        while True:
            with self._lock:
                missing = len(self._ended) < traces
                quiet = time.monotonic() - max(self._last, began)
            if not missing or quiet >= _QUIET_S or not self.is_listening:
                return
            time.sleep(_STEP_S)

    def stop(self) -> list[Span]:
        """All spans; a second call gives the same."""
        if self._grpc is not None:
            self._grpc.stop(grace=0.5).wait()
            self._grpc = None
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
        with self._lock:
            if self._dropped:
                text = f"{self._dropped:,} spans were dropped: more than {_MOST_SPANS:,} came"
                self.notes.append(Note("spans_dropped", text, {"dropped": self._dropped}))
                self._dropped = 0
            if self._bad:
                text = f"{self._bad:,} requests to the receiver of spans were not OTLP traces and were refused"
                self.notes.append(Note("spans_refused", text, {"refused": self._bad}))
                self._bad = 0
            return list(self._spans)

    def _serve_grpc(self, host: str, port: int) -> grpc.Server | None:
        try:
            import grpc
            from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
        except ImportError as error:
            raise ConfigError(
                "`--engine-traces` needs opentelemetry-proto and grpcio", "pip install 'aiperf[traces]'"
            ) from error

        def export(request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
            del context
            self.take(parse_message(request))
            return messages.ExportTraceServiceResponse()

        handler = grpc.unary_unary_rpc_method_handler(
            export,
            request_deserializer=messages.ExportTraceServiceRequest.FromString,
            response_serializer=messages.ExportTraceServiceResponse.SerializeToString,
        )
        options = [("grpc.max_receive_message_length", _MOST_BYTES), ("grpc.so_reuseport", 0)]
        server = grpc.server(
            ThreadPoolExecutor(2, "otlp-grpc", partial(yield_to_load, has_to_keep_up=True)), options=options
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.grpc_port = server.add_insecure_port(address) or None
        except RuntimeError as error:
            self._refused(address, "gRPC", error)
            return None
        if self.grpc_port is None:
            self._refused(address, "gRPC", None)
            return None
        server.start()
        return server

    def _serve_http(self, host: str, port: int) -> ThreadingHTTPServer | None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                status, body, kind = receiver.answer(self)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                """Nothing: the screen is the run's."""

        try:
            server = _Server((host, port), Handler)
        except OSError as error:
            self._refused(f"{host}:{port}", "HTTP", error)
            return None
        server.daemon_threads = True
        self.http_port = server.server_port

        def serve() -> None:
            yield_to_load(has_to_keep_up=True)
            server.serve_forever(0.1)

        threading.Thread(target=serve, name="otlp-http", daemon=True).start()
        return server

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes, str]:
        """(status, body, content type) for a POST."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            length = int(request.headers.get("content-length", "0"))
        except ValueError:
            length = -1
        if not 0 <= length <= _MOST_BYTES:
            request.close_connection = True
            self.reject()
            return 413, b"", "text/plain"
        data = request.rfile.read(length)
        if request.path.partition("?")[0].rstrip("/") != "/v1/traces":
            return 404, b"", "text/plain"
        try:
            data = _decoded(data, request.headers.get("content-encoding", "identity").strip().lower())
            if kind == "application/json":
                self.take(parse_json(data))
                return 200, b"{}", kind
            self.take(parse_protobuf(data))
        except ValueError as error:
            self.reject()
            return 400, str(error).encode(), "text/plain"
        return 200, b"", "application/x-protobuf"

    def _refused(self, address: str, what: str, error: Exception | None) -> None:
        why = f": {error}" if error is not None else ""
        text = f"the receiver of spans cannot listen on `{address}` ({what}){why}; spans sent there are not seen"
        self.notes.append(Note("receiver_failed", text, {"address": address}))


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    allow_reuse_port = False


def _decoded(data: bytes, coding: str) -> bytes:
    """ValueError for another coding, broken data, or more than 64 MiB of it."""
    if coding in {"", "identity"}:
        return data
    if coding not in {"gzip", "deflate"}:
        raise ValueError(f"the content encoding `{coding}` is not known")
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    with suppress(zlib.error, gzip.BadGzipFile):  # told below
        out = decoder.decompress(data, _MOST_BYTES)
        if not decoder.unconsumed_tail and decoder.eof:
            return out
    raise ValueError("the compressed body is broken or too large")


def start_receiver(text: str) -> Receiver:
    """ConfigError for a bad address or without the packages; a port that is taken is a note of the receiver's."""
    try:
        host, port = parse_address(text)
    except ValueError as error:
        raise ConfigError(f"--engine-traces: {error}", "`--engine-traces 4317`: gRPC there, HTTP on 4318") from error
    request_class()
    return Receiver(host, port)

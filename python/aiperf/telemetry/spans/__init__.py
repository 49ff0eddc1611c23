"""The server's OpenTelemetry spans: received during the load (`receiver`), read from a file (`otlp`), joined to the records (`join`).

The trace id of a request is its request id, so that a span finds its record by it. The protocol's messages and the gRPC service are
those of the packages `opentelemetry-proto` and `grpcio` (extra `traces`).
"""

from __future__ import annotations

from aiperf.telemetry.spans.span import Span

__all__ = ["Span"]

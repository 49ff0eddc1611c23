"""Phases of the HTTP exchange, named as in k6. Successful requests only; all ns but sizes and counts.

Time goes: blocked · dns · connecting (with TLS) · sending · waiting · receiving. On a reused connection the first three are 0.
"""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext

__all__: list[str] = []


def _known(context: MetricContext, values: Floats) -> Floats:
    """`values`, which are the caller's own: 0 for phases that took no time, NaN where the request was never sent."""
    values[np.isnan(context.column("sent"))] = np.nan
    return context.ok_only(values)


def _phase(context: MetricContext, name: str) -> Floats:
    return np.nan_to_num(context.column(name))


@metric("http_req_blocked", formula="sent − started − dns − connecting, at least 0")
def http_req_blocked(context: MetricContext) -> Floats:
    """Time between starting work on the request and writing it that went neither into DNS nor into connecting."""
    rest = context.column("sent") - context.column("started")
    for name in ("dns_ns", "connect_ns", "tls_ns"):
        rest -= _phase(context, name)
    return _known(context, np.where(context.opened & (rest > 0), rest, 0.0))


@metric("http_req_dns_lookup", formula="dns_ns")
def http_req_dns_lookup(context: MetricContext) -> Floats:
    """Name resolution; 0 on a reused connection."""
    return _known(context, _phase(context, "dns_ns"))


@metric("http_req_connecting", formula="connect_ns + tls_ns")
def http_req_connecting(context: MetricContext) -> Floats:
    """TCP connection and TLS handshake; 0 on a reused connection."""
    return _known(context, _phase(context, "connect_ns") + _phase(context, "tls_ns"))


@metric("http_req_tls_handshaking", formula="tls_ns")
def http_req_tls_handshaking(context: MetricContext) -> Floats:
    """The TLS part of connecting; absent without TLS."""
    tls = context.column("tls_ns")
    return context.ok_only(tls) if not np.isnan(tls).all() else context.absent()


@metric("http_req_sending", formula="body fully written − first byte written")
def http_req_sending(context: MetricContext) -> Floats:
    """Writing the request."""
    return context.ok_only(context.column("body_sent") - context.column("sent"))


@metric("http_req_waiting", formula="first response byte − body fully written")
def http_req_waiting(context: MetricContext) -> Floats:
    """Waiting for the first byte of the response."""
    return context.ok_only(context.column("first_byte") - context.column("body_sent"))


@metric("http_req_receiving", formula="response end − first response byte")
def http_req_receiving(context: MetricContext) -> Floats:
    """Reading the response."""
    return context.ok_only(context.column("end") - context.column("first_byte"))


@metric("http_req_duration", formula="response end − first byte written")
def http_req_duration(context: MetricContext) -> Floats:
    """Sending, waiting and receiving."""
    return context.ok_only(context.column("end") - context.column("sent"))


@metric("http_req_connection_overhead", formula="blocked + dns + connecting")
def http_req_connection_overhead(context: MetricContext) -> Floats:
    """What getting a connection took."""
    return http_req_blocked(context) + http_req_dns_lookup(context) + http_req_connecting(context)


@metric("http_req_total", formula="blocked + dns + connecting + sending + waiting + receiving")
def http_req_total(context: MetricContext) -> Floats:
    """The whole exchange."""
    return http_req_connection_overhead(context) + http_req_duration(context)


@metric("http_req_data_sent", formula="bytes written, header included")
def http_req_data_sent(context: MetricContext) -> Floats:
    """Size of the request."""
    return context.ok_only(context.column("bytes_out"))


@metric("http_req_data_received", formula="bytes read, header included")
def http_req_data_received(context: MetricContext) -> Floats:
    """Size of the response."""
    return context.ok_only(context.column("bytes_in"))


@metric("http_req_chunks_sent", formula="1: the request is written in one piece")
def http_req_chunks_sent(context: MetricContext) -> Floats:
    """Pieces in which the request was written."""
    return context.ok_only(np.where(np.isnan(context.column("sent")), np.nan, 1.0))


@metric("http_req_chunks_received", formula="events of the stream (1 for a whole response)")
def http_req_chunks_received(context: MetricContext) -> Floats:
    """Events received. AIPerf counts reads of the socket instead, which merge events."""
    return context.ok_only(np.maximum(context.column("num_chunks"), 1.0))


@metric(
    "http_req_connection_reused",
    larger_is_better=True,
    formula="1 if the connection had served a request or was opened before, else 0",
)
def http_req_connection_reused(context: MetricContext) -> Floats:
    """Share of requests that needed no new connection."""
    return context.ok_only(context.column("reused"))

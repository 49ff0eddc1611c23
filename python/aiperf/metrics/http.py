"""Phases of the HTTP exchange, named as in k6. Successful requests only; all ns but sizes and counts.

Time goes: blocked · dns · connecting (with TLS) · sending · waiting · receiving. On a reused connection the first three are 0.
"""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext

__all__: list[str] = []


def _known(r: MetricContext, values: Floats) -> Floats:
    """`values`, which are the caller's own: 0 for phases that took no time, NaN where the request was never sent."""
    values[np.isnan(r.column("sent"))] = np.nan
    return r.ok_only(values)


def _phase(r: MetricContext, name: str) -> Floats:
    return np.nan_to_num(r.column(name))


@metric("http_req_blocked", formula="sent − started − dns − connecting, at least 0")
def http_req_blocked(r: MetricContext) -> Floats:
    """Time between starting work on the request and writing it that went neither into DNS nor into connecting."""
    rest = r.column("sent") - r.column("started")
    for name in ("dns_ns", "connect_ns", "tls_ns"):
        rest -= _phase(r, name)
    return _known(r, np.where(r.opened & (rest > 0), rest, 0.0))


@metric("http_req_dns_lookup", formula="dns_ns")
def http_req_dns_lookup(r: MetricContext) -> Floats:
    """Name resolution; 0 on a reused connection."""
    return _known(r, _phase(r, "dns_ns"))


@metric("http_req_connecting", formula="connect_ns + tls_ns")
def http_req_connecting(r: MetricContext) -> Floats:
    """TCP connection and TLS handshake; 0 on a reused connection."""
    return _known(r, _phase(r, "connect_ns") + _phase(r, "tls_ns"))


@metric("http_req_tls_handshaking", formula="tls_ns")
def http_req_tls_handshaking(r: MetricContext) -> Floats:
    """The TLS part of connecting; absent without TLS."""
    tls = r.column("tls_ns")
    return r.ok_only(tls) if not np.isnan(tls).all() else r.absent()


@metric("http_req_sending", formula="body fully written − first byte written")
def http_req_sending(r: MetricContext) -> Floats:
    """Writing the request."""
    return r.ok_only(r.column("body_sent") - r.column("sent"))


@metric("http_req_waiting", formula="first response byte − body fully written")
def http_req_waiting(r: MetricContext) -> Floats:
    """Waiting for the first byte of the response."""
    return r.ok_only(r.column("first_byte") - r.column("body_sent"))


@metric("http_req_receiving", formula="response end − first response byte")
def http_req_receiving(r: MetricContext) -> Floats:
    """Reading the response."""
    return r.ok_only(r.column("end") - r.column("first_byte"))


@metric("http_req_duration", formula="response end − first byte written")
def http_req_duration(r: MetricContext) -> Floats:
    """Sending, waiting and receiving."""
    return r.ok_only(r.column("end") - r.column("sent"))


@metric("http_req_connection_overhead", formula="blocked + dns + connecting")
def http_req_connection_overhead(r: MetricContext) -> Floats:
    """What getting a connection took."""
    return http_req_blocked(r) + http_req_dns_lookup(r) + http_req_connecting(r)


@metric("http_req_total", formula="blocked + dns + connecting + sending + waiting + receiving")
def http_req_total(r: MetricContext) -> Floats:
    """The whole exchange."""
    return http_req_connection_overhead(r) + http_req_duration(r)


@metric("http_req_data_sent", formula="bytes written, header included")
def http_req_data_sent(r: MetricContext) -> Floats:
    """Size of the request."""
    return r.ok_only(r.column("bytes_out"))


@metric("http_req_data_received", formula="bytes read, header included")
def http_req_data_received(r: MetricContext) -> Floats:
    """Size of the response."""
    return r.ok_only(r.column("bytes_in"))


@metric("http_req_chunks_sent", formula="1: the request is written in one piece")
def http_req_chunks_sent(r: MetricContext) -> Floats:
    """Pieces in which the request was written."""
    return r.ok_only(np.where(np.isnan(r.column("sent")), np.nan, 1.0))


@metric("http_req_chunks_received", formula="events of the stream (1 for a whole reply)")
def http_req_chunks_received(r: MetricContext) -> Floats:
    """Events received. AIPerf counts reads of the socket instead, which merge events."""
    return r.ok_only(np.maximum(r.column("num_chunks"), 1.0))


@metric(
    "http_req_connection_reused",
    larger_is_better=True,
    formula="1 if the connection had served a request or was opened before, else 0",
)
def http_req_connection_reused(r: MetricContext) -> Floats:
    """Share of requests that needed no new connection."""
    return r.ok_only(r.column("reused"))

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


@metric(
    "http_req_blocked",
    header="HTTP Blocked",
    unit="ns",
    console_order=10,
    table="http",
    formula="sent − started − dns − connecting, at least 0",
)
def http_req_blocked(r: MetricContext) -> Floats:
    """Time between starting work on the request and writing it that went neither into DNS nor into connecting."""
    rest = r.column("sent") - r.column("started")
    for name in ("dns_ns", "connect_ns", "tls_ns"):
        rest -= _phase(r, name)
    return _known(r, np.where(r.opened & (rest > 0), rest, 0.0))


@metric("http_req_dns_lookup", header="HTTP DNS Lookup", unit="ns", console_order=20, table="http", formula="dns_ns")
def http_req_dns_lookup(r: MetricContext) -> Floats:
    """Name resolution; 0 on a reused connection."""
    return _known(r, _phase(r, "dns_ns"))


@metric(
    "http_req_connecting",
    header="HTTP Connecting",
    unit="ns",
    console_order=30,
    table="http",
    formula="connect_ns + tls_ns",
)
def http_req_connecting(r: MetricContext) -> Floats:
    """TCP connection and TLS handshake; 0 on a reused connection."""
    return _known(r, _phase(r, "connect_ns") + _phase(r, "tls_ns"))


@metric(
    "http_req_tls_handshaking",
    header="HTTP TLS Handshaking",
    unit="ns",
    console_order=35,
    table="http",
    formula="tls_ns",
)
def http_req_tls_handshaking(r: MetricContext) -> Floats:
    """The TLS part of connecting; absent without TLS."""
    tls = r.column("tls_ns")
    return r.ok_only(tls) if not np.isnan(tls).all() else r.absent()


@metric(
    "http_req_sending",
    header="HTTP Sending",
    unit="ns",
    console_order=40,
    table="http",
    formula="body fully written − first byte written",
)
def http_req_sending(r: MetricContext) -> Floats:
    """Writing the request."""
    return r.ok_only(r.column("body_sent") - r.column("sent"))


@metric(
    "http_req_waiting",
    header="HTTP Waiting (TTFB)",
    unit="ns",
    console_order=50,
    table="http",
    formula="first response byte − body fully written",
)
def http_req_waiting(r: MetricContext) -> Floats:
    """Waiting for the first byte of the response."""
    return r.ok_only(r.column("first_byte") - r.column("body_sent"))


@metric(
    "http_req_receiving",
    header="HTTP Receiving",
    unit="ns",
    console_order=60,
    table="http",
    formula="response end − first response byte",
)
def http_req_receiving(r: MetricContext) -> Floats:
    """Reading the response."""
    return r.ok_only(r.column("end") - r.column("first_byte"))


@metric(
    "http_req_duration",
    header="HTTP Duration (excl. conn)",
    unit="ns",
    console_order=70,
    table="http",
    formula="response end − first byte written",
)
def http_req_duration(r: MetricContext) -> Floats:
    """Sending, waiting and receiving."""
    return r.ok_only(r.column("end") - r.column("sent"))


@metric(
    "http_req_connection_overhead",
    header="HTTP Connection Overhead",
    unit="ns",
    console_order=80,
    table="http",
    formula="blocked + dns + connecting",
)
def http_req_connection_overhead(r: MetricContext) -> Floats:
    """What getting a connection took."""
    return http_req_blocked(r) + http_req_dns_lookup(r) + http_req_connecting(r)


@metric(
    "http_req_total",
    header="HTTP Total Time",
    unit="ns",
    console_order=90,
    table="http",
    formula="blocked + dns + connecting + sending + waiting + receiving",
)
def http_req_total(r: MetricContext) -> Floats:
    """The whole exchange."""
    return http_req_connection_overhead(r) + http_req_duration(r)


@metric(
    "http_req_data_sent",
    header="HTTP Data Sent",
    unit="bytes",
    console_order=100,
    table="http",
    formula="bytes written, header included",
)
def http_req_data_sent(r: MetricContext) -> Floats:
    """Size of the request."""
    return r.ok_only(r.column("bytes_out"))


@metric(
    "http_req_data_received",
    header="HTTP Data Received",
    unit="bytes",
    console_order=110,
    table="http",
    formula="bytes read, header included",
)
def http_req_data_received(r: MetricContext) -> Floats:
    """Size of the response."""
    return r.ok_only(r.column("bytes_in"))


@metric(
    "http_req_chunks_sent",
    header="HTTP Chunks Sent",
    unit="count",
    console_order=120,
    table="http",
    formula="1: the request is written in one piece",
)
def http_req_chunks_sent(r: MetricContext) -> Floats:
    """Pieces in which the request was written."""
    return r.ok_only(np.where(np.isnan(r.column("sent")), np.nan, 1.0))


@metric(
    "http_req_chunks_received",
    header="HTTP Chunks Received",
    unit="count",
    console_order=130,
    table="http",
    formula="events of the stream (1 for a whole reply)",
)
def http_req_chunks_received(r: MetricContext) -> Floats:
    """Events received. AIPerf counts reads of the socket instead, which merge events."""
    return r.ok_only(np.maximum(r.column("num_chunks"), 1.0))


@metric(
    "http_req_connection_reused",
    header="HTTP Connection Reused",
    unit="ratio",
    console_order=140,
    table="http",
    larger_is_better=True,
    formula="1 if the connection had served a request or was opened before, else 0",
)
def http_req_connection_reused(r: MetricContext) -> Floats:
    """Share of requests that needed no new connection."""
    return r.ok_only(r.column("reused"))

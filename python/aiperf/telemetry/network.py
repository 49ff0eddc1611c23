"""The round trip between client and server, measured beside the load (`--network-latency-automatic`, aiperf-compatibility.md §12).

A thread of its own for each server opens a fresh TCP connection every `--network-latency-ping-interval` and closes it: the
handshake is one round trip. Its length is the kernel's (TCP_INFO, µs), so that a busy client does not lengthen it; where the
kernel tells none, the time `connect` took. The name is resolved once. No TLS, no request: HTTP and HTTPS compare.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from aiperf.config.model import Config
from aiperf.config.url import BaseUrl, parse_url
from aiperf.errors import Note
from aiperf.json_text import json_text
from aiperf.web.addresses import Address, resolve

__all__ = ["Handshake", "NetworkProber", "mean_rtt", "probe_notes", "render_samples", "watch_network"]

_TIMEOUT_S: Final = 5.0
"""Longest handshake; a longer one is a failed probe."""
_RTT_AT: Final = 68
"""Offset of `tcpi_rtt` (u32, µs) in Linux's `struct tcp_info`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """One probe. `rtt_ns` None: it failed, `error` says why. `wall_ns`: when it began, since the epoch."""

    wall_ns: int
    url: str
    host: str
    port: int
    rtt_ns: int | None = None
    error: OSError | None = None


class NetworkProber:
    """Probes from `start` to `stop`, one thread for each server."""

    def __init__(self, urls: Sequence[BaseUrl], interval_s: float) -> None:
        self.urls = tuple(urls)
        self._interval_s = interval_s
        self._samples: list[Handshake] = []
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(url,), name="network-latency", daemon=True) for url in urls
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> tuple[Handshake, ...]:
        """In order of time. A probe still open is given up."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=0.5)
        return tuple(sorted(self._samples, key=lambda s: s.wall_ns))

    def _run(self, url: BaseUrl) -> None:
        address: Address | None = None
        due = time.monotonic()
        while True:
            began = time.time_ns()
            try:
                if address is None:
                    address = resolve(url.host, url.port, _TIMEOUT_S)[0]
                rtt, error = handshake_ns(address, _TIMEOUT_S), None
            except OSError as failed:
                rtt, error = None, failed
                # Another of its addresses may answer.
                address = None
            told = Handshake(wall_ns=began, url=url.origin, host=url.host, port=url.port, rtt_ns=rtt, error=error)
            self._samples.append(told)
            due = max(due + self._interval_s, time.monotonic())
            if self._stopped.wait(due - time.monotonic()):
                return


def handshake_ns(address: Address, timeout_s: float) -> int:
    """The round trip of a fresh connection's handshake. OSError if it fails or takes longer."""
    with socket.socket(address.family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        began = time.perf_counter_ns()
        sock.connect(address.place)
        took = time.perf_counter_ns() - began
        kernel = _kernel_rtt_us(sock)
    return min(took, kernel * 1000) if kernel else took


def _kernel_rtt_us(sock: socket.socket) -> int:
    """What the kernel measured for the handshake; 0 where it tells nothing."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return 0
    try:
        data = sock.getsockopt(socket.IPPROTO_TCP, option, _RTT_AT + 4)
    except OSError:
        return 0
    return int(struct.unpack_from("=I", data, _RTT_AT)[0]) if len(data) >= _RTT_AT + 4 else 0


def watch_network(config: Config) -> NetworkProber | None:
    """None unless `--network-latency-automatic`; a unix socket has no network."""
    if not config.telemetry.network_latency_automatic:
        return None
    urls = {(u.host, u.port): u for u in map(parse_url, config.endpoint.urls) if u.socket is None}
    return NetworkProber(tuple(urls.values()), config.telemetry.network_latency_ping_interval)


def mean_rtt(samples: Sequence[Handshake], start_ns: int, end_ns: int) -> float | None:
    """Mean of the successful probes in a window of wall time, ns, or of all if none is in it; None without any."""
    good = [(s.wall_ns, s.rtt_ns) for s in samples if s.rtt_ns is not None]
    inside = [rtt for at, rtt in good if start_ns <= at <= end_ns] or [rtt for _, rtt in good]
    return math.fsum(inside) / len(inside) if inside else None


def probe_notes(samples: Sequence[Handshake]) -> tuple[Note, ...]:
    """Probes that failed, and that nothing can be said if all did."""
    failed = [s for s in samples if s.error is not None]
    if samples and not failed:
        return ()
    if not samples:
        text = "the network round trip was not measured: no server is reached over TCP (unix sockets have none)"
        return (Note("network_latency_failed", text),)
    first = failed[0]
    text = (
        f"network latency probes failed: {len(failed):,} of {len(samples):,} ({first.host}:{first.port}: {first.error})"
    )
    if len(failed) == len(samples):
        text += "; there are no network metrics"
    return (Note("network_latency_failed", text, {"failed": len(failed), "count": len(samples)}),)


def render_samples(samples: Sequence[Handshake]) -> bytes:
    """`profile_export_network_latency.jsonl`: a line per probe, keys as AIPerf's; absent values have no key."""
    lines = []
    for sample in samples:
        told: dict[str, object] = {
            "timestamp_ns": sample.wall_ns,
            "target_url": sample.url,
            "target_host": sample.host,
            "target_port": sample.port,
            "probe_type": "tcp_connect",
            "rtt_ns": sample.rtt_ns,
            "success": sample.rtt_ns is not None,
            "error": None
            if sample.error is None
            else {"type": type(sample.error).__name__, "message": str(sample.error)},
        }
        lines.append(json_text({k: v for k, v in told.items() if v is not None}))
    return "".join(f"{line}\n" for line in lines).encode()

"""`aiperf capture` in front of a benchmark's server: a process of its own on the server's core."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.server import CLIENT_CORE, SERVER_CORE, Server

__all__ = ["added_ttft_ms", "captured_lines", "capturing"]

_WARM_UP = 50
_EVENT = b'"content":"'


@contextmanager
def capturing(executable: Path, server: Server) -> Iterator[tuple[Server, Path]]:
    """(the capture, as if it were the server; its trace), until the block ends."""
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as folder:
        trace = Path(folder, "capture.jsonl")
        words = ["capture", "--target", server.url, "--listen", "127.0.0.1:0", "--output", str(trace)]
        with subprocess.Popen(
            ["taskset", "-c", str(SERVER_CORE), str(executable), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                if process.stdout is None or not (url := process.stdout.readline().strip()):
                    raise RuntimeError("the capture did not start")
                yield Server(url.removeprefix("http://"), process, None), trace
            finally:
                process.terminate()


def captured_lines(trace: Path) -> int:
    """Lines of the trace so far."""
    with trace.open("rb") as lines:
        return sum(1 for _ in lines)


def added_ttft_ms(server: Server, proxy: Server, requests: int) -> tuple[float, float]:
    """p50 and p99 of the time to the first token through the proxy, minus those without it, ms.

    One request at a time, now on a connection to the server, now on one to the proxy: whatever the machine does meets both.
    """
    body = {"model": "sim", "stream": True, "max_tokens": 3, "messages": [{"role": "user", "content": "word " * 500}]}
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(data)}\r\n\r\n"
    request = head.encode() + data
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CLIENT_CORE})
    try:
        with _connected(server) as direct, _connected(proxy) as through:
            times: dict[socket.socket, list[float]] = {direct: [], through: []}
            for number in range(requests + _WARM_UP):
                for connection in (direct, through) if number % 2 else (through, direct):
                    ms = _first_token_ms(connection, request)
                    if number >= _WARM_UP:
                        times[connection].append(ms)
    finally:
        os.sched_setaffinity(0, before)
    with_proxy, without = (statistics.quantiles(times[c], n=100) for c in (through, direct))
    return with_proxy[49] - without[49], with_proxy[98] - without[98]


def _connected(server: Server) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _first_token_ms(connection: socket.socket, request: bytes) -> float:
    begin, first, got = time.perf_counter(), None, b""
    connection.sendall(request)
    while not got.endswith(b"0\r\n\r\n"):
        more = connection.recv(65536)
        if not more:
            raise RuntimeError("the connection ended in the middle of a response")
        got += more
        if first is None and _EVENT in got.replace(b'"content":""', b""):
            first = time.perf_counter()
    if first is None:
        raise RuntimeError(f"a response without a token: {got[:200]!r}")
    return 1e3 * (first - begin)

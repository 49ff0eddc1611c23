"""A server that answers every request with given bytes, cut into given writes; plain or under TLS."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Script", "answer_with", "cut", "serve_pieces"]


@dataclass(kw_only=True)
class Script:
    """What the next replies are: request number i gets `replies[i % len(replies)]`, one write per piece."""

    replies: list[list[bytes]] = field(default_factory=list)
    requests_per_connection: int | None = None
    lingers: bool = False
    """After the last reply of a connection: say so at once, and read on what still comes, as llama.cpp's server does."""
    pauses: Sequence[float] = ()
    """Seconds before the pieces of a reply, in order; none before those beyond."""
    port: int = 0
    served: int = 0
    targets: list[str] = field(default_factory=list)
    """Request targets, in order of arrival."""
    written: list[list[float]] = field(default_factory=list)
    """For each reply that is whole: ms from its request until each piece was written, as it came about on this machine."""


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    """`data` cut at these offsets; no empty pieces."""
    places = sorted({0, len(data), *(p % (len(data) + 1) for p in at)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@contextmanager
def serve_pieces(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Script]:
    """Serves keep-alive connections until the block ends. TCP_NODELAY, so that each piece is a segment of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    script.port = listener.getsockname()[1]
    threads: list[threading.Thread] = []
    lock = threading.Lock()

    def talk(raw: socket.socket) -> None:
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with raw if tls is None else tls.wrap_socket(raw, server_side=True) as conn:
                buffer = b""
                rounds = (
                    itertools.count()
                    if script.requests_per_connection is None
                    else range(script.requests_per_connection)
                )
                for _ in rounds:
                    while (size := _request_size(buffer)) is None or len(buffer) < size:
                        data = conn.recv(65536)
                        if not data:
                            return
                        buffer += data
                    target = buffer.split(b" ", 2)[1].decode()
                    buffer = buffer[size:]
                    with lock:
                        script.targets.append(target)
                        reply = script.replies[script.served % len(script.replies)]
                        script.served += 1
                    asked, written = time.monotonic(), []
                    for i, piece in enumerate(reply):
                        if i < len(script.pauses):
                            time.sleep(script.pauses[i])  # what is tested: a server that waits before this piece
                        conn.sendall(piece)
                        written.append(1e3 * (time.monotonic() - asked))
                    script.written.append(written)
                if script.lingers:
                    conn.shutdown(socket.SHUT_WR)
                    while conn.recv(65536):
                        pass
        except OSError:
            raw.close()

    def accept() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=talk, args=(conn,), daemon=True)
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield script
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for thread in threads:
            thread.join(5)


@contextmanager
def answer_with(data: bytes) -> Iterator[int]:
    """A server that answers with these bytes; its port."""
    with serve_pieces(Script(replies=[[data]])) as script:
        yield script.port


def _request_size(buffer: bytes) -> int | None:
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    for line in buffer[:end].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return end + 4 + int(value)
    return end + 4

"""A server of HTTP/2 that does what a test says, frame by frame. It reads no headers: the response is the same for all."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["DATA", "GOAWAY", "HEADERS", "RST_STREAM", "Link", "frame", "frame_server", "goaway", "reset", "respond"]

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_PREFACE = 24
_OK = b"\x88"
"""`:status: 200`, from HPACK's static table."""
_BODY = (
    b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":" two"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def goaway(last_stream: int, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code))


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def respond(stream: int) -> bytes:
    """A whole response, its events in frames of their own."""
    # `content-type: text/event-stream`, a literal whose name is 31 of the static table.
    kind = b"text/event-stream"
    fields = _OK + bytes([0x0F, 31 - 15, len(kind)]) + kind
    events = [part + b"\n\n" for part in _BODY.split(b"\n\n") if part]
    out = frame(HEADERS, END_HEADERS, stream, fields)
    for event in events:
        out += frame(DATA, 0, stream, event)
    return out + frame(DATA, END_STREAM, stream)


@dataclass
class Link:
    """One connection. `number`: from 0, in the order they came; `requests`: streams that were opened on it so far."""

    number: int
    socket: socket.socket
    requests: list[int] = field(default_factory=list)

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))


@dataclass
class FrameServer:
    url: str
    links: list[Link] = field(default_factory=list)


@contextmanager
def frame_server(
    on_request: Callable[[Link, int], object], settings: dict[int, int] | None = None
) -> Iterator[FrameServer]:
    """`on_request(link, stream)` is called when a request is whole. `settings`: those of the server."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = FrameServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
    payload = b"".join(struct.pack(">HI", name, value) for name, value in (settings or {}).items())

    def serve(link: Link) -> None:
        try:
            _exactly(link.socket, _PREFACE)
            link.send(frame(SETTINGS, 0, 0, payload))
            while True:
                head = _exactly(link.socket, 9)
                size = int.from_bytes(head[:3], "big")
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
                content = _exactly(link.socket, size)
                if kind == SETTINGS and not flags & ACK:
                    link.send(frame(SETTINGS, ACK, 0))
                elif kind == PING and not flags & ACK:
                    link.send(frame(PING, ACK, 0, content))
                elif kind in {DATA, HEADERS} and flags & END_STREAM:
                    link.requests.append(stream)
                    on_request(link, stream)
        except OSError:
            link.socket.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            link = Link(len(server.links), connection)
            server.links.append(link)
            threading.Thread(target=serve, args=(link,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        # Closing alone does not wake the thread that accepts.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for link in server.links:
            link.socket.close()


def _exactly(connection: socket.socket, size: int) -> bytes:
    out = b""
    while len(out) < size:
        part = connection.recv(size - len(out))
        if not part:
            raise ConnectionResetError
        out += part
    return out

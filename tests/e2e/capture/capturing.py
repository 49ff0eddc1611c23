"""Captures for tests: the proxy in this process, and a target whose every byte a test writes itself."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aiperf._core import Capture
from aiperf.traces.capture import DEFAULT_HEADERS, CaptureSettings, finish, report, start
from aiperf.traces.tools.hash import Encode

__all__ = ["Captured", "RawTarget", "capturing", "http_response", "read_all", "settings_for", "talk"]


def settings_for(target: str, output: Path, **changes: Any) -> CaptureSettings:
    return CaptureSettings(
        **{
            "target": target,
            "listen": "127.0.0.1:0",
            "output": output,
            "tokenizer": "builtin",
            "block_size": 16,
            "salt": "a salt for tests",
            "session_headers": DEFAULT_HEADERS,
            "grace": "5s",
            "ca_file": None,
            "insecure": False,
            **changes,
        }
    )


@dataclass(slots=True)
class Captured:
    """`end()`: what is in the trace when the capture has ended."""

    capture: Capture
    settings: CaptureSettings
    encode: Encode | None = None
    has_ended: bool = False

    @property
    def url(self) -> str:
        return self.capture.url

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.capture.stats())
        return found

    def end(self) -> list[dict[str, Any]]:
        if not self.has_ended:
            self.has_ended = True
            finish(self.capture, self.encode, self.settings.grace_s)
        return [json.loads(line) for line in self.settings.output.read_text(encoding="utf-8").splitlines()]

    def said(self) -> tuple[list[str], int]:
        self.end()
        return report(self.capture, self.settings)


@contextmanager
def capturing(target: str, folder: Path, *, encode: Encode | None = None, **changes: Any) -> Iterator[Captured]:
    """A capture in front of `target`, writing `<folder>/capture.jsonl`."""
    settings = settings_for(target, folder / "capture.jsonl", **changes)
    found = Captured(start(settings, builtin=encode is None), settings, encode)
    try:
        yield found
    finally:
        found.end()


def http_response(body: bytes, *heads: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *heads]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_all(connection: socket.socket) -> bytes:
    """Until the other side closes."""
    out = b""
    while more := connection.recv(65536):
        out += more
    return out


def talk(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Sends the pieces on a connection of its own, and reads until the end of it: ask for `Connection: close`."""
    with socket.create_connection(address, timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return read_all(connection)


class RawTarget:
    """A server that answers the n-th request (of any connection) with the n-th of `answers`, and keeps what it got.

    `got`: heads and bodies as they came. A body ends by its `Content-Length` or its last chunk.
    """

    def __init__(self, answers: Sequence[bytes], *, closes: bool = False) -> None:
        self.got: list[bytes] = []
        self.connections = 0
        self._answers, self._closes = answers, closes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while (request := _read_request(connection)) is not None:
                self.got.append(request)
                connection.sendall(self._answers[min(len(self.got), len(self._answers)) - 1])
                if self._closes:
                    return


def _read_request(connection: socket.socket) -> bytes | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, _ = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    chunked = b"transfer-encoding: chunked" in head.lower()

    def complete() -> bool:
        body = data[len(head) + 4 :]
        return body.endswith(b"0\r\n\r\n") if chunked else len(body) >= length

    while not complete():
        data += connection.recv(65536)
    return data

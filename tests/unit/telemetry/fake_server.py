"""A stdlib HTTP server whose replies are a table: what other servers than the simulated one say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Say:
    status: int = 200
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def bytes(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answer = Say | Callable[[int], Say]
"""A reply, or one by the number of the request (from 1)."""


@dataclass(slots=True)
class Fake:
    url: str
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    seen: list[tuple[str, str, bytes, Mapping[str, str]]] = field(default_factory=list)
    """(method, path, body, headers) in order."""

    def count(self, method: str, path: str) -> int:
        return sum(m == method and p == path for m, p, _, _ in self.seen)


def models(*names: str, owner: str = "someone") -> Say:
    return Say(body={"object": "list", "data": [{"id": n, "object": "model", "owned_by": owner} for n in names]})


def prometheus(text: str) -> Say:
    return Say(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4"})


def error(status: int, message: str, **more: object) -> Say:
    return Say(status, {"error": {"message": message, **more}})


NOT_FOUND = Say(404, {"detail": "Not Found"})
POST_ONLY = Say(405, {"detail": "Method Not Allowed"}, {"Allow": "POST"})


@contextmanager
def fake_server(answers: Mapping[tuple[str, str], Answer], other: Say = NOT_FOUND) -> Iterator[Fake]:
    """`answers` by (method, path); everything else is answered by `other`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # one write per reply: no wait for an acknowledgement

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.seen.append((self.command, self.path, body, dict(self.headers)))
            answer = fake.answers.get((self.command, self.path), other)
            say = answer if isinstance(answer, Say) else answer(fake.count(self.command, self.path))
            content = say.bytes()
            self.send_response(say.status)
            for name, value in {"Content-Type": "application/json", **say.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_OPTIONS = _serve  # noqa: N815 - the library's names

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = Fake(f"http://127.0.0.1:{server.server_port}", dict(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

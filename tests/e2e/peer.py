"""A peer of another make: Python's own HTTP server, with what a test says for each request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["CHAT_ANSWER", "Answer", "Asked", "answering"]

CHAT_ANSWER = json.dumps(
    {"choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}], "usage": {}}
).encode()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request. `names`: of its headers, in lower case and in order, with repeats; `headers`: by such a name."""

    method: str
    path: str
    names: Sequence[str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    kind: str = "application/json"
    body: bytes = CHAT_ANSWER


@contextmanager
def answering(answer: Callable[[Asked], Answer]) -> Iterator[str]:
    """The URL. `answer` is called in a thread of each connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            given = answer(
                Asked(
                    method=self.command,
                    path=self.path,
                    names=[name.lower() for name in self.headers],
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(int(self.headers.get("content-length", "0"))),
                )
            )
            self.send_response(given.status)
            self.send_header("Content-Type", given.kind)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing: what matters, the test sees."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A server that counts a moment after it has answered, or whose metrics endpoint is slow to begin with: totals are right or absent, never short."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aiperf import Run, profile
from aiperf import write as write_run
from aiperf.config.resolve import config_from

TOKENS = 4
LAG_S = 0.4
"""From a response to its place in the counters."""
REQUESTS = 12


class Counting(ThreadingHTTPServer):
    """`first_s`: how long the first scrape takes. `is_shy`: scrapes fail until a request has come."""

    daemon_threads = True

    def __init__(self, first_s: float, *, is_shy: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.first_s, self.is_shy = first_s, is_shy
        self.ended: list[float] = []
        self.scrapes = 0
        self.never = threading.Event()

    def page(self) -> str:
        counted = sum(at + LAG_S <= time.monotonic() for at in list(self.ended))
        return (
            f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {len(self.ended) - counted}\n"
            f"# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total {TOKENS * counted}\n"
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Counting

    def log_message(self, *_: object) -> None:
        """Nothing: the test's own output is enough."""

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self._send(200, json.dumps({"data": [{"id": "m"}]}), "application/json")
            return
        self.server.scrapes += 1
        if self.server.is_shy and not self.server.ended:
            self._send(503, "not yet", "text/plain")
            return
        if self.server.scrapes == 1:
            self.server.never.wait(self.server.first_s)
        self._send(200, self.server.page(), "text/plain; version=0.0.4")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        usage = {"prompt_tokens": 8, "completion_tokens": TOKENS, "total_tokens": 8 + TOKENS}
        message = {"role": "assistant", "content": "one two three four"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        self.server.ended.append(time.monotonic())
        self._send(200, json.dumps({"model": "m", "choices": choices, "usage": usage}), "application/json")

    def _send(self, status: int, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def counting(first_s: float = 0.0, *, is_shy: bool = False) -> Iterator[str]:
    server = Counting(first_s, is_shy=is_shy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def measure(url: str, directory: Path) -> Run:
    asked: dict[str, object] = {
        "model": "m",
        "url": url,
        "tokenizer": "builtin",
        "isl": 8,
        "concurrency": 2,
        "request_count": REQUESTS,
        "server_metrics": (f"{url}/metrics",),
        "server_metrics_interval": 0.1,
        "calibrate": False,
        "report": False,
        "artifact_dir": directory / "run",
    }
    return write_run(profile(config_from(asked)))


def exported_total(run: Run) -> float:
    told = json.loads((run.dir / "server_metrics_export.json").read_text(encoding="utf-8"))
    series = next(m for name, m in told["metrics"].items() if name.startswith("vllm:generation_tokens"))["series"]
    return float(series[0]["stats"]["total"])


@pytest.mark.slow
@pytest.mark.parametrize("first_s", [0.0, 1.5])
def test_what_is_counted_late_is_counted(tmp_path: Path, first_s: float) -> None:
    with counting(first_s) as url:
        run = measure(url, tmp_path)
    view = run.summary().server
    assert view is not None
    assert view.stat("generation_tokens") == REQUESTS * TOKENS
    assert exported_total(run) == REQUESTS * TOKENS
    assert "server_metrics_late" not in {n.kind for n in run.notes}


@pytest.mark.slow
def test_what_was_counted_before_the_first_scrape_is_not_guessed(tmp_path: Path) -> None:
    with counting(is_shy=True) as url:
        run = measure(url, tmp_path)
    view = run.summary().server
    assert view is None or view.stat("generation_tokens") is None
    assert "server_metrics_late" in {n.kind for n in run.notes}

"""The live page's server: readers that are slow, and a run that ends without results."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiperf.config.model import Config
from aiperf.live.board import Board
from aiperf.live.serve import server as module
from aiperf.live.serve.gate import Gate
from aiperf.live.serve.server import LiveServer


@pytest.fixture
def live() -> Iterator[LiveServer]:
    server = LiveServer(Board(Config()), Gate("127.0.0.1"), 0, "--serve")
    server.start()
    yield server
    server.finish(0.0)


def ask(live: LiveServer, path: str, size: int | None = None, method: str = "GET") -> socket.socket:
    """A connection that has asked; `size`: of its receive buffer."""
    reader = socket.socket()
    if size is not None:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    reader.settimeout(20)
    reader.connect(("127.0.0.1", live.port))
    reader.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    return reader


@pytest.mark.slow
def test_a_large_report_reaches_a_slow_reader(
    live: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit for a reader that hangs is one for each block: a report took longer as a whole and was cut off."""
    monkeypatch.setattr(module._Handler, "timeout", 0.5)
    (tmp_path / "report.html").write_bytes(b"x" * 4_000_000)
    live.board.written(tmp_path)
    received, begin = 0, time.monotonic()
    with ask(live, "/report", size=1 << 16) as reader:
        while block := reader.recv(1 << 18, socket.MSG_WAITALL):
            received += len(block)
            time.sleep(0.1)  # the reader is slow
    assert time.monotonic() - begin > 1.0
    assert received > 4_000_000


def test_a_page_is_told_of_a_run_without_results(live: LiveServer) -> None:
    with ask(live, "/events") as reader, reader.makefile("r", encoding="utf-8") as lines:
        assert next(line for line in lines if line.startswith("data: "))
        live.board.failed("connection refused by `http://x`")
        frame = json.loads(next(line for line in lines if line.startswith("data: ")).removeprefix("data: "))
        assert (frame["status"], frame["stage"]) == ("failed", "connection refused by `http://x`")
    begin = time.monotonic()
    live.finish(60.0)
    assert time.monotonic() - begin < 5, "there is nothing to serve: the error is not held back"


def test_results_are_not_taken_back(live: LiveServer, tmp_path: Path) -> None:
    live.board.written(tmp_path)
    live.board.failed("interrupted")
    assert live.board.status == "complete"


def test_a_question_for_the_head_of_the_events_ends(live: LiveServer) -> None:
    with ask(live, "/events", method="HEAD") as reader:
        head = b"".join(iter(lambda: reader.recv(4096), b""))
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")

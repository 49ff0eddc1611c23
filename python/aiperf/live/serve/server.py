"""A small HTTP server on threads of its own. A reader that hangs is dropped after ten seconds and delays nobody: each has a thread, each gets
the latest state and skips what it missed, and the run never waits for one.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from aiperf.background import yield_to_load
from aiperf.errors import ConfigError, Problem
from aiperf.live import aiperf_api
from aiperf.live.board import Board
from aiperf.live.frame import frame_of, moments_of
from aiperf.live.serve.gate import Gate
from aiperf.live.serve.page import render_page
from aiperf.reports.writing import part_of

__all__ = ["LIVE_FILE", "LiveServer"]

LIVE_FILE: Final = "live.json"
_MOST_READERS: Final = 64
_HANG_S: Final = 10.0
_FRAME_S: Final = 0.5
_HEARTBEAT_S: Final = 10.0
_REPORT_WAIT_S: Final = 10.0
_FAILED_WAIT_S: Final = 1.0
_BLOCK: Final = 1 << 16
"""Bytes that a reader has ten seconds for: less than 7 KB/s is a reader that hangs."""


class LiveServer:
    """Listens when it is made; ConfigError if it cannot. `start` serves, `finish` waits for open pages to get the report."""

    def __init__(self, board: Board, gate: Gate, port: int, option: str) -> None:
        self.board = board
        self.gate = gate
        self.pages = 0
        """Live pages that are open."""
        self.reports = 0
        """Reports that were handed out since the run is complete."""
        self.lock = threading.Lock()
        self._announced: list[Path] = []
        family = socket.AF_INET6 if ":" in gate.host else socket.AF_INET
        kind = type("_Server", (_Server,), {"address_family": family})
        try:
            self._server = kind((gate.host.strip("[]"), port), partial(_Handler, self))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                [Problem(f"cannot listen on {gate.host}:{port}: {reason}", option, "another port, or 0 for a free one")]
            ) from error
        self._thread = threading.Thread(target=self._serve, name="aiperf-live", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """With the token, if one is needed."""
        host = self.gate.host
        if host in {"0.0.0.0", "::", "[::]"}:  # noqa: S104 - what the user asked for
            host = socket.gethostname()
        host = f"[{host.strip('[]')}]" if ":" in host else host
        return f"http://{host}:{self.port}/" + ("" if self.gate.is_local else f"?token={self.gate.token}")

    def start(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        yield_to_load(has_to_keep_up=True)
        self._server.serve_forever(poll_interval=0.5)

    def announce(self, directory: Path) -> None:
        """Where the page is, in the run's folder, for `aiperf view`; readable by this user alone, as it holds the token."""
        with suppress(OSError):  # `aiperf view` then shows what is on disk
            file = directory / LIVE_FILE
            part = part_of(file)
            part.touch(mode=0o600)
            part.write_text(json.dumps({"url": self.url}, allow_nan=False), encoding="utf-8")
            part.replace(file)
            self._announced.append(file)

    def finish(self, hold_s: float | None) -> None:
        """Keep serving `hold_s`; None: until each open page has the report, ten seconds at most. Ctrl-C ends it.

        Of a run without results there is nothing to serve: open pages are told, and the error waits no longer than that.
        """
        try:
            begin = time.monotonic()
            has_results = self.board.status == "complete"
            until_told = hold_s is None or not has_results
            limit = hold_s if hold_s is not None and has_results else _REPORT_WAIT_S if has_results else _FAILED_WAIT_S
            while (left := begin + limit - time.monotonic()) > 0:
                if until_told:
                    with self.lock:
                        if self.pages <= 0:
                            break
                time.sleep(min(0.1, left))
        except KeyboardInterrupt:  # whoever looks has looked enough: the page ends
            pass
        finally:
            for file in self._announced:
                with suppress(OSError):  # the file names a page that does not answer any more
                    file.unlink(missing_ok=True)
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._readers = threading.BoundedSemaphore(_MOST_READERS)
        super().__init__(*args, **kwargs)

    def process_request(self, request: Any, client_address: Any) -> None:
        """With too many readers the newest is turned away."""
        if not self._readers.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._readers.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    server_version = "aiperf"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _HANG_S

    def __init__(self, live: LiveServer, *args: Any, **kwargs: Any) -> None:
        self.live = live
        super().__init__(*args, **kwargs)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Requests are not logged."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        numbers = path in _NUMBERS or path in {"/metrics", "/healthz", "/readyz"}
        refusal = self.live.gate.refusal(
            host=self.headers.get("Host") or "",
            origin=self.headers.get("Origin"),
            target=self.path,
            authorization=self.headers.get("Authorization"),
            numbers=numbers,
        )
        if refusal is not None:
            self._send(403, "text/plain; charset=utf-8", f"{refusal}\n".encode())
        elif path == "/":
            self._page()
        elif path == "/events":
            self._events()
        elif path == "/report":
            self._report()
        elif path == "/metrics":
            self._metrics()
        elif path in _NUMBERS:
            self._send(
                200,
                "application/json",
                json.dumps(_NUMBERS[path](self.live.board), default=str, allow_nan=False).encode(),
            )
        elif path in {"/healthz", "/readyz"}:
            self._send(200, "text/plain; charset=utf-8", b"ok")
        elif path.startswith("/api/results/files/"):
            self._file(unquote(path.removeprefix("/api/results/files/")))
        else:
            self._send(404, "text/plain; charset=utf-8", b"not here\n")

    def _send(self, status: int, kind: str, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self._headers(kind, more)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            for start in range(0, len(body), _BLOCK):
                self.wfile.write(body[start : start + _BLOCK])

    def _headers(self, kind: str, more: dict[str, str] | None = None) -> None:
        fixed = {
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Frame-Options": "DENY",
        }
        for name, value in (fixed | (more or {})).items():
            self.send_header(name, value)

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self._send(200, "text/html; charset=utf-8", render_page(nonce), {"Content-Security-Policy": policy})

    def _metrics(self) -> None:
        from aiperf.live.exposition import OPENMETRICS, TEXT, render

        is_open = "application/openmetrics-text" in (self.headers.get("Accept") or "")
        self._send(200, OPENMETRICS if is_open else TEXT, render(self.live.board, openmetrics=is_open))

    def _events(self) -> None:
        """Server-sent events: `frame` with the state and the moments since the one before, `report` when the run is complete."""
        live, board = self.live, self.live.board
        self.send_response(200)
        self._headers("text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        with live.lock:
            live.pages += 1
        try:
            self._stream(board)
        except OSError:
            return
        finally:
            with live.lock:
                live.pages -= 1

    def _stream(self, board: Board) -> None:
        version, at_s, run, told_at = -1, -1.0, None, 0.0
        while True:
            now = board.wait(version, _HEARTBEAT_S)
            if now == version:
                self.wfile.write(b": still here\n\n")
                continue
            version = now
            facts = board.facts
            is_new = facts is not run
            if is_new:
                run, at_s = facts, -1.0
            new = board.moments_since(at_s)
            if new and new[0].at_s < at_s:
                is_new = True
            frame = frame_of(board) | {"is_new": is_new, "moments": moments_of(new)}
            at_s = new[-1].at_s if new else at_s
            self._event("frame", frame)
            # As told: it may have changed since.
            status = frame["status"]
            if status == "complete":
                self._event("report", {"url": self._report_url()})
            if status in {"complete", "failed"}:
                # The page goes to the report, or stays as it is, and closes this.
                self.connection.settimeout(_REPORT_WAIT_S)
                self.rfile.read(1)
                return
            pause = told_at + _FRAME_S - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            told_at = time.monotonic()

    def _event(self, name: str, content: dict[str, object]) -> None:
        text = json.dumps(content, default=str, separators=(",", ":"), allow_nan=False)
        self.wfile.write(f"event: {name}\ndata: {text}\n\n".encode())
        self.wfile.flush()

    def _report_url(self) -> str | None:
        if self._report_file() is None:
            return None
        return "/report" + ("" if self.live.gate.is_local else f"?token={quote(self.live.gate.token)}")

    def _report_file(self) -> Any:
        folder = self.live.board.directory
        file = None if folder is None else folder / "report.html"
        return file if file is not None and file.is_file() else None

    def _report(self) -> None:
        file = self._report_file()
        if file is None:
            self._send(404, "text/plain; charset=utf-8", b"there is no report yet\n")
            return
        # The report brings its own policy; charts need `eval`, the network nobody.
        policy = (
            "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self._send(200, "text/html; charset=utf-8", file.read_bytes(), {"Content-Security-Policy": policy})
        with self.live.lock:
            self.live.reports += 1

    def _file(self, name: str) -> None:
        """A result file, when the run is complete."""
        folder = self.live.board.directory
        if folder is None or self.live.board.status != "complete":
            self._send(404, "text/plain; charset=utf-8", b"the run is not complete\n")
            return
        file = (folder / name).resolve()
        if not file.is_relative_to(folder.resolve()) or not file.is_file():
            self._send(404, "text/plain; charset=utf-8", b"not here\n")
            return
        self.send_response(200)
        self._headers("application/octet-stream")
        self.send_header("Content-Length", str(file.stat().st_size))
        self.end_headers()
        with file.open("rb") as content:
            while self.command != "HEAD" and (block := content.read(_BLOCK)):
                self.wfile.write(block)


def _files(board: Board) -> dict[str, object]:
    folder = board.directory
    is_ready = folder is not None and board.status == "complete"
    found = sorted(p for p in folder.iterdir() if p.is_file()) if folder is not None and is_ready else []
    return {"files": [{"name": p.name, "size": p.stat().st_size} for p in found], "ready": is_ready}


def _config(board: Board) -> dict[str, object]:
    from aiperf.config.as_aiperf import aiperf_input_config

    return dict(aiperf_input_config(board.config))


_NUMBERS: Final = {
    "/api/live": frame_of,
    "/api/progress": aiperf_api.progress,
    "/api/metrics": aiperf_api.metrics,
    "/api/run": aiperf_api.run_info,
    "/api/workers": aiperf_api.workers,
    "/api/config": _config,
    "/api/server-metrics": aiperf_api.server_metrics,
    "/api/results": aiperf_api.results,
    "/api/results/list": _files,
}

"""Files for the server under test to fetch: a process of its own, so that serving them takes no time from the load's.

`python -m aiperf.web.content_server HOST PORT FOLDER` prints its port and serves until its standard input is closed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from aiperf.errors import ConfigError, Problem

__all__ = ["ContentFolder", "serve_content"]


@dataclass(frozen=True, slots=True)
class ContentFolder:
    """Files under `folder` are served below `base`."""

    folder: Path
    base: str

    def add(self, name: str, data: bytes) -> str:
        """The URL of the file."""
        (self.folder / name).write_bytes(data)
        return f"{self.base}/{name}"


@contextmanager
def serve_content(host: str, port: int) -> Iterator[ContentFolder]:
    """A server of an empty folder until the end of the block. ConfigError if the address cannot be listened on."""
    with tempfile.TemporaryDirectory(prefix="aiperf-content-") as folder:
        command = [sys.executable, "-m", "aiperf.web.content_server", host, str(port), folder]
        process = subprocess.Popen(  # noqa: S603 - this module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
            chosen = process.stdout.readline().strip()
            if not chosen:
                said = (process.stderr.read() if process.stderr else "").strip().splitlines()
                text = f"cannot serve content at `{host}:{port}`: {said[-1] if said else 'no reason given'}"
                raise ConfigError((Problem(text, "--content-server-port"),))
            shown = f"[{host}]" if ":" in host else host
            yield ContentFolder(Path(folder), f"http://{shown}:{chosen}")
        finally:
            process.communicate()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024


def main() -> None:
    host, port, folder = sys.argv[1:4]
    server = _Server((host, int(port)), partial(_Handler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()

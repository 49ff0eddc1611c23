"""`aiperf capture` in front of a benchmark's server: a process of its own on the server's core."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.server import SERVER_CORE, Server

__all__ = ["captured_lines", "capturing"]


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

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def endpoint_url() -> Iterator[str]:
    """`aiperf sim` as a reader would start it, faster than a real server; it prints its URL when it is ready."""
    command = [
        str(Path(sys.executable).with_name("aiperf")),
        "sim",
        "--model",
        "qwen3-0.6b",
        "--ttft",
        "20ms",
        "--jitter",
        "0.5",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()

"""Limits of the machine: no local port left, no file descriptor left. Named as what they are, and no hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.runs import Sim

from aiperf.errors import ErrorKind, ExitCode

IN_PROCESS = """
import json, sys
from contextlib import contextmanager, nullcontext
from aiperf._core import SimServer
from aiperf.config.resolve import config_from
from aiperf import profile, write
import numpy as np
{before}
@contextmanager
def own_server():
    with SimServer(json.dumps({{"ttft_ms": 300, "models": ["m"]}})) as sim:
        yield sim.url
with {server} as url:
    run = write(profile(config_from(
        model="m", url=url, streaming=True, tokenizer="builtin", isl=10, osl=4, probe=False, no_server_metrics=True,
        calibrate=False, report=False, max_error_rate=0.1, artifact_dir={directory!r}, concurrency={concurrency}, request_count={count},
        connection_reuse_strategy="never", check={check},
    )))
values, counts = np.unique(run.columns.scalar("error_kind"), return_counts=True)
print("RESULT", json.dumps({{"exit": int(run.exit_code), "kinds": dict(zip(map(int, values), map(int, counts)))}}))
"""


def result(output: str) -> tuple[int, dict[ErrorKind, int]]:
    found = json.loads(next(line for line in output.splitlines() if line.startswith("RESULT"))[7:])
    return found["exit"], {ErrorKind(int(k)): v for k, v in found["kinds"].items()}


def script(
    directory: Path, concurrency: int, count: int, before: str = "", *, url: str | None = None, check: bool = True
) -> str:
    """A program that runs the tool against this server, or one of its own."""
    server = "own_server()" if url is None else f"nullcontext({url!r})"
    text = textwrap.dedent(IN_PROCESS)
    return text.format(
        directory=str(directory), concurrency=concurrency, count=count, before=before, server=server, check=check
    )


def run_with_ports(ports: int, text: str) -> subprocess.CompletedProcess[str]:
    """Python code in a network namespace of its own that has this many local ports."""
    prepare = f"ip link set lo up && sysctl -q -w net.ipv4.ip_local_port_range='40000 {39999 + ports}' && exec \"$@\""
    return subprocess.run(
        ["unshare", "--net", "sh", "-c", prepare, "sh", sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.root
def test_too_few_ports_are_found_before_the_start(tmp_path: Path) -> None:
    done = run_with_ports(100, script(tmp_path / "run", 500, 1000))
    assert done.returncode != 0
    assert "500" in done.stderr
    assert "local ports" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.root
def test_a_hundred_ports_and_five_hundred_in_flight(tmp_path: Path) -> None:
    """As when others take the ports after the check."""
    done = run_with_ports(100, script(tmp_path / "run", 500, 1000, check=False))
    assert "RESULT" in done.stdout, done.stdout + done.stderr
    code, kinds = result(done.stdout)
    assert kinds.get(ErrorKind.PORT_EXHAUSTED, 0) > 100
    assert set(kinds) <= {ErrorKind.OK, ErrorKind.PORT_EXHAUSTED}
    assert sum(kinds.values()) == 1000
    assert code == ExitCode.REQUESTS_FAILED
    text = (tmp_path / "run" / "profile_export_console.txt").read_text(encoding="utf-8").lower()
    assert "port" in text


def test_no_file_descriptor_left(serve: Callable[..., Sim], tmp_path: Path) -> None:
    """A limit set after the check at the start, as when something else of the process takes them."""
    before = textwrap.dedent("""
        import resource
        import aiperf.run.prepare as prepare
        prepare.raise_file_limit = lambda *a, **k: resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    """)
    done = subprocess.run(
        [sys.executable, "-c", script(tmp_path / "run", 200, 300, before, url=serve(ttft_ms=300).url)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=os.environ | {"AIPERF_TRACEBACK": "1"},
    )
    assert "RESULT" in done.stdout, done.stdout + done.stderr
    code, kinds = result(done.stdout)
    assert kinds.get(ErrorKind.FD_LIMIT, 0) > 0
    assert sum(kinds.values()) == 300
    assert code == ExitCode.REQUESTS_FAILED

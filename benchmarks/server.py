"""The simulated server in a process of its own, on a core of its own, with its ledger and its CPU time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["CLIENT_CORE", "ROOT", "SERVER_CORE", "Server", "process_cpu_s", "rust_binary", "serving"]

ROOT = Path(__file__).parents[1]
SERVER_CORE = 0
CLIENT_CORE = 1
ANSWER_S = 30.0


@cache
def rust_binary(package: str, name: str, *, is_example: bool = False) -> Path:
    """Builds one binary of the workspace (release) and says where it is."""
    kind = "--example" if is_example else "--bin"
    command = ["cargo", "build", "-q", "--release", "-p", package, kind, name, "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return Path(message["executable"])
    raise FileNotFoundError(f"cargo built `{package}` but names no executable `{name}`")


def process_cpu_s(pid: int) -> float:
    """CPU time of a living process with all its threads, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: `address` is `host:port`, or `unix:/path`."""

    address: str
    process: subprocess.Popen[str]
    ledger: Path | None

    @property
    def url(self) -> str:
        return self.address if self.address.startswith("unix:") else f"http://{self.address}"

    @property
    def cpu_s(self) -> float:
        return process_cpu_s(self.process.pid)

    def ledger_rows(self) -> list[dict[str, Any]]:
        """Everything the server has written down so far, one object per request."""
        if self.ledger is None or self.process.stdin is None:
            raise ValueError("the server was started without a ledger")
        self.process.stdin.write("flush\n")
        self.process.stdin.flush()
        _read_line(self.process)
        with self.ledger.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]


def _read_line(process: subprocess.Popen[str]) -> str:
    """The server's next line; `RuntimeError` if it ended or says nothing in time."""
    if process.stdout is None or not select.select([process.stdout], [], [], ANSWER_S)[0]:
        raise RuntimeError("the simulated server does not answer")
    if not (line := process.stdout.readline()):
        raise RuntimeError("the simulated server ended; its message is above")
    return line


@contextmanager
def serving(
    options: Mapping[str, object], *, ledger: bool = False, unix: bool = False, core: int | None = SERVER_CORE
) -> Iterator[Server]:
    """A server with these options (names of `SimOptions` in crates/sim), until the block ends; on a Unix socket if asked."""
    binary = rust_binary("aiperf-sim", "serve", is_example=True)
    affinity = ["taskset", "-c", str(core)] if core is not None else []
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as folder:
        path = Path(folder, "ledger.jsonl") if ledger else None
        socket = Path(folder, "sim.sock")
        more = ({"ledger": str(path)} if path else {}) | ({"unix": str(socket)} if unix else {})
        text = json.dumps(dict(options) | more)
        with subprocess.Popen(
            [*affinity, binary, text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                port = json.loads(_read_line(process))["port"]
                yield Server(f"unix:{socket}" if unix else f"127.0.0.1:{port}", process, path)
            finally:
                process.terminate()

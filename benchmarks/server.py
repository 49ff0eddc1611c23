"""The simulated server in a process of its own, on a core of its own, with its ledger and its CPU time."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["CLIENT_CORE", "ROOT", "SERVER_CORE", "Server", "process_cpu_s", "rust_binary", "serving"]

ROOT = Path(__file__).parents[1]
SERVER_CORE = 0
CLIENT_CORE = 1
READY_S = 10.0


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
    """A running server: `address` is `host:port`."""

    address: str
    pid: int
    ledger: Path | None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def cpu_s(self) -> float:
        return process_cpu_s(self.pid)


def _read_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address from the first line that has one."""
    assert process.stdout is not None
    deadline = time.monotonic() + READY_S
    seen = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([process.stdout], [], [], left)[0]:
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            break
        seen += piece
        if b"\n" in seen and (found := re.search(rb"127\.0\.0\.1:\d+", seen)):
            return found[0].decode()
    raise RuntimeError(f"the simulated server did not start: {seen.decode()} {log.read_text(encoding='utf-8')}")


@contextmanager
def serving(options: Mapping[str, object], *, ledger: bool = False, core: int | None = SERVER_CORE) -> Iterator[Server]:
    """A server with these options (names of `SimOptions` in crates/sim), until the block ends."""
    binary = rust_binary("aiperf-sim", "serve", is_example=True)
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as folder:
        path = Path(folder, "ledger.jsonl") if ledger else None
        full = dict(options) | ({"ledger": str(path)} if path else {})
        log = Path(folder, "log")
        with log.open("wb") as stderr:
            process = subprocess.Popen([binary, json.dumps(full)], stdout=subprocess.PIPE, stderr=stderr)
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            yield Server(_read_address(process, log), process.pid, path)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

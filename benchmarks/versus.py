"""AIPerf 0.13.0 and this tool, the same commands against the same simulated server. `make versus`, benchmarks/README.md.

`--peer VENV` takes an environment that has AIPerf; otherwise one is made (about 2 GB are fetched). `--update` writes the table
into README.md between its markers.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import hashlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import BUSY, chunks_per_s, machine
from benchmarks.command import run
from benchmarks.server import ROOT, SERVER_CORE, serving
from benchmarks.tool import Tool, compare_with_ledger

from benchmarks import loads

PEER_VERSION = "0.13.0"
VOCABULARY_URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
START, END = "<!-- versus: written by `make versus VERSUS=--update` -->", "<!-- /versus -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Medians of both tools. `is_server_busy`: ours was held back by the server's core."""

    name: str
    unit: str
    peer: float
    ours: float
    more_is_better: bool
    is_server_busy: bool = False

    @property
    def times(self) -> float:
        return self.ours / self.peer if self.more_is_better else self.peer / self.ours


class Pair:
    """Values of the two tools, collected in alternation."""

    def __init__(self, peer: Tool, ours: Tool) -> None:
        self.tools = {"peer": peer, "ours": ours}
        self.values: dict[str, list[list[float]]] = {"peer": [], "ours": []}
        self.busy: list[float] = []

    def collect(self, repeats: int, measure: Callable[[str, Tool], Sequence[float]]) -> None:
        for _ in range(repeats):
            for key, tool in self.tools.items():
                self.values[key].append(list(measure(key, tool)))

    def row(self, index: int, name: str, unit: str, *, more_is_better: bool) -> Measured:
        peer, ours = (statistics.median(one[index] for one in self.values[key]) for key in ("peer", "ours"))
        busy = statistics.median(self.busy) > BUSY if self.busy else False
        return Measured(name=name, unit=unit, peer=peer, ours=ours, more_is_better=more_is_better, is_server_busy=busy)


def requests(peer: Tool, ours: Tool, repeats: int) -> Iterator[Measured]:
    pair = Pair(peer, ours)
    with serving(loads.PLAIN) as server:

        def measure(key: str, tool: Tool) -> Sequence[float]:
            with tool.profile(server, [*loads.PLAIN_FLAGS, "--benchmark-duration", "5"]) as outcome:
                if key == "ours":
                    pair.busy.append(outcome.server_cpu)
                return [outcome.value("request_throughput")]

        pair.collect(repeats, measure)
    yield pair.row(0, "short requests, 64 connections", "requests/s", more_is_better=True)


def chunks(peer: Tool, ours: Tool, repeats: int) -> Iterator[Measured]:
    for name, options in (
        ("streams of 500 chunks, 64 chunks a write", loads.COALESCED),
        ("streams of 500 chunks, one write per chunk (the kernel's limit)", loads.SINGLE_WRITES),
    ):
        pair = Pair(peer, ours)
        with serving(options) as server:

            def measure(key: str, tool: Tool, pair: Pair = pair) -> Sequence[float]:
                with tool.profile(server, [*loads.STREAM_FLAGS, "--benchmark-duration", "5"]) as outcome:
                    if key == "ours":
                        pair.busy.append(outcome.server_cpu)
                    return [chunks_per_s(outcome)]

            pair.collect(repeats, measure)
        yield pair.row(0, name, "chunks/s", more_is_better=True)


def errors(peer: Tool, ours: Tool, repeats: int) -> Iterator[Measured]:
    for case in loads.ACCURACY:
        pair = Pair(peer, ours)

        def measure(key: str, tool: Tool, case: loads.Accuracy = case) -> Sequence[float]:
            del key
            with serving(case.server, ledger=True) as server, tool.profile(server, case.flags) as outcome:
                return compare_with_ledger(outcome, server)

        pair.collect(repeats, measure)
        load = f"{case.streams} streams, {case.streams / case.gap_ms * 1000:,.0f} chunks/s"
        yield pair.row(0, f"mean error of TTFT, {load}", "ms", more_is_better=False)
        yield pair.row(1, f"mean error of ITL, {load}", "ms", more_is_better=False)


def weight(peer: Tool, ours: Tool, repeats: int) -> Iterator[Measured]:
    pair = Pair(peer, ours)
    pair.collect(repeats, lambda _, tool: [run([tool.executable, "profile", "--help"]).wall_s])
    yield pair.row(0, "`aiperf profile --help`", "s", more_is_better=False)

    pair = Pair(peer, ours)
    flags = ["--streaming", "--request-count", "10", "--isl", "100", "--osl", "10"]
    with serving({"count": "none"}) as server:

        def measure(key: str, tool: Tool) -> Sequence[float]:
            del key
            with tool.profile(server, flags) as outcome:
                wall_s = outcome.finished.wall_s
            with tool.profile(server, flags, measure_memory=True) as outcome:
                return [wall_s, outcome.finished.peak_mb()]

        pair.collect(repeats, measure)
    yield pair.row(0, "10 requests, whole command", "s", more_is_better=False)
    yield pair.row(1, "10 requests, peak memory", "MB", more_is_better=False)


PARTS = {"requests": requests, "chunks": chunks, "errors": errors, "weight": weight}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def render(rows: Sequence[Measured], repeats: int) -> str:
    """The table as Markdown."""
    lines = [f"| One core for the client | AIPerf {PEER_VERSION} | this tool | × |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        mark = " ¹" if row.is_server_busy else ""
        lines.append(
            f"| {row.name}, {row.unit} | {_number(row.peer)} | {_number(row.ours)}{mark} | {_number(row.times)} |"
        )
    lines += ["", f"{machine()}; medians of {repeats}; {dt.datetime.now(dt.UTC):%Y-%m-%d}. Factors are per core."]
    if any(row.is_server_busy for row in rows):
        lines.append("¹ The simulated server's core was over 90 % busy: it, not the client, set the pace.")
    return "\n".join(lines)


def update_readme(table: str, path: Path = ROOT / "README.md") -> None:
    """Replaces what stands between the markers."""
    text = path.read_text(encoding="utf-8")
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"`{path}` has not exactly one `{START}` and one `{END}`")
    head, rest = text.split(START)
    path.write_text(f"{head}{START}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def cache_vocabulary(folder: Path) -> None:
    """Puts o200k where tiktoken looks before it asks the net: the other tool's `builtin` needs it, ours has it in the wheel.

    Written from the packed one of our tokenizer, token by token in the order of their ids; tiktoken checks the file's hash.
    """
    from aiperf._core import read_bytes

    packed = read_bytes(str(ROOT / "crates" / "tokens" / "src" / "o200k.zst"))
    lines: list[bytes] = []
    at = 0
    while at < len(packed):
        token = packed[at + 1 : at + 1 + packed[at]]
        lines.append(b"%s %d\n" % (base64.b64encode(token), len(lines)))
        at += 1 + len(token)
    name = hashlib.sha1(VOCABULARY_URL.encode(), usedforsecurity=False).hexdigest()
    (folder / name).write_bytes(b"".join(lines))
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)


def find_peer(venv: Path | None, stack: ExitStack) -> Tool:
    """The other tool: in `venv`, or freshly installed where none is given."""
    if venv is None:
        venv = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiperf-peer-")))
        print(f"installing AIPerf {PEER_VERSION} in {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", f"aiperf=={PEER_VERSION}"], check=True)
    tool = Tool("AIPerf", venv / "bin" / "aiperf")
    version = run([tool.executable, "--version"], core=None).stdout
    if PEER_VERSION not in re.findall(r"[\d.]+\d", version):
        raise SystemExit(f"error: `{tool.executable}` is version {version.strip()}, not {PEER_VERSION}")
    return tool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, metavar="VENV", help=f"an environment with AIPerf {PEER_VERSION}")
    parser.add_argument("--ours", type=Path, metavar="VENV", default=Path(sys.executable).parents[1])
    parser.add_argument("--only", help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--update", action="store_true", help="write the table into README.md")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}")

    with ExitStack() as stack:
        cache_vocabulary(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiperf-bench-"))))
        peer = find_peer(options.peer, stack)
        ours = Tool("aiperf", options.ours / "bin" / "aiperf")
        loads.build()
        os.sched_setaffinity(0, {SERVER_CORE})
        rows = []
        for name in names:
            for row in PARTS[name](peer, ours, options.repeats):
                rows.append(row)
                print(f"{row.name}: {_number(row.peer)} → {_number(row.ours)} {row.unit}", file=sys.stderr, flush=True)
    table = render(rows, options.repeats)
    print(table)
    if options.update:
        update_readme(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

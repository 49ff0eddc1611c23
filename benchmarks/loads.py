"""The loads both benchmarks measure: options of the server, flags of the tool, and the yardsticks that go with them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import run
from benchmarks.server import CLIENT_CORE, ROOT, Server, rust_binary

__all__ = [
    "ACCURACY",
    "CHUNKS",
    "PLAIN",
    "SINGLE_WRITES",
    "STEADY",
    "STREAM_FLAGS",
    "Accuracy",
    "bare_pacer",
    "bare_reader",
    "build",
    "wrk",
]

CONNECTIONS = 64
STREAMS = 32
CHUNKS = 500
PROMPT_TOKENS = 16

# Prompt tokens are not counted by the server: that would be its work, not the client's.
PLAIN: dict[str, object] = {"count": "none", "usage": "never"}
COALESCED: dict[str, object] = {"count": "none", "coalesce": 64}
SINGLE_WRITES: dict[str, object] = {"count": "none", "coalesce": 1}

PLAIN_FLAGS = ("--concurrency", str(CONNECTIONS), "--isl", str(PROMPT_TOKENS), "--osl", "1")
STEADY: dict[str, object] = {"count": "none", "ttft_ms": 5, "itl_ms": 1}
STREAM_FLAGS = ("--streaming", "--concurrency", str(STREAMS), "--isl", str(PROMPT_TOKENS), "--osl", str(CHUNKS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A paced load whose truth is the ledger; all streams start in one instant. Limits: mean absolute errors, ms."""

    streams: int
    gap_ms: float
    requests: int
    ttft_limit_ms: float
    itl_limit_ms: float

    @property
    def server(self) -> dict[str, object]:
        return {"count": "none", "ttft_ms": 50, "ttft_jitter": 0.2, "itl_ms": self.gap_ms, "itl_jitter": 0.2}

    @property
    def flags(self) -> tuple[str, ...]:
        counts = ("--concurrency", str(self.streams), "--request-count", str(self.requests))
        return ("--streaming", *counts, "--isl", str(PROMPT_TOKENS), "--osl", "100")


ACCURACY = (
    Accuracy(streams=50, gap_ms=5, requests=200, ttft_limit_ms=0.1, itl_limit_ms=0.02),
    Accuracy(streams=200, gap_ms=5, requests=800, ttft_limit_ms=0.2, itl_limit_ms=0.05),
    Accuracy(streams=1000, gap_ms=25, requests=2000, ttft_limit_ms=0.3, itl_limit_ms=0.1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """Streams of the simulated server's engine mode in real time. `gap_ms`: what the model says, None if that depends on the load.

    `unix`: over a Unix socket, where a write costs the server's core a third of what it costs over TCP.
    """

    name: str
    engine: dict[str, object]
    streams: int
    gap_ms: float | None
    requests: int
    osl: int
    isl: int = PROMPT_TOKENS
    unix: bool = False

    @property
    def server(self) -> dict[str, object]:
        return {"engine": self.engine}

    @property
    def flags(self) -> tuple[str, ...]:
        counts = ("--concurrency", str(self.streams), "--request-count", str(self.requests))
        return ("--streaming", *counts, "--isl", str(self.isl), "--osl", str(self.osl))


ENGINE = (
    EngineLoad(
        name="the demo's preset, 500 streams",
        engine={"preset": "qwen3-0.6b-8xh200"},
        streams=500,
        gap_ms=None,
        requests=1000,
        osl=500,
        isl=1000,
    ),
    EngineLoad(
        name="4,000 streams, gap 25 ms", engine={"preset": "even-25ms"}, streams=4000, gap_ms=25, requests=8000, osl=200
    ),
    EngineLoad(
        name="4,000 streams, gap 25 ms, Unix socket",
        engine={"preset": "even-25ms"},
        streams=4000,
        gap_ms=25,
        requests=8000,
        osl=200,
        unix=True,
    ),
)


def build() -> None:
    """Everything native that a benchmark runs, so that no compiler disturbs a measurement."""
    rust_binary("aiperf-sim", "serve", is_example=True)
    for name in ("bare_reader", "bare_pacer", "bare_writer"):
        rust_binary("yardsticks", name)


@contextmanager
def _body(**fields: object) -> Iterator[Path]:
    """A request as `aiperf profile` would send it, in a file."""
    prompt = " ".join(["word"] * PROMPT_TOKENS)
    body = {"model": "sim", "messages": [{"role": "user", "content": prompt}], **fields}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(body, file)
        file.flush()
        yield Path(file.name)


def wrk(server: Server, seconds: float, *, core: int | None = CLIENT_CORE, connections: int = CONNECTIONS) -> float:
    """Requests per second of `wrk -t1 -c64`, replies of one token."""
    with _body(max_completion_tokens=1) as body:
        command: list[str | Path] = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "-s",
            ROOT / "benchmarks" / "post.lua",
        ]
        finished = run([*command, f"{server.url}/v1/chat/completions", "--", body], core=core)
    if "Non-2xx" in finished.stdout:
        raise RuntimeError(f"wrk was refused:\n{finished.stdout}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", finished.stdout)
    if found is None:
        raise RuntimeError(f"wrk says no rate:\n{finished.stdout}")
    return float(found[1])


def bare_reader(server: Server, seconds: float) -> tuple[float, float]:
    """Chunks per second that a loop reading bytes gets, and the server's CPU meanwhile."""
    binary = rust_binary("yardsticks", "bare_reader")
    options = {"include_usage": True}
    with _body(stream=True, stream_options=options, max_completion_tokens=CHUNKS, ignore_eos=True) as body:
        before_s = server.cpu_s
        words: list[str | Path] = [
            "--addr",
            server.address,
            "--body",
            body,
            "--connections",
            str(STREAMS),
            "--seconds",
            str(seconds),
        ]
        finished = run([binary, *words, "--warmup", "0.3"])
        server_s = server.cpu_s - before_s
    said = json.loads(finished.stdout)
    chunks = said["bytes"] / said["bytes_per_response"] * CHUNKS
    return chunks / said["seconds"], server_s / (said["seconds"] + 0.3)


def bare_writer(streams: int, gap_ms: float, seconds: float) -> float:
    """Time from round to round of a loop that only writes 230 bytes to each connection, ms; the gap asked for if it keeps up."""
    words: list[str | Path] = ["--connections", str(streams), "--gap-ms", str(gap_ms), "--seconds", str(seconds)]
    finished = run([rust_binary("yardsticks", "bare_writer"), *words], core=None)
    return 1e3 / float(json.loads(finished.stdout)["rounds_per_s"])


def bare_pacer(rate_per_s: float, seconds: float) -> float:
    """p99 of the lag of a loop that only sleeps to deadlines, ms."""
    finished = run([rust_binary("yardsticks", "bare_pacer"), "--rate", str(rate_per_s), "--seconds", str(seconds)])
    return float(json.loads(finished.stdout)["p99_us"]) / 1e3

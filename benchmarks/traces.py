"""How fast and lean traces and conversations are: `python -m benchmarks.traces [TRACE] [--only first,replay,…] [--long]`.

TRACE is a Mooncake file (`conversation_trace.jsonl`: 12,031 requests, 145 M input tokens); without one, a look-alike is made.
Server and client have a core each, as in the other benchmarks; figures of a row marked `!` had a server above 90 % of its core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.command import AIPERF, Finished, folder, quiet_profile, run
from benchmarks.rows import Row, goal, show
from benchmarks.server import Server, serving

__all__ = ["look_alike"]

REPEATS = 5
SPEEDUP = 20.0
FAST: Mapping[str, object] = {"ttft_ms": 0, "itl_ms": 0, "coalesce": 512, "count": "none"}
SESSIONS, TURNS, IN_FLIGHT = 10_000, 5, 500
ISL, OSL = 40, 8
BLOCK = 512


def look_alike(path: Path, requests: int = 12_031, seed: int = 1) -> Path:
    """A trace of the same size: an hour, a mean of 12,000 input tokens, conversations that grow over a common first block."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 3_540_000, requests)) // 3000 * 3000
    added = np.minimum(rng.lognormal(8.6, 1.0, requests), 90_000).astype(int) + 1
    output = np.minimum(rng.lognormal(5.4, 1.0, requests), 2_000).astype(int) + 1
    threads: list[list[int]] = []
    fresh = 1
    with path.open("w", encoding="utf-8") as file:
        for request in range(requests):
            is_new = not threads or rng.random() < 0.4
            ids = [0] if is_new else threads[int(rng.integers(max(0, len(threads) - 500), len(threads)))]
            if len(ids) > 200:
                ids = [0]
            blocks = -(-int(added[request]) // BLOCK)
            ids = [*ids, *range(fresh, fresh + blocks)]
            fresh += blocks
            threads.append(ids[:-1])
            length = (len(ids) - 1) * BLOCK + int(added[request]) % BLOCK + 1
            line = {
                "timestamp": int(at[request]),
                "input_length": length,
                "output_length": int(output[request]),
                "hash_ids": ids,
            }
            file.write(json.dumps(line) + "\n")
    return path


def profile(server: Server, folder: Path, *flags: str) -> list[str | Path]:
    return quiet_profile(server.url, folder, "--streaming", *flags)


def replay(trace: Path, *flags: str) -> tuple[str, ...]:
    return ("--input-file", str(trace), "--custom-dataset-type", "mooncake_trace", "--fixed-schedule", *flags)


def first_request(trace: Path) -> Iterator[Row]:
    """From the start of the process to the first byte of the first request at the server."""
    seconds = []
    with serving(FAST, ledger=True) as server:
        for _ in range(REPEATS + 1):  # the first fills the caches of Python and of the tokenizer
            before = len(server.ledger_rows())
            begin = time.time()
            with folder() as target:
                run(profile(server, target, *replay(trace, "--request-count", "3")))
            rows = server.ledger_rows()[before:]
            seconds.append(min(r["first_byte_read_ns"] for r in rows) / 1e9 - begin)
    spread = f" ({min(seconds[1:]):.2f}–{max(seconds[1:]):.2f}, first time {seconds[0]:.2f})"
    yield goal("command to first request sent", statistics.median(seconds[1:]), "s", 1.5, more=spread)


def records_of(target: Path) -> Any:
    from aiperf.records.store import open_run

    return open_run(target)


def memory(trace: Path) -> Iterator[Row]:
    """Of the whole trace, sent in a few seconds: what is in memory does not depend on the time it takes."""
    with serving(FAST) as server, folder() as target:
        ended = run(profile(server, target, *replay(trace, "--replay-speedup", "200")), measure_memory=True)
        columns = records_of(target)
        ended_s = (columns.start_wall_ns + float(np.nanmax(columns.end))) / 1e9
    yield goal("peak memory while it is sent", ended.peak_mb(ended_s), "MB", 250)
    yield goal("peak memory of the whole command", ended.peak_mb(), "MB", 250)


def replay_fast(trace: Path) -> Iterator[Row]:
    """The whole trace at 20 × speed: lateness, nothing dropped. Memory is not looked at meanwhile: looking stops the process."""
    with serving(FAST) as server, folder() as target:
        ended = run(profile(server, target, *replay(trace, "--replay-speedup", f"{SPEEDUP:g}")))
        mark = "!" if server.cpu_s / ended.wall_s > 0.9 else ""
        columns = records_of(target)
        outcome = json.loads((target / "run.json").read_text(encoding="utf-8"))["outcome"]["phases"][-1]
        lag = (columns.sent - columns.scheduled) / 1e6
        text = float(columns.bytes_out.sum()) / 1e6
        lost = outcome["unsent"] + int((columns.error_kind != 0).sum())
    p50, p90 = np.quantile(lag, [0.5, 0.9])
    more = f" (p50 {p50:.2f}, p90 {p90:.2f}, max {lag.max():.1f}; {len(lag):,} requests, {text:,.0f} MB{mark})"
    yield goal(f"replay at {SPEEDUP:g} ×: send lag p99", float(np.quantile(lag, 0.99)), "ms", 1, more=more)
    yield goal("replay: not sent or failed", lost, "requests", 0)


def speed(_trace: Path) -> Iterator[Row]:
    from aiperf.workload.choose_tokenizer import load_tokenizer
    from aiperf.workload.tokenizers import TokenizerOptions
    from aiperf.workload.vocabulary import EncodedText, text_source

    tokenizer, _ = load_tokenizer(TokenizerOptions(name="builtin", model="builtin"))
    vocabulary, _ = text_source(tokenizer)
    if isinstance(vocabulary, EncodedText):
        raise TypeError("the built-in tokenizer's words do not add up")
    made = statistics.median(vocabulary.speed(BLOCK, 0.5) for _ in range(REPEATS)) / 1e6
    yield goal(f"bytes produced at send time, texts of {BLOCK} tokens", made, "MB/s per core", 500, at_most=False)


def stats(trace: Path) -> Iterator[Row]:
    seconds = [run([AIPERF, "trace", "stats", trace]).wall_s for _ in range(REPEATS + 1)][1:]
    yield goal("trace stats", statistics.median(seconds), "s", 1.5, more=f" ({min(seconds):.2f}–{max(seconds):.2f})")


def stats_long(trace: Path) -> Iterator[Row]:
    """A trace 100 × as long: every hundredth part shifted, with ids of its own."""
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
        lines = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
        span = max(line["timestamp"] for line in lines) + 3000
        top = max(i for line in lines for i in line["hash_ids"]) + 1
        short = run([AIPERF, "trace", "stats", trace])
        long = Path(name) / "long.jsonl"
        with long.open("w", encoding="utf-8") as file:
            for k in range(100):
                for line in lines:
                    ids = [i + k * top for i in line["hash_ids"]]
                    file.write(json.dumps(line | {"timestamp": line["timestamp"] + k * span, "hash_ids": ids}) + "\n")
        ended: Finished = run([AIPERF, "trace", "stats", long], measure_memory=True)
    yield goal("trace stats, 100 × as long: memory", ended.peak_mb(), "MB", 1000)
    yield goal("trace stats, 100 × as long: time", ended.wall_s / short.wall_s, "× the time", 110)


def sessions(_: Path) -> Iterator[Row]:
    """The same bodies on average: a session's turns hold what was said before."""
    mean_isl = round(ISL * (TURNS + 1) / 2 + OSL * (TURNS - 1) / 2)
    common = ("--concurrency", str(IN_FLIGHT), "--osl", str(OSL))
    conversations = ("--num-sessions", str(SESSIONS), "--session-turns-mean", str(TURNS), "--isl", str(ISL))
    single = ("--request-count", str(SESSIONS * TURNS), "--isl", str(mean_isl))
    rates: dict[str, list[float]] = {"sessions": [], "single": []}
    marks = set()
    with serving(FAST) as server:
        for _round in range(3):
            for kind, flags in (("single", single), ("sessions", conversations)):
                with folder() as target:
                    before = server.cpu_s
                    run(profile(server, target, *common, *flags))
                    columns = records_of(target)
                    seconds = float(columns.end.max() - columns.sent.min()) / 1e9
                    rates[kind].append(columns.num_rows / seconds)
                    marks |= {"!"} if (server.cpu_s - before) / seconds > 0.9 else set()
    with_sessions, without = statistics.median(rates["sessions"]), statistics.median(rates["single"])
    more = f" ({with_sessions:,.0f} to {without:,.0f} requests/s{''.join(marks)})"
    what = f"{SESSIONS:,} sessions × {TURNS} turns, {IN_FLIGHT} in flight"
    yield goal(what, with_sessions / without, "× the rate without sessions", 0.7, at_most=False, more=more)


PARTS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    "first": first_request,
    "memory": memory,
    "replay": replay_fast,
    "speed": speed,
    "stats": stats,
    "sessions": sessions,
    "long": stats_long,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path, nargs="?", help="a Mooncake trace; default: a look-alike")
    parser.add_argument("--only", default="", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--long", action="store_true", help="also a trace 100 times as long")
    arguments = parser.parse_args()
    # Start-up is measured as users have it: with Python's compiled files.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    wanted = arguments.only.split(",") if arguments.only else [n for n in PARTS if n != "long" or arguments.long]
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
        trace = arguments.trace or look_alike(Path(name) / "trace.jsonl")
        for part in wanted:
            for row in PARTS[part](trace):
                show([row])


if __name__ == "__main__":
    main()

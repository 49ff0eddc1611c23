"""How well several generators share a load, and what the head costs: `python -m benchmarks.scale [--only merge,start,rate,head]`.

Everything shares this machine's cores: generators, their null servers, the head and Ray. Each row says what shares what; on nodes of their
own, generators share nothing. Needs the extra `ray`, but for `merge`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import AIPERF, folder, high_water_bytes, quiet_profile
from benchmarks.loads import PLAIN, wrk
from benchmarks.rows import Row, goal, show
from benchmarks.server import Server, process_cpu_s, serving

REPEATS = 3
SECONDS = 4
IN_FLIGHT = 32
RATE_S = 3
"""Of the loads of `rate`, which has a dozen of them."""
LEAD_S = 4
"""Before parts begin together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """`head_cpu_s`: CPU time of the command's own process, samples of (epoch s, s); `peak_mb`: its highest resident size, MB = 10⁶ bytes."""

    wall_s: float
    begun_s: float
    head_cpu_s: tuple[tuple[float, float], ...]
    peak_mb: float


def command(words: Sequence[str | Path]) -> Ended:
    """Runs it on all cores, watched ten times a second; RuntimeError with what it wrote if it fails."""
    variables = os.environ | {"NO_COLOR": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1", "RAY_AUTH_MODE": "disabled"}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    begun_s, begin = time.time(), time.perf_counter()
    samples: list[tuple[float, float]] = []
    peak = 0
    with tempfile.TemporaryFile("w+") as out, subprocess.Popen(words, stdout=out, stderr=out, env=variables) as process:
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.1):
                try:
                    samples.append((time.time(), process_cpu_s(process.pid)))
                    peak = max(peak, high_water_bytes(process.pid))
                except (OSError, IndexError):  # it has ended
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        process.wait()
        done.set()
        wall_s = time.perf_counter() - begin
        if process.returncode:
            out.seek(0)
            raise RuntimeError(f"exit code {process.returncode}: {' '.join(map(str, words))}\n{out.read()[-5000:]}")
        watcher.join()
    return Ended(wall_s=wall_s, begun_s=begun_s, head_cpu_s=tuple(samples), peak_mb=peak / 1e6)


def merge(parts: int = 8, requests: int = 125_000, chunks: int = 100) -> Iterator[Row]:
    """The whole command, `profile_export.jsonl` and the page included."""
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
        folders = [Path(name, f"run-part{i + 1}of{parts}") for i in range(parts)]
        for i, folder in enumerate(folders):
            folder.mkdir()
            # In processes of their own: what they free must not be in the peak of what follows.
            code = f"from pathlib import Path; from benchmarks.report import write_run; write_run(Path({str(folder)!r}), {requests}, {chunks}, ({i}, {parts}))"
            subprocess.run([sys.executable, "-c", code], check=True)
        ended = command([AIPERF, "merge", *folders])
        size = sum(p.stat().st_size for p in Path(name, "run").rglob("*") if p.is_file()) / 1e9
    what = f"merge of {parts} × {requests:,} × {chunks} chunks"
    yield goal(what, ended.wall_s, "s", 15, more=f" ({size:.1f} GB of files written)")
    yield goal(f"{what}: peak memory", ended.peak_mb, "MB", 1000)


def profile(urls: Sequence[str], folder: Path, *flags: str) -> list[str | Path]:
    return quiet_profile(",".join(urls), folder, *flags)


def on_cluster(generators: int) -> tuple[str, ...]:
    return ("--generators", str(generators), "--cluster", "local", "--workers", "1")


def described(target: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((target / "run.json").read_text(encoding="utf-8"))
    return found


def rate_of(target: Path) -> float:
    """Successful requests per second of the measured phase."""
    summary = json.loads((target / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    return float(summary["request_throughput"]["avg"])


def first_request_s(target: Path) -> float:
    """Epoch s."""
    from aiperf.records.store import open_run

    columns = open_run(target)
    return (columns.start_wall_ns + float(columns.sent.min())) / 1e9


BARE_RAY = """
import os, sys, time
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
import ray
ray.init(address="local", num_cpus=max(int(sys.argv[1]), os.cpu_count() or 1), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
class Nothing:
    def pid(self): return os.getpid()
actors = [ray.remote(Nothing).options(num_cpus=1).remote() for _ in range(int(sys.argv[1]))]
ray.get([a.pid.remote() for a in actors])
print(time.time(), flush=True)
"""


def start(generators: int = 4) -> Iterator[Row]:
    """To the first request, beside a program that only starts Ray and as many empty actors, in turn."""
    whole, bare = [], []
    with serving(PLAIN, core=None) as server:
        for _ in range(REPEATS):
            begin = time.time()
            words = [sys.executable, "-c", BARE_RAY, str(generators)]
            ended = subprocess.run(words, check=True, capture_output=True, text=True)
            bare.append(float(ended.stdout.split()[-1]) - begin)
            with folder() as target:
                done = command(profile([server.url], target, "--request-count", "40", *on_cluster(generators)))
                whole.append(first_request_s(target) - done.begun_s)
    what = f"--generators {generators} --cluster local: to the first request"
    more = f" ({min(whole):.1f}–{max(whole):.1f}; Ray alone {statistics.median(bare):.1f}, {min(bare):.1f}–{max(bare):.1f})"
    yield goal(what, statistics.median(whole), "s", 8, more=more)
    ours = statistics.median(w - b for w, b in zip(whole, bare, strict=True))
    yield goal("of which more than Ray alone", ours, "s", 1)


@contextmanager
def null_servers() -> Iterator[list[Server]]:
    """One on each of two cores."""
    with ExitStack() as held:
        yield [held.enter_context(serving(PLAIN, core=core)) for core in (0, 1)]


def wrk_on(servers: Sequence[Server]) -> float:
    """Requests per second of one `wrk` for each server, on its server's core, all at once."""
    with ThreadPoolExecutor(len(servers)) as pool:
        jobs = [pool.submit(wrk, s, RATE_S - 1, core=core, connections=IN_FLIGHT) for core, s in enumerate(servers)]
        return sum(job.result() for job in jobs)


def parts_on(servers: Sequence[Server], load: Sequence[str]) -> float:
    """Requests per second of a `--part` for each server, on its server's core, all at once; without Ray and a head."""
    start_at = f"{time.time() + LEAD_S:.3f}"
    more = ("--concurrency", str(len(servers) * IN_FLIGHT), "--workers", "1", "--start-at", start_at)
    with ExitStack() as held:
        targets = [held.enter_context(folder()) for _ in servers]
        pool = held.enter_context(ThreadPoolExecutor(len(servers)))
        jobs = []
        for i, (server, target) in enumerate(zip(servers, targets, strict=True)):
            words = profile([server.url], target, *load, *more, "--part", f"{i + 1}/{len(servers)}")
            jobs.append(pool.submit(command, ["taskset", "-c", str(i), *words]))
        for job in jobs:
            job.result()
        return sum(map(rate_of, targets))


def rate() -> Iterator[Row]:
    """One generator and its null server on core 0, core 1 idle; then two generators with a null server, each pair on a core of its own.

    With two URLs and two parts, every session of a part goes to one of them. What the machine itself allows: the same with `wrk` for our
    generators. What Ray and the head cost: two pinned parts without them.
    """
    load = ("--isl", "16", "--osl", "1", "--benchmark-duration", str(RATE_S))
    one, two, parts, bare, skews = [], [], [], [], []
    with null_servers() as servers:
        urls = [s.url for s in servers]
        for _ in range(REPEATS):
            with folder() as target:
                words = profile(urls[:1], target, *load, "--concurrency", str(IN_FLIGHT), "--workers", "1")
                command(["taskset", "-c", "0", *words])
                one.append(rate_of(target))
            with folder() as target:
                command(
                    profile(urls, target, *load, "--concurrency", str(2 * IN_FLIGHT), "--cpus", "0,1", *on_cluster(2))
                )
                two.append(rate_of(target) / one[-1])
                skews += [g["start_skew_ns"] / 1e6 for g in described(target)["generators"]]
            parts.append(parts_on(servers, load) / one[-1])
            bare.append(wrk_on(servers) / wrk_on(servers[:1]))
    more = f" ({spread(two)}; one has {statistics.median(one):,.0f} requests/s and shares its core with its server, as each of the two does)"
    yield goal("2 generators on 2 cores", statistics.median(two), "× one on one core", 1.8, at_most=False, more=more)
    for what, ratios in (("`--part`, each pinned, without Ray and the head", parts), ("`wrk`, each pinned", bare)):
        yield Row(f"as two {what}", f"{statistics.median(ratios):.2f} × one ({spread(ratios)})", "", None)
    yield goal("start skew of 2 generators", max(skews), "ms", 2, more=f" (largest of {REPEATS} runs)")


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f}–{max(values):.2f}"


def head(generators: int = 8) -> Iterator[Row]:
    """CPU time of the command's process from 2 s after the first request until 1 s before the last, all on the same two cores."""
    shares = []
    load = ("--request-rate", "400", "--benchmark-duration", "14", "--streaming", "--isl", "16", "--osl", "20")
    with serving({"count": "none", "ttft_ms": 20, "itl_ms": 5}, core=None) as server:
        for _ in range(REPEATS):
            with folder() as target:
                ended = command(profile([server.url], target, *load, *on_cluster(generators)))
                first = first_request_s(target)
            inside = [s for s in ended.head_cpu_s if first + 2 <= s[0] <= first + 13]
            shares.append(100 * (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0]))
    more = f" ({min(shares):.1f}–{max(shares):.1f}; 400 requests/s × 20 chunks in all)"
    yield goal(f"head while {generators} generators run", statistics.median(shares), "% of a core", 10, more=more)


PARTS: Mapping[str, Callable[[], Iterator[Row]]] = {"merge": merge, "start": start, "rate": rate, "head": head}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"of {', '.join(PARTS)}")
    arguments = parser.parse_args()
    rows = []
    for part in arguments.only.split(",") if arguments.only else PARTS:
        for row in PARTS[part]():
            rows.append(row)
            show([row])
    return 0 if all(row.is_met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""How fast, how late, how heavy: a row per claim, each with its yardstick. `make bench`, benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.capturing import added_ttft_ms, captured_lines, capturing
from benchmarks.command import run
from benchmarks.pages import Which, scrape_cpu_s, serving_pages
from benchmarks.report import write_run
from benchmarks.screens import watch
from benchmarks.server import ROOT, SERVER_CORE, serving
from benchmarks.tool import Outcome, Tool, compare_with_ledger

from benchmarks import loads, observed

BUSY = 0.9
MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians. `met`: whether the target is reached, None if there is none; `server_cpu`: 1.0 is a whole core, None where no server matters."""

    name: str
    unit: str
    ours: float
    low: float
    high: float
    yardstick: float | None
    target: str
    met: bool | None
    server_cpu: float | None = None

    def cells(self) -> list[str]:
        busy = "–" if self.server_cpu is None else f"{self.server_cpu:.0%}{' !' if self.server_cpu > BUSY else ''}"
        ratio = "–" if not self.yardstick else f"{self.ours / self.yardstick:.2f} ×"
        return [
            f"{self.name} ({self.unit})",
            _number(self.ours),
            f"{_number(self.low)}–{_number(self.high)}",
            "–" if self.yardstick is None else _number(self.yardstick),
            ratio,
            self.target,
            {True: "yes", False: "NO", None: "–"}[self.met],
            busy,
        ]


HEADER = ["row", "ours", "min–max", "yardstick", "ratio", "target", "met", "server CPU"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def at_most(limit: float) -> Callable[[float, float], bool]:
    """A target that needs no yardstick."""
    return lambda ours, _: ours <= limit


def _row(
    name: str,
    unit: str,
    values: Sequence[float],
    target: str,
    is_met: Callable[[float, float], bool | None],
    yardstick: Sequence[float] = (),
    server_cpu: Sequence[float] = (),
) -> Row:
    ours = statistics.median(values)
    bare = statistics.median(yardstick) if yardstick else None
    met = is_met(ours, bare if bare is not None else float("nan"))
    cpu = statistics.median(server_cpu) if server_cpu else None
    return Row(
        name=name,
        unit=unit,
        ours=ours,
        low=min(values),
        high=max(values),
        yardstick=bare,
        target=target,
        met=met,
        server_cpu=cpu,
    )


def bench_plain(tool: Tool, repeats: int) -> Iterator[Row]:
    values, yardstick, cpu = [], [], []
    flags = [*loads.PLAIN_FLAGS, "--benchmark-duration", "3"]
    with serving(loads.PLAIN) as server:
        for _ in range(repeats):
            yardstick.append(loads.wrk(server, 3))
            with tool.profile(server, flags) as outcome:
                values.append(outcome.value("request_throughput"))
                cpu.append(outcome.server_cpu)
    yield _row("plain requests", "requests/s", values, "≥ 0.4 × wrk", lambda a, b: a >= 0.4 * b, yardstick, cpu)


def _streams(tool: Tool, repeats: int, options: dict[str, object]) -> tuple[list[float], list[float], list[float]]:
    values, yardstick, cpu = [], [], []
    with serving(options) as server:
        for _ in range(repeats):
            yardstick.append(loads.bare_reader(server, 2)[0])
            with tool.profile(server, [*loads.STREAM_FLAGS, "--benchmark-duration", "2"]) as outcome:
                values.append(chunks_per_s(outcome))
                cpu.append(outcome.server_cpu)
    return values, yardstick, cpu


def chunks_per_s(outcome: Outcome) -> float:
    """Chunks of complete requests per second. One token per chunk: the tokens are counted apart, so losses would show."""
    if (osl := outcome.value("output_sequence_length")) != loads.CHUNKS:
        raise RuntimeError(f"{osl} tokens per request recorded instead of {loads.CHUNKS}")
    return outcome.value("output_token_throughput")


def bench_coalesced(tool: Tool, repeats: int) -> Iterator[Row]:
    values, yardstick, cpu = _streams(tool, repeats, loads.COALESCED)
    yield _row("streaming, coalesced", "chunks/s", values, "≥ 1.5 M", lambda a, _: a >= 1.5e6, yardstick, cpu)


def bench_single(tool: Tool, repeats: int) -> Iterator[Row]:
    values, yardstick, cpu = _streams(tool, repeats, loads.SINGLE_WRITES)
    target = "≥ 0.7 × bare reader"
    yield _row("streaming, one write per chunk", "chunks/s", values, target, lambda a, b: a >= 0.7 * b, yardstick, cpu)


def bench_accuracy(tool: Tool, repeats: int) -> Iterator[Row]:
    for case in loads.ACCURACY:
        ttft, itl, cpu = [], [], []
        for _ in range(repeats):
            with serving(case.server, ledger=True) as server, tool.profile(server, case.flags) as outcome:
                errors = compare_with_ledger(outcome, server)
                ttft.append(errors[0])
                itl.append(errors[1])
                cpu.append(outcome.server_cpu)
        name = f"{case.streams} streams, gap {case.gap_ms:g} ms"
        for kind, values, limit in (("TTFT", ttft, case.ttft_limit_ms), ("ITL", itl, case.itl_limit_ms)):
            target = f"≤ {limit} ms"
            yield _row(f"{kind} error, {name}", "ms", values, target, at_most(limit), (), cpu)


def bench_engine(tool: Tool, repeats: int) -> Iterator[Row]:
    """Whether the engine model keeps its own time on one core, and what a loop that only writes would keep."""
    for load in loads.ENGINE:
        values, yardstick, cpu = [], [], []
        for _ in range(repeats):
            if load.gap_ms is not None and not load.unix:
                yardstick.append(loads.bare_writer(load.streams, load.gap_ms, 5))
            with serving(load.server, unix=load.unix) as server, tool.profile(server, load.flags) as outcome:
                values.append(outcome.value("inter_token_latency"))
                cpu.append(outcome.server_cpu)
        name = f"engine mode, {load.name}"
        if load.gap_ms is None:
            busy = [100 * share for share in cpu]
            yield _row(f"{name}: server's core", "% busy", busy, "≤ 90", at_most(90), (), cpu)
        else:
            limit = 1.02 * load.gap_ms
            yield _row(f"{name}: gap", "ms", values, f"≤ {limit:g}", at_most(limit), yardstick, cpu)


def bench_paced(tool: Tool, repeats: int) -> Iterator[Row]:
    for rate, seconds in ((100, 10), (500, 4), (2000, 4)):  # a thousand requests or more: a p99 is no single pause then
        values, yardstick, cpu = [], [], []
        flags = ["--request-rate", str(rate), "--arrival-pattern", "constant", "--isl", "16", "--osl", "1"]
        with serving(loads.PLAIN) as server:
            for _ in range(repeats):
                yardstick.append(loads.bare_pacer(rate, seconds))
                with tool.profile(server, [*flags, "--benchmark-duration", str(seconds)]) as outcome:
                    lags = outcome.send_lags_ms()
                    values.append(lags[round(0.99 * (len(lags) - 1))])
                    cpu.append(outcome.server_cpu)
        target = "≤ 0.15 ms or ≤ 1.2 ×"
        yield _row(
            f"send lag p99, {rate}/s", "ms", values, target, lambda a, b: a <= max(0.15, 1.2 * b), yardstick, cpu
        )


def bench_media(tool: Tool, repeats: int) -> Iterator[Row]:
    """50 requests/s, each with an image of 512 × 512 and 20 s of audio, or with 100 such images: as late as without, and no heavier."""
    paced = ["--request-rate", "50", "--arrival-pattern", "constant", "--isl", "16", "--osl", "1", "--no-report"]
    image = ["--image-width-mean", "512", "--image-height-mean", "512", "--audio-length-mean", "20"]
    photographs = [*image, "--image-batch-size", "100", "--image-source", "assets", "--image-format", "jpeg"]
    lags: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    peaks = []
    with serving(loads.PLAIN) as server:
        for _ in range(repeats):
            for name, flags in (("none", []), ("an image", image), ("100 images", photographs)):
                with tool.profile(server, [*paced, *flags, "--request-count", "500"]) as outcome:
                    found = outcome.send_lags_ms()
                    lags.setdefault(name, []).append(found[round(0.99 * (len(found) - 1))])
                    cpu.setdefault(name, []).append(outcome.server_cpu)
        for count in ("200", "1000"):
            with tool.profile(server, [*paced, *image, "--request-count", count], measure_memory=True) as outcome:
                peaks.append(outcome.finished.peak_mb())
    for name in ("an image", "100 images"):
        row = f"{name} of 512 × 512 and 20 s of audio, 50/s: send lag p99"
        yield _row(
            row, "ms", lags[name], "≤ 1 ms or ≤ 1.5 ×", lambda a, b: a <= max(1, 1.5 * b), lags["none"], cpu[name]
        )
    more = [peaks[1] - peaks[0]]
    yield _row("Additional peak RSS, 1,000 vs 200 requests with media", "MB", more, "≤ 20", at_most(20))


def bench_watched(tool: Tool, repeats: int) -> Iterator[Row]:
    """Two runs of different length each: what a screen costs at its start is in both, and not in the difference."""
    rate, short, long = 20_000, 4, 14
    lags: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    opened: list[float] = []
    shared: dict[str, list[float]] = {"none": [], "dashboard": []}
    with serving(loads.PLAIN) as server:
        for _ in range(repeats):
            for bare_screen in ("none", "dashboard"):
                sharing = watch(tool.executable, server, bare_screen, rate, long, shares_core=True)
                shared[bare_screen].append(sharing.send_lag_p99_ms)
            for screen in ("none", "dashboard", "page"):
                first = watch(tool.executable, server, screen, rate, short)
                second = watch(tool.executable, server, screen, rate, long)
                lags.setdefault(screen, []).append(second.send_lag_p99_ms)
                rates.setdefault(screen, []).append(second.rate)
                shares.setdefault(screen, []).append(100 * (second.screen_cpu_s - first.screen_cpu_s) / (long - short))
                opened += [watched.opened_s for watched in (first, second) if watched.opened_s is not None]
    yield _row("dashboard: start of the command to its first frame", "s", opened, "≤ 0.6", at_most(0.6))
    bare = statistics.median(shares["none"])
    for screen, words in (("dashboard", "dashboard"), ("page", "live page, read each second")):
        cpu = [s - bare for s in shares[screen]]
        yield _row(f"{words}, 20,000/s: CPU more than without", "% of a core", cpu, "≤ 5", at_most(5))
        yield _row(
            f"{words}, 20,000/s: send lag p99",
            "ms",
            lags[screen],
            "≤ 1.5 ×",
            lambda a, b: a <= max(0.15, 1.5 * b),
            lags["none"],
        )
        yield _row(
            f"{words}, 20,000/s: rate",
            "requests/s",
            rates[screen],
            "≥ 0.99 ×",
            lambda a, b: a >= 0.99 * b,
            rates["none"],
        )
    words = "dashboard on the core of the load, 20,000/s: send lag p99"
    yield _row(words, "ms", shared["dashboard"], "–", lambda _a, _b: None, shared["none"])


def bench_traced(tool: Tool, repeats: int) -> Iterator[Row]:
    """`traceparent` on each request, without and with in turn, the order turned round each time."""
    rates: dict[str, list[float]] = {"0": [], "1": []}
    cpu = []
    flags = [*loads.PLAIN_FLAGS, "--benchmark-duration", "4"]
    with serving(loads.PLAIN) as server:
        for i in range(2 * repeats):
            for share in ("0", "1") if i % 2 else ("1", "0"):
                with tool.profile(server, [*flags, "--trace-sampling", share]) as outcome:
                    rates[share].append(outcome.value("request_throughput"))
                    cpu.append(outcome.server_cpu)
    target = "≥ 0.98 ×"
    yield _row("`traceparent`: rate", "requests/s", rates["1"], target, lambda a, b: a >= 0.98 * b, rates["0"], cpu)


def bench_spans(tool: Tool, repeats: int) -> Iterator[Row]:
    joined, bare = observed.join_seconds(tool, min(repeats, 3))
    more = [a - b for a, b in zip(joined, bare, strict=True)]
    yield _row(f"{observed.SPANS:,} spans joined: report takes longer by", "s", more, "≤ 2", at_most(2))


def bench_scraping(tool: Tool, repeats: int) -> Iterator[Row]:
    """Ten endpoints of 1 MB each second: CPU time of the process that does nothing else, and the send lag of a load beside it."""
    cases: tuple[tuple[Which, str], ...] = (("few", "1 line in 10 changes"), ("all", "every line changes"))
    for which, words in cases:
        with serving_pages(which) as url:
            shares = [100 * scrape_cpu_s(tool.python, url, 10.0) for _ in range(repeats)]
        yield _row(f"10 endpoints of 1 MB, {words}: CPU", "% of a core", shares, "≤ 5", at_most(5))
    lags: dict[bool, list[float]] = {False: [], True: []}
    with serving(loads.PLAIN) as server, serving_pages("all") as url:
        for _ in range(repeats):
            for is_on in (False, True):
                lags[is_on].append(observed.send_lag_p99_ms(tool, server, url if is_on else None))
    target = "≤ 0.15 ms or ≤ 1.2 ×"
    yield _row(
        f"10 endpoints of 1 MB: send lag p99, {observed.LAG_RATE}/s",
        "ms",
        lags[True],
        target,
        lambda a, b: a <= max(0.15, 1.2 * b),
        lags[False],
    )


def bench_page(tool: Tool, repeats: int) -> Iterator[Row]:
    with serving(observed.ENGINE) as server, serving_pages("gpus") as url:
        sizes = [observed.page_mb(tool, server, f"{url}/0") for _ in range(min(repeats, 2))]
    yield _row("page with all charts of server and 8 GPUs", "MB", sizes, "≤ 3", at_most(3))


def bench_capture(tool: Tool, repeats: int) -> Iterator[Row]:
    """What `aiperf capture` adds to the first token, and the requests that it passes on, tokenises and writes per second of its CPU."""
    more: dict[str, list[float]] = {"p50": [], "p99": []}
    with serving(loads.STEADY) as server, capturing(tool.executable, server) as (proxy, _):
        for _ in range(repeats):
            for values, ms in zip(more.values(), added_ttft_ms(server, proxy, 1000), strict=True):
                values.append(ms)
    for stat, values in more.items():
        yield _row(f"capture: TTFT {stat} more than direct", "ms", values, "≤ 1", at_most(1))
    per_cpu_s = []
    with serving(loads.PLAIN) as server:
        for _ in range(repeats):
            with capturing(tool.executable, server) as (proxy, trace):
                before_s = proxy.cpu_s
                with tool.profile(proxy, [*loads.PLAIN_FLAGS, "--request-count", "20000"]):
                    pass
                while (lines := captured_lines(trace)) < 20_000:
                    time.sleep(0.05)
                per_cpu_s.append(lines / (proxy.cpu_s - before_s))
    yield _row("capture: requests per second of CPU", "requests/s", per_cpu_s, "≥ 5,000", lambda a, _: a >= 5000)


def bench_cold(tool: Tool, repeats: int) -> Iterator[Row]:
    wall, first, peak = [], [], []
    with serving({"count": "none"}) as server:
        for _ in range(repeats):
            # Up to the printed table: the page after it has limits of its own.
            flags = ["--streaming", "--request-count", "10", "--isl", "100", "--osl", "10", "--no-report"]
            with tool.profile(server, flags) as outcome:
                wall.append(outcome.finished.wall_s)
                first.append(outcome.first_request_s)
            with tool.profile(server, flags, measure_memory=True) as outcome:
                peak.append(outcome.finished.peak_mb())
    yield _row("10 requests: start to table", "s", wall, "≤ 0.8", at_most(0.8))
    yield _row("10 requests: start to first request", "s", first, "≤ 0.45", at_most(0.45))
    yield _row("10 requests: peak RSS", "MB", peak, "≤ 150", at_most(150))


def bench_short(tool: Tool, repeats: int) -> Iterator[Row]:
    wall = []
    with serving(loads.PLAIN) as server:
        for _ in range(repeats):
            with tool.profile(server, [*loads.PLAIN_FLAGS, "--request-count", "20000"]) as outcome:
                wall.append(outcome.finished.wall_s)
    yield _row("20,000 short requests: whole command", "s", wall, "≤ 3", at_most(3))


def bench_help(tool: Tool, repeats: int) -> Iterator[Row]:
    for words, limit_s in ((["--help"], 0.25), (["profile", "--help"], 0.4)):
        more = []
        run([tool.executable, *words])  # compiles what this command imports, as an installation does
        for _ in range(max(repeats, 7)):
            bare_s = run([tool.python, "-c", "pass"]).wall_s
            more.append(run([tool.executable, *words]).wall_s - bare_s)
        name = f"`aiperf {' '.join(words)}`: Start-up time over a bare interpreter"
        yield _row(name, "s", more, f"≤ {limit_s}", at_most(limit_s))


def bench_memory(tool: Tool, repeats: int) -> Iterator[Row]:
    """One run of each size is enough: memory is not a matter of luck."""
    del repeats
    running, whole = [], []
    with serving(loads.PLAIN) as server:
        for count in (200_000, 2_000_000):
            flags = [*loads.PLAIN_FLAGS, "--request-count", str(count)]
            with tool.profile(server, flags, measure_memory=True) as outcome:
                running.append(outcome.finished.peak_mb(outcome.load_ended_s))
                whole.append(outcome.finished.peak_mb())
    for name, peaks, limit in (("during the load", running, 50), ("report included", whole, 150)):
        more = [peaks[1] - peaks[0]]
        row = f"Additional peak RSS, 2 M vs 200 k requests, {name}"
        yield _row(row, "MB", more, f"≤ {limit}", at_most(limit))


def bench_report(tool: Tool, repeats: int) -> Iterator[Row]:
    """`aiperf report` as a whole command, the JSONL written anew: long streams, and many short requests."""
    for requests, chunks, limit_mb in ((25_000, 500, 250), (300_000, 1, 250)):
        wall, peak = [], []
        with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as name:
            folder = Path(name)
            write_run(folder, requests, chunks)
            for _ in range(min(repeats, 3)):
                (folder / "profile_export.jsonl").unlink(missing_ok=True)
                wall.append(run([tool.executable, "report", folder]).wall_s)
            (folder / "profile_export.jsonl").unlink()
            peak.append(run([tool.executable, "report", folder], measure_memory=True).peak_mb())
        name = f"report of {requests:,} × {chunks} chunks, JSONL included"
        yield _row(name, "s", wall, "≤ 3", at_most(3))
        yield _row(f"{name}: peak RSS", "MB", peak, f"≤ {limit_mb}", at_most(limit_mb))


def bench_build(tool: Tool, repeats: int) -> Iterator[Row]:
    """A clean clone on all cores, crates downloaded already: `make demo` up to its first request, then what `make test` builds."""
    del repeats
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        environment = {k: v for k, v in os.environ.items() if k not in ("CARGO_TARGET_DIR", "VIRTUAL_ENV")}
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        begin = time.perf_counter()
        demo = subprocess.Popen(
            ["make", "demo", f"PYTHON={tool.python}"], cwd=clone, env=environment, stdout=subprocess.DEVNULL
        )
        # `run.json` is there when the load begins.
        while not any(clone.glob("artifacts/*/run.json")) and demo.poll() is None:
            time.sleep(0.1)
        first_s = time.perf_counter() - begin
        if demo.wait():
            raise RuntimeError(f"exit code {demo.returncode}: make demo, in a clean clone")
        command = ["cargo", "test", "--release", "--workspace", "--exclude", "aiperf-py", "--no-run"]
        built = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
        before = {p.name.removeprefix("lib").rpartition("-")[0] for p in (clone / "target/release/deps").glob("*.rlib")}
        again = [w[1] for w in map(str.split, built.stderr.splitlines()) if w[:1] == ["Compiling"]]
        again = [name for name in again if name.replace("-", "_") in before and not name.startswith("aiperf-")]
        os.sched_setaffinity(0, {SERVER_CORE})
    yield _row("`make demo` in a clean clone, to the first request", "s", [first_s], "≤ 240", at_most(240))
    yield _row("libraries that `make test` builds a second time", "crates", [len(again)], "0", at_most(0))


def bench_install(tool: Tool, repeats: int) -> Iterator[Row]:
    """On all cores, a fresh environment with all mandatory dependencies, pip left out; the core compiled from nothing."""
    del repeats
    with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as folder:
        venv = Path(folder, "venv")
        run([tool.python, "-m", "venv", "--without-pip", venv], core=None)
        target = next((venv / "lib").iterdir()) / "site-packages"
        pip: list[str | Path] = [tool.python, "-m", "pip", "install", "-q", "--target", target, ROOT]
        environment = {"CARGO_TARGET_DIR": str(Path(folder, "target"))}
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        installed = run(pip, core=None, timeout_s=1800, environment=environment)
        os.sched_setaffinity(0, {SERVER_CORE})
        size = sum(path.lstat().st_blocks * 512 for path in target.rglob("*") if path.is_file())
    yield _row("`pip install .`", "s", [installed.wall_s], "≤ 240", at_most(240))
    yield _row("installation with all mandatory dependencies", "MB", [size / MB], "≤ 260", at_most(260))


QUICK: dict[str, Callable[[Tool, int], Iterator[Row]]] = {
    "plain": bench_plain,
    "coalesced": bench_coalesced,
    "single": bench_single,
    "accuracy": bench_accuracy,
    "paced": bench_paced,
    "media": bench_media,
    "watched": bench_watched,
    "traced": bench_traced,
    "spans": bench_spans,
    "scraping": bench_scraping,
    "page": bench_page,
    "engine": bench_engine,
    "capture": bench_capture,
    "cold": bench_cold,
    "short": bench_short,
    "report": bench_report,
    "help": bench_help,
}
LONG = {"memory": bench_memory, "install": bench_install, "build": bench_build}


def machine() -> str:
    """CPU, cores, kernel, Python: what the figures belong to."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help=f"comma-separated: {', '.join([*QUICK, *LONG])}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--long", action="store_true", help="also two million requests, a fresh install, and a build from a clean clone"
    )
    parser.add_argument("--json", type=Path, help="also write the rows there")
    parser.add_argument("--executable", type=Path, default=Path(sys.executable).with_name("aiperf"))
    options = parser.parse_args()
    known = QUICK | LONG
    names = options.only.split(",") if options.only else [*QUICK, *(LONG if options.long else ())]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such row: {', '.join(unknown)}")

    loads.build()
    os.sched_setaffinity(0, {SERVER_CORE})  # out of the client's way; the server's core has room
    tool = Tool("aiperf", options.executable)
    print(f"{machine()}; server on core 0, client on core 1; medians of {options.repeats}\n", flush=True)
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER), flush=True)
    rows = []
    for name in names:
        for row in known[name](tool, options.repeats):
            rows.append(row)
            print("| " + " | ".join(row.cells()) + " |", flush=True)
    if options.json:
        text = json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

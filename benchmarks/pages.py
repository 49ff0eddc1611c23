"""Ten `/metrics` endpoints of 1 MB in a process of their own, and what it costs to scrape them.

`python -m benchmarks.pages serve all|few|gpus` prints its port and serves until its standard input is closed;
`python -m benchmarks.pages scrape URL SECONDS` scrapes `URL/0` … `URL/9` once a second and prints the CPU time that took, in seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Literal

from benchmarks.command import run
from benchmarks.server import ROOT, SERVER_CORE

__all__ = ["PAGES", "Which", "scrape_cpu_s", "serving_pages"]

Which = Literal["all", "few", "gpus"]
PAGES = 10
PAGE_BYTES = 1_000_000
VARIANTS = 8
"""Of each page, served in turn: writing a page anew takes longer than scraping it."""
FEW = 10
"""Every n-th line changes where few do: an idle replica's buckets stand still."""


def _page(variant: int, *, all_change: bool) -> bytes:
    """Histograms in vLLM's names, a line of about 100 bytes each."""
    lines = ["# TYPE vllm:request_queue_time_seconds histogram"]
    size = 0
    for series in count():
        for bucket in range(20):
            i = 20 * series + bucket
            value = 1000.0 + i + (variant if all_change or i % FEW == 0 else 0)
            label = "+Inf" if bucket == 19 else f"{0.001 * 2**bucket:g}"
            name = f'request_queue_time_seconds_bucket{{engine="{series}",le="{label}",model_name="Qwen/Qwen3-0.6B"}}'
            lines.append(f"vllm:{name} {value}")
            size += len(lines[-1]) + 1
        if size >= PAGE_BYTES:
            return ("\n".join(lines) + "\n").encode()
    raise AssertionError("unreachable")


def _gpus(variant: int) -> bytes:
    """A DCGM exporter of eight GPUs."""
    gauges = {
        "POWER_USAGE": 600 + variant,
        "GPU_UTIL": 90 + variant,
        "FB_USED": 70_000 + variant,
        "SM_CLOCK": 1900 + variant,
    }
    lines = []
    for name, value in gauges.items():
        lines.append(f"# TYPE DCGM_FI_DEV_{name} gauge")
        for gpu in range(8):
            labels = f'gpu="{gpu}",UUID="GPU-{gpu}",device="nvidia{gpu}",modelName="NVIDIA H200",Hostname="node"'
            lines.append(f"DCGM_FI_DEV_{name}{{{labels}}} {value + gpu}")
    return ("\n".join(lines) + "\n").encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages: Sequence[bytes]
    asked = count()

    def do_GET(self) -> None:
        page = self.pages[next(self.asked) // PAGES % len(self.pages)]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


def _serve(which: str) -> None:
    make = _gpus if which == "gpus" else partial(_page, all_change=which == "all")
    _Handler.pages = [make(v) for v in range(VARIANTS)]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


def _scrape(url: str, seconds: float) -> None:
    from aiperf.telemetry.prometheus.scraper import Page, Scraper
    from aiperf.web import Access

    scraper = Scraper([Page(f"{url}/{i}", is_own=False) for i in range(PAGES)], Access(), 1.0, accesses={})
    scraper.start(wait_s=30.0)  # the first reading of a page is parsed by the library: once a run
    time.sleep(2.0)
    begin, wall = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    used, wall = time.process_time() - begin, time.perf_counter() - wall
    readings = scraper.stop(wait_for_rest=False)
    if any(r.num_failed or r.num_readings < seconds for r in readings):
        raise RuntimeError(f"a page was not scraped once a second: {[r.num_readings for r in readings]}")
    sys.stdout.write(json.dumps(used / wall))


@contextmanager
def serving_pages(which: Which) -> Iterator[str]:
    """The URL below which the pages `/0` … `/9` are, on the server's core. `which` lines change each second; `gpus`: small ones of GPUs."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "benchmarks.pages", "serve", which]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.communicate()


def scrape_cpu_s(python: Path, url: str, seconds: float) -> float:
    """CPU time that scraping all pages takes, s per second."""
    return float(json.loads(run([python, "-m", "benchmarks.pages", "scrape", url, str(seconds)], cwd=ROOT).stdout))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(sys.argv[2])
    else:
        _scrape(sys.argv[2], float(sys.argv[3]))

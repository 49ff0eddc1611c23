"""The dashboard with a fixed load: what `test_dashboard_terminal.py` looks at in tmux. Ends with SIGTERM, or a first Ctrl-C.

With `noise` others write to the terminal meanwhile, in every way there is.
"""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

from tests.unit.live.snapshots import Load

from aiperf.config.conditions import parse_condition, parse_tier
from aiperf.config.model import Config
from aiperf.distributed.live import join_snapshots
from aiperf.observer import Level, Observer, RunFacts, StudyState
from aiperf.outcome import Snapshot
from aiperf.ui.dashboard import Dashboard
from aiperf.ui.plain import Quiet


def make_noise() -> None:
    sys.stdout.write("said by print\n")
    sys.stderr.write("said to stderr\n")
    os.write(1, b"said to descriptor 1\n")
    os.write(2, b"\x1b[31msaid by C code\x1b[0m\n")
    sys.stderr.write("loading: 10 %\rloading: 100 %\n")
    warnings.warn("said by a library", stacklevel=1)
    logging.getLogger("library").warning("said by logging")
    subprocess.run(["sh", "-c", "echo said by a process >&2"], stderr=sys.stderr, check=True)
    faulthandler.enable()
    faulthandler.disable()


def main() -> None:
    config = Config.model_validate(
        {
            "slo": {
                "goodput": (parse_tier("time_to_first_token:200 inter_token_latency:12"),),
                "asserts": tuple(
                    map(parse_condition, ("time_to_first_token:p99 < 500ms", "error_rate < 1%", "osl:avg > 3"))
                ),
            }
        }
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    after: Observer = Quiet(sys.stderr)
    with Dashboard(config, after) as screen:
        screen.opened(
            RunFacts(
                directory=Path("artifacts/run"),
                benchmark_id="b1",
                models=("llama-3.1-8b",),
                urls=("http://server:8000",),
                endpoint="chat",
                is_streaming=True,
                load="32 in flight",
            )
        )
        screen.note("the tokenizer was not found in the cache: tokens are counted with `builtin`")
        screen.begin()
        screen.levels(
            [
                Level(source="server", name="requests_running", value=32, unit="requests"),
                Level(source="server", name="requests_waiting", value=4, unit="requests"),
                Level(source="server", name="kv_cache_usage", value=0.83, unit="ratio"),
                Level(source="gpu", name="nvidia_power_usage", value=611.5, unit="W", place="GPU 0"),
                Level(source="gpu", name="nvidia_gpu_utilization", value=97.0, unit="%", place="GPU 0"),
            ]
        )
        screen.study(
            StudyState(
                what="sweep",
                done=2,
                total=5,
                columns=("Run", "Requests/s", "Tokens/s", "TTFT p99 (ms)", "Errors"),
                rows=(
                    ("concurrency 8", "4.10", "812", "120.5", "0"),
                    ("concurrency 16", "7.92", "1,571", "201.7", "0"),
                ),
                front=(1,),
            )
        )
        load = Load(phase_requests=2000, in_flight=32)
        busy = {"worker_cpu_ns": [0], "worker_wait_ns": [0]}
        screen.progress(load.at(0, **busy))
        for second in range(1, 61):
            wave = 1 + 0.5 * math.sin(second / 6)
            for part in range(5):
                values = {
                    "time_to_first_token": 90 * wave * (1 + part),
                    "inter_token_latency": 8.0 * wave,
                    "request_latency": 1500 * wave + 100 * part,
                    "send_lag": 0.08,
                    "receive_lag": 0.2,
                }
                load.ok(4, tokens=200, good=[3 if part < 2 else 0], values_ms=values)
            if second % 9 == 0:
                load.fail(1, 4, 503, '{"error": "the queue is full, try again later"}', second)
            if second % 20 == 0:
                load.fail(1, 3, None, "no complete response within 30.0 s", second)
            now = load.at(second, worker_cpu_ns=[second * 200_000_000], worker_wait_ns=[0])
            parts = (("node-0", "running", load.at(second)), ("node-1", "lost", Snapshot()))
            screen.progress(now.model_copy(update={"generators": join_snapshots(parts).generators}))
        if "noise" in sys.argv:
            make_noise()
        ended.wait()


if __name__ == "__main__":
    main()

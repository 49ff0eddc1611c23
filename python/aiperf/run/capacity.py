"""Maximum load this machine can generate without distorting results: the largest loads at which the client is not what limits the figures.

Three searches against a null server in this process (`null_server.py`), each by doubling: streams at a usual pace, requests per
second without pause, and an open loop's rate. A load is honest when every part of the certificate that a null server can show
is: requests leave in time, chunks are read in time, the worker threads have room, nothing fails. As the server takes a share of
the same cores, the machine does more against a server elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from aiperf.config.machine_limits import raise_file_limit
from aiperf.number_text import exact
from aiperf.run.null_server import NullLoad, NullRun, drive_null, most_streams

__all__ = ["Capacity", "Step", "find_capacity", "judge"]

STREAM_TOKENS_PER_S = 50.0
"""A fast reader's model: 20 ms between tokens."""
_TTFT_MS = 100.0
_STREAM_TOKENS = 25
_SECONDS = 0.7
_BUDGET_S = 11.5
"""Of the 15 s that all of it may take; the rest is for start and end."""
_LAG_MS = 1.0
_MERGED = 0.05
_BUSY = 0.7
_WAIT = 0.3
_SHORTFALL = 0.02
_AGAIN = 2
_FIRST_STREAMS = 125
_FIRST_RATE = 500.0
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One load that was tried. `limit`: why it is not honest; None: it is."""

    run: NullRun
    limit: str | None

    @property
    def is_honest(self) -> bool:
        return self.limit is None


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The last honest step of each search (None: not even the first was) and the first that was not (None: not reached)."""

    streams: Step | None
    streams_limit: Step | None
    requests: Step
    rate: Step | None
    rate_limit: Step | None
    workers: int
    cores: int
    seconds: float


def _percentile(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], p: float) -> float:
    return float(np.percentile(values, p)) if len(values) else 0.0


def judge(run: NullRun) -> str | None:
    """The reason why the client was a limit of this run, None if it was not."""
    load = run.load
    if run.failed:
        return f"{run.failed:,} requests failed"
    if not len(run.ttft_error):
        return "no request completed in time"
    if run.busiest_worker > _BUSY:
        return f"a worker thread used {100 * run.busiest_worker:.0f}% of its core"
    if run.cpu_wait > _WAIT:
        return f"a worker thread was runnable but not scheduled {100 * run.cpu_wait:.0f}% of the time"
    if load.rate_per_s is not None:
        lag = _percentile(run.send_lag, 99)
        if lag > _LAG_MS:
            return f"send lag p99 {lag:.1f} ms"
        asked = load.rate_per_s * load.seconds
        if len(run.send_lag) < asked * (1 - _SHORTFALL) - 1:
            return f"{len(run.send_lag):,} of {asked:,.0f} requests were sent"
        return None
    if load.streaming and load.gap_ms > 0:
        lag = _percentile(run.receive_lag, 99)
        if lag > load.gap_ms:
            return f"receive lag p99 {lag:.1f} ms, more than the gap of {exact(load.gap_ms)} ms"
        if run.merged > _MERGED:
            return f"{100 * run.merged:.0f}% of the chunks were read together"
    return None


def find_capacity(workers: int | None = None, tell: Callable[[str], None] = lambda _: None) -> Capacity:
    """All three searches, at most about 15 s. `workers` None: as a run would choose. `tell`: called with each step's result."""
    raise_file_limit()
    begin = time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    threads = workers if workers is not None else max(1, cores // 4)

    def attempt(load: NullLoad, what: str) -> Step:
        run = drive_null(load)
        step = Step(run, judge(run))
        tell(f"{what}: {step.limit or 'fine'}")
        return step

    def search(loads: Iterator[tuple[NullLoad, str]], until_s: float) -> tuple[Step | None, Step | None]:
        """Twice more where a step failed: a pause of the machine is not a limit of it."""
        best = None
        for load, what in loads:
            step = attempt(load, what)
            for _ in range(_AGAIN):
                if step.is_honest or time.monotonic() > until_s:
                    break
                step = attempt(load, f"{what}, again")
            if not step.is_honest:
                return best, step
            best = step
            if time.monotonic() > until_s:
                break
        return best, None

    closed = attempt(
        NullLoad(
            streams=_CONNECTIONS, tokens=1, ttft_ms=0.0, gap_ms=0.0, seconds=_SECONDS, streaming=False, workers=threads
        ),
        "requests without pause",
    )
    streams, streams_limit = search(_stream_loads(threads), begin + _BUDGET_S * 0.5)
    rate, rate_limit = search(_rate_loads(threads), begin + _BUDGET_S)
    return Capacity(
        streams=streams,
        streams_limit=streams_limit,
        requests=closed,
        rate=rate,
        rate_limit=rate_limit,
        workers=threads,
        cores=cores,
        seconds=time.monotonic() - begin,
    )


def _stream_loads(workers: int) -> Iterator[tuple[NullLoad, str]]:
    gap_ms, most, streams = 1e3 / STREAM_TOKENS_PER_S, most_streams(), _FIRST_STREAMS
    while True:
        streams = min(streams, most)
        load = NullLoad(
            streams=streams, tokens=_STREAM_TOKENS, ttft_ms=_TTFT_MS, gap_ms=gap_ms, seconds=_SECONDS, workers=workers
        )
        yield load, f"{streams:,} streams"
        if streams == most:
            return
        streams *= 2


def _rate_loads(workers: int) -> Iterator[tuple[NullLoad, str]]:
    rate = _FIRST_RATE
    while True:
        load = NullLoad(
            streams=min(most_streams(), 512),
            tokens=1,
            ttft_ms=0.0,
            gap_ms=0.0,
            seconds=_SECONDS,
            rate_per_s=rate,
            streaming=False,
            workers=workers,
        )
        yield load, f"{rate:,.0f} requests/s"
        rate *= 2

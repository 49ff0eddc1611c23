"""A server that costs next to nothing, in this process: what the tool itself does under a load, with the truth from its ledger.

The server is the simulated one with fixed times, on a thread of its own; it writes down when a request arrived and when it wrote
each first and last chunk. What the client says of the same requests differs by the client's measurement error. Client and server
share this machine's cores, which a real run leaves to the client: errors are upper bounds, rates lower ones.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiperf.config.engine_settings import ClosedLoad, EngineSettings, Load, PhaseSettings, RateLoad
from aiperf.config.machine_limits import RESERVED_FILES, machine_limits
from aiperf.endpoints import load_endpoint
from aiperf.records import Columns, open_run
from aiperf.workload.segments import SegmentWriter

if TYPE_CHECKING:
    pass

__all__ = ["NullLoad", "NullRun", "drive_null", "most_streams"]

Floats = NDArray[np.float64]

_GRACE_NS = 1_000_000_000
_JITTER = 0.5
"""Streams that all began at once would stay in step for ever: a load that no real server makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NullLoad:
    """What to drive. `streams`: requests in flight, or with `rate_per_s` their cap. `tokens`: chunks a reply, `gap_ms` apart, the
    first after `ttft_ms`. `body_bytes`: about the length of a request. `seconds`: how long requests are sent.
    """

    streams: int
    tokens: int
    ttft_ms: float
    gap_ms: float
    seconds: float
    rate_per_s: float | None = None
    streaming: bool = True
    body_bytes: int = 200
    workers: int = 1
    cpus: tuple[int, ...] = ()
    kernel_stamps: bool = True


@dataclass(frozen=True, kw_only=True)
class NullRun:
    """Rows are successful requests that the ledger knows as well, in ms; those of the opening burst are left out, as they are a
    small part of any longer run.

    `ttft_error`, `itl_error`: (rows,) client minus server, the latter NaN without a gap. `chunk_rate`: content chunks per second by the
    server's stamps, `rate_error`: the client's rate against it, a share. `send_lag`: (requests,) started minus due.
    `busiest_worker`, `cpu_wait`, `server_cpu`: shares of a core. `merged`: share of the content chunks.
    """

    load: NullLoad
    requests: int
    failed: int
    seconds: float
    ttft_error: Floats
    itl_error: Floats
    chunk_rate: float
    rate_error: float
    send_lag: Floats
    receive_lag: Floats = field(repr=False)
    merged: float
    busiest_worker: float
    cpu_wait: float
    server_cpu: float

    @property
    def request_rate(self) -> float:
        """Successful requests per second."""
        return self.requests / self.seconds if self.seconds > 0 else 0.0


def most_streams() -> int:
    """Streams to a server within this process: each has two ends, both are open files here."""
    limits = machine_limits()
    files = math.inf if limits.max_files is None else (limits.max_files - RESERVED_FILES) // 2
    ports = math.inf if limits.ports is None else limits.ports
    return int(max(1, min(files, ports, 20_000)))


def drive_null(load: NullLoad) -> NullRun:
    """One short run against a server of its own. EngineError or OSError if it cannot start."""
    from aiperf._core import Engine, SimServer

    with tempfile.TemporaryDirectory(prefix="aiperf-null-") as name:
        folder = Path(name)
        ledger = folder / "ledger.jsonl"
        options = {
            "ttft_ms": load.ttft_ms,
            "itl_ms": load.gap_ms,
            "ttft_jitter": _JITTER,
            "itl_jitter": _JITTER,
            "ledger": str(ledger),
            "count": "none",
            "usage": "never",
        }
        run_dir = folder / "run"
        run_dir.mkdir()
        with SimServer(json.dumps(options)) as server:
            before = json.loads(server.stats())
            engine = Engine(_settings(load, server.url, run_dir).model_dump_json(), _plan(load))
            while not engine.wait(0.1):
                pass
            outcome: dict[str, Any] = json.loads(engine.outcome() or "{}")
            server.flush_ledger()
            after = json.loads(server.stats())
        with ledger.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        busy = (after["cpu_s"] - before["cpu_s"]) / max(after["uptime_s"] - before["uptime_s"], 1e-9)
        return _evaluate(load, open_run(run_dir), rows, outcome, busy)


def _settings(load: NullLoad, url: str, run_dir: Path) -> EngineSettings:
    endpoint = load_endpoint("chat")
    kind: Load = ClosedLoad() if load.rate_per_s is None else RateLoad(rate=load.rate_per_s, arrival="constant")
    phase = PhaseSettings(
        name="null",
        load=kind,
        concurrency=load.streams,
        duration_ns=round(load.seconds * 1e9),
        grace_ns=_GRACE_NS,
    )
    return EngineSettings(
        urls=(url,),
        paths=(endpoint.path,),
        models=("sim",),
        framing="sse" if load.streaming else "plain",
        pointers=endpoint.pointers,
        plain_pointers=endpoint.plain_pointers,
        preconnect=load.streams,
        workers=load.workers,
        cpus=load.cpus,
        kernel_stamps=load.kernel_stamps,
        keep_text=False,
        phases=(phase,),
        run_dir=str(run_dir),
    )


def _plan(load: NullLoad) -> Any:
    """One body, repeated."""
    from aiperf._core import Plan

    body = {
        "model": "sim",
        "messages": [{"role": "user", "content": "x" * load.body_bytes}],
        "max_tokens": load.tokens,
        "ignore_eos": True,
        "stream": load.streaming,
    }
    one = SegmentWriter(np.ones(1, np.int64))
    columns = one.columns(np.zeros(1, np.uint32), osl=np.full(1, load.tokens, np.uint32))
    return Plan(columns, [json.dumps(body).encode()], ["null"])


def _evaluate(
    load: NullLoad, columns: Columns, rows: list[dict[str, Any]], outcome: Mapping[str, Any], server_cpu: float
) -> NullRun:
    ok = columns.scalar("error_kind") == 0
    number = {name: i for i, name in enumerate(columns.strings("request_id")) if ok[i]}
    # One lookup per request of a run of a second: the ledger is JSON, there is nothing to vectorise.
    both = [
        (
            number[row["request_id"]],
            row["arrived_ns"] or row["received_ns"],
            row["first_ns"],
            row["last_ns"],
            row["num_chunks"],
        )
        for row in rows
        if row["first_ns"] is not None and row["request_id"] in number
    ]
    table = np.array(both, dtype=np.int64).reshape(len(both), 5)
    later = columns.scalar("started")[table[:, 0]] > columns.scalar("end")[ok].min(initial=np.inf)
    known, received, first, last, chunks = (table[later] if later.any() else table).T
    sent, reached, ended = (columns.scalar(n)[known] for n in ("sent", "first_content", "last_content"))
    ttft_error = (reached - sent - (first - received)) / 1e6
    with np.errstate(divide="ignore", invalid="ignore"):
        itl_error = np.where(chunks > 1, (ended - reached - (last - first)) / (chunks - 1), np.nan) / 1e6
    span_server = float(last.max() - first.min()) / 1e9 if len(known) else 0.0
    span_client = float(ended.max() - reached.min()) / 1e9 if len(known) else 0.0
    total = float(chunks.sum())
    received_chunks = float(columns.scalar("num_content_chunks")[known].sum())
    rate = total / span_server if span_server > 0 else 0.0
    mine = received_chunks / span_client if span_client > 0 else 0.0
    content = [(b.chunk_lag_ns[b.is_content], b.chunk_kind[b.is_content] > 0x7F) for b in columns.batches()]
    lag = np.concatenate([c[0] for c in content] or [np.zeros(0, np.int32)]).astype(np.float64) / 1e6
    merged = sum(int(np.count_nonzero(c[1])) for c in content)
    start = columns.scalar("started")
    due = (start - columns.scalar("scheduled")) / 1e6
    phases = outcome.get("phases", ())
    wall = max(1, outcome.get("end_ns", 1) - (phases[0]["start_ns"] if phases else 0))
    end = columns.scalar("end")
    return NullRun(
        load=load,
        requests=int(np.count_nonzero(ok)),
        failed=int(np.count_nonzero(np.isin(columns.scalar("error_kind"), (0.0, 15.0), invert=True))),
        seconds=float(np.nanmax(end) - np.nanmin(start)) / 1e9 if len(end) else 0.0,
        ttft_error=ttft_error,
        itl_error=itl_error[np.isfinite(itl_error)],
        chunk_rate=rate,
        rate_error=abs(mine / rate - 1) if rate > 0 else 0.0,
        send_lag=np.maximum(due[np.isfinite(due)], 0.0),
        receive_lag=lag,
        merged=merged / len(lag) if len(lag) else 0.0,
        busiest_worker=max([*outcome.get("worker_cpu_ns", ()), 0]) / wall,
        cpu_wait=max([*outcome.get("worker_wait_ns", ()), 0]) / wall,
        server_cpu=server_cpu,
    )

"""Runs for charts and pages, made from literals: a closed loop of streams with known times."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiperf.config.model import Config
from aiperf.metrics import load_all
from aiperf.metrics.conservation import EngineFacts
from aiperf.metrics.context import Slo
from aiperf.metrics.goodput import Tier
from aiperf.metrics.server import ServerFigure, ServerSeries, ServerView
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import SummaryOptions
from aiperf.plots import PlotRun
from aiperf.records import ChunkBatch, Columns
from aiperf.records.run_json import RunJson
from aiperf.run.run import Run

MS = 1e6


def simulate(
    count: int = 300, concurrency: int = 10, *, osl: int = 20, seed: int = 0, fail: float = 0.0, streaming: bool = True
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Scalar columns (ns), and the chunk stamps of each request: a longer prompt waits longer, 1 in 50 waits much longer."""
    rng = np.random.default_rng(seed)
    isl = rng.integers(100, 4_000, count)
    free = [(float(i) * MS, i) for i in range(concurrency)]
    heapq.heapify(free)
    start, end, kind = np.zeros(count), np.zeros(count), np.zeros(count)
    stamps: list[np.ndarray] = []
    for request in range(count):
        at, slot = heapq.heappop(free)
        wait = (20 + isl[request] * 0.05) * rng.lognormal(0, 0.1) * (4 if rng.uniform() < 0.02 else 1)
        gaps = rng.gamma(20, (4 + concurrency / 50) / 20, osl - 1)
        times = (at + wait * MS + np.concatenate(([0.0], np.cumsum(gaps) * MS))).astype(np.int64)
        if rng.uniform() < fail:
            kind[request], times = 4, times[:0]
        start[request], end[request] = at, times[-1] if len(times) else at + 5 * MS
        stamps.append(times)
        heapq.heappush(free, (end[request] + 0.1 * MS, slot))
    ok = kind == 0
    first = np.array([t[0] if len(t) else np.nan for t in stamps], dtype=np.float64)
    columns = {
        "scheduled": start,
        "started": start,
        "sent": start,
        "end": end,
        "reused": np.ones(count),
        "error_kind": kind,
        "phase": np.zeros(count),
        "status": np.where(ok, 200.0, 500.0),
        "isl": isl.astype(np.float64),
        "requested_osl": np.full(count, float(osl)),
        "counted_output": np.where(ok, float(osl), np.nan),
        "counted_reasoning": np.where(ok, 0.0, np.nan),
        "stamp_source": np.ones(count),
        "rtt_ns": np.full(count, 1e5),
    }
    if streaming:
        counts = np.array([len(t) for t in stamps], dtype=np.float64)
        columns |= {
            "first_content": first,
            "first_output": first,
            "last_content": np.where(ok, end, np.nan),
            "num_chunks": counts,
            "num_content_chunks": counts,
        }
    return columns, stamps


def columns_of(scalars: dict[str, np.ndarray], stamps: list[np.ndarray]) -> Columns:
    offsets = np.concatenate(([0], np.cumsum([len(t) for t in stamps])))
    total = int(offsets[-1])
    batch = ChunkBatch(
        row0=0,
        offsets=offsets,
        chunk_ns=np.concatenate(stamps) if total else np.zeros(0, dtype=np.int64),
        chunk_lag_ns=np.full(total, 10_000, dtype=np.int32),
        chunk_bytes=np.full(total, 100, dtype=np.uint32),
        chunk_text_bytes=np.full(total, 4, dtype=np.uint32),
        chunk_kind=np.ones(total, dtype=np.uint8),
    )
    messages: list[str | None] = ["boom" if k else None for k in scalars["error_kind"]]
    numbered = {"request": np.arange(len(stamps), dtype=np.float64)}
    return Columns.from_arrays(
        {**scalars, **numbered}, (batch,), {"error_message": messages}, 1_795_491_051_000_000_000
    )


def view_of(seconds: float) -> ServerView:
    """A server that was scraped twenty times: its queue, its cache, and one GPU."""
    times = tuple(np.linspace(0.0, seconds, 20).tolist())
    waves = tuple((10 + 5 * np.sin(np.arange(20))).tolist())
    named = (
        ("requests_running", "requests", ""),
        ("requests_waiting", "requests", ""),
        ("prefill_throughput", "tokens/s", ""),
        ("decode_throughput", "tokens/s", ""),
        ("kv_cache_usage", "%", ""),
        ("prefix_hit_rate", "%", ""),
        ("preemptions", "preemptions/s", ""),
        ("queue_time", "ms", ""),
        ("prefill_time", "ms", ""),
        ("gpu_utilization", "%", "GPU 0"),
        ("gpu_power", "W", "GPU 0"),
    )
    series = tuple(ServerSeries(name=n, unit=u, label=label, times_s=times, values=waves) for n, u, label in named)
    figure = ServerFigure(
        name="queue_time",
        stats={"avg": 10.0, "p50": 9.0, "p90": 15.0, "p99": 18.0, "count": 100.0},
        bounds={"p99": (15.0, 20.0)},
        source="vllm:request_queue_time_seconds",
    )
    return ServerView(figures={"queue_time": figure}, series=series)


def options_of(
    *, goals: bool = True, slices: bool = False, concurrency: int = 10, view: ServerView | None = None
) -> SummaryOptions:
    load_all()
    tiers = (Tier("slo", (Slo("time_to_first_token", 200 * MS), Slo("request_latency", 350 * MS))),) if goals else ()
    return SummaryOptions(
        tiers=tiers,
        slice_ns=500_000_000 if slices else None,
        facts=EngineFacts(busiest_worker=0.2, cpu_wait=0.0),
        view=view,
    )


@dataclass(frozen=True, kw_only=True)
class MadeRun(Run):
    """A run whose records were never on a disk, and whose summary is computed with options of the test's own."""

    made: Columns
    asked: SummaryOptions

    @property
    def columns(self) -> Columns:
        return self.made

    @property
    def options(self) -> SummaryOptions:
        return self.asked


def run_of(columns: Columns, options: SummaryOptions, **more: object) -> MadeRun:
    known = {"dir": Path("run"), "config": Config(), "json": RunJson(config={}), "made": columns, "asked": options}
    return MadeRun(**{**known, **more})  # type: ignore[arg-type]  # fields by name


def plot_run(
    count: int = 300,
    concurrency: int = 10,
    *,
    goals: bool = True,
    slices: bool = False,
    seed: int = 0,
    fail: float = 0.0,
    streaming: bool = True,
    osl: int = 20,
    load: float | None = None,
    server: bool = False,
) -> PlotRun:
    scalars, stamps = simulate(count, concurrency, seed=seed, fail=fail, streaming=streaming, osl=osl)
    columns = columns_of(scalars, stamps if streaming else [t[:0] for t in stamps])
    view = view_of(float(scalars["end"].max()) / 1e9) if server else None
    options = options_of(goals=goals, slices=slices, concurrency=concurrency, view=view)
    return PlotRun(source=run_of(columns, options), label=f"c{concurrency}", load=load)


def write_run(folder: Path, count: int = 100, concurrency: int = 10, **more: object) -> Path:
    """A run directory as `aiperf profile` leaves it: `run.json`, `records.parquet`, the summary."""
    from aiperf._core import write_records
    from aiperf.config.as_data import config_dict_for_run
    from aiperf.config.flag import Given
    from aiperf.config.model import specs
    from aiperf.config.resolve import resolve
    from aiperf.reports.exporters.summary_json import JsonOptions, render_json

    scalars, stamps = simulate(count, concurrency, **more)  # type: ignore[arg-type]  # passed on as they are
    folder.mkdir(parents=True)
    offsets = np.concatenate(([0], np.cumsum([len(t) for t in stamps]))).astype(np.uint32)
    total = int(offsets[-1])
    lists = {
        "offsets": offsets,
        "chunk_ns": np.concatenate(stamps),
        "chunk_text_bytes": np.full(total, 4, dtype=np.uint32),
    }
    plain = {k: v for k, v in scalars.items() if not k.startswith("num_")}
    write_records(
        folder / "records.parquet", plain, lists, metadata=json.dumps({"start_wall_ns": 1_795_491_051_000_000_000})
    )
    given = {
        "endpoint.model_names": "tiny",
        "endpoint.urls": "http://localhost:8000",
        "endpoint.streaming": "true",
        "load.concurrency": str(concurrency),
        "endpoint.api_key": "sk-very-secret",
    }
    flags = [Given(specs()[path], (text,), specs()[path].flag.names[0]) for path, text in given.items()]
    config, problems = resolve(flags, env={}, seed=1)
    assert not problems
    facts = {
        "schema": 1,
        "aiperf_version": "0",
        "benchmark_id": "x",
        "command": ["aiperf", "profile", "--concurrency", str(concurrency)],
        "config": config_dict_for_run(config),
        "seed": 1,
        "models": ["tiny"],
        "phases": [{"name": "profiling", "kind": "profiling"}],
        "tokenizer": {"name": "builtin", "provenance": "local tokenizer"},
        "created": "2026-11-24T04:00:00+00:00",
        "notes": [],
        "status": "complete",
    }
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    options = options_of(goals=False)
    summary = render_json(summarise(columns_of(scalars, stamps), options), JsonOptions(aiperf_version="0"))
    (folder / "profile_export_aiperf.json").write_text(summary, encoding="utf-8")
    return folder

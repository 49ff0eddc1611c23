"""How fast and lean a report from disk is: `python -m benchmarks.report [--requests 1000000 --chunks 100]`.

A run's records are written as they lie on disk after a run (tokens counted, JSONL there already), and a process of its own
makes summary, slices and table of them, as `aiperf report` does. Targets on two cores: a million requests of 100 chunks within 20 s and
1 GB; 1,000 requests of 500 chunks within 0.5 s beyond the interpreter and its imports. `--out` keeps the rows as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiperf import _core
from aiperf.config.as_data import config_dict_for_run
from aiperf.config.resolve import config_from
from aiperf.records.schema import RECORDS_FILE

PIECE = 50_000
CONCURRENCY = 200
GAP_NS = 10_000_000
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`seconds`, `cpu_s`: in the process, after its imports; far apart on a machine that has other work. `peak_mb`: of the
    whole process.
    """

    requests: int
    chunks: int
    seconds: float
    cpu_s: float
    peak_mb: float
    limit_s: float
    limit_mb: float

    @property
    def met(self) -> bool:
        return self.seconds <= self.limit_s and self.peak_mb <= self.limit_mb


START_NS = 1_795_491_051_000_000_000


def write_run(run_dir: Path, requests: int, chunks: int, part: tuple[int, int] | None = None) -> None:
    """A closed loop of 200 streams, 10 ms a chunk with noise, written in pieces: the whole is larger than memory should be.

    `part`: (index, of) of a run that several machines shared; their clocks are 1.5 ms apart.
    """
    index, of = part or (0, 1)
    start_ns = START_NS + index * 1_500_000
    config = config_from(
        model="m",
        url="localhost:1",
        streaming=True,
        concurrency=CONCURRENCY,
        request_count=requests,
        isl=1000,
        osl=chunks,
        artifact_dir=run_dir,
        tokenizer="builtin",
    )
    facts = {
        "schema": 1,
        "config": config_dict_for_run(config),
        "benchmark_id": "0",
        "seed": 0,
        "command": [],
        "status": "complete",
        "tokenizer": {"name": "builtin", "provenance": "local tokenizer"},
        "is_schedule": False,
        "num_sessions": requests,
        "phases": [{"name": "profiling", "kind": "profiling"}],
        "outcome": {
            "start_wall_ns": start_ns,
            "end_ns": 10**12,
            "interrupted": False,
            "worker_cpu_ns": [10**9],
            "phases": [
                {
                    "name": "profiling",
                    "kind": "profiling",
                    "start_ns": 0,
                    "end_ns": 10**12,
                    "planned": requests,
                    "sent": requests,
                    "unsent": 0,
                    "is_complete": True,
                    "stop_reason": "",
                },
            ],
        },
    }
    if part is not None:
        facts["part"] = {"index": index, "of": of, "salt": 1, "start_wall_ns": START_NS}
    (run_dir / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    (run_dir / "profile_export.jsonl").touch()
    rng = np.random.default_rng(index)
    writer = _core.RecordsWriter(run_dir / RECORDS_FILE)
    for begin in range(0, requests, PIECE):
        number = min(PIECE, requests - begin)
        piece_path = run_dir / "piece.parquet"
        _write_piece(piece_path, begin, number, chunks, rng, index)
        for piece in _core.Records(piece_path).pieces():
            writer.append(piece)
        piece_path.unlink()
    writer.finish(json.dumps({"start_wall_ns": start_ns}))


def _write_piece(path: Path, begin: int, number: int, chunks: int, rng: np.random.Generator, generator: int) -> None:
    index = np.arange(begin, begin + number, dtype=np.int64)
    sent = (index * (GAP_NS * chunks // CONCURRENCY)).astype(np.int64)
    steps = rng.integers(GAP_NS * 8 // 10, GAP_NS * 12 // 10, (number, chunks), dtype=np.int64)
    steps[:, 0] += rng.integers(20_000_000, 60_000_000, number)
    stamps = sent[:, None] + np.cumsum(steps, axis=1)
    columns = {
        "request": index,
        "session": index,
        "session_num": index,
        "scheduled": sent - 2000,
        "started": sent - 1000,
        "sent": sent,
        "body_sent": sent + 9000,
        "headers": stamps[:, 0] - 500,
        "first_byte": stamps[:, 0] - 400,
        "first_content": stamps[:, 0],
        "first_content_user": stamps[:, 0] + 20_000,
        "first_output": stamps[:, 0],
        "last_content": stamps[:, -1],
        "end": stamps[:, -1] + 30_000,
        "status": np.full(number, 200),
        "reused": np.ones(number, bool),
        "isl": np.full(number, 1000),
        "requested_osl": np.full(number, chunks),
        "usage_prompt": np.full(number, 1000),
        "usage_completion": np.full(number, chunks),
        "counted_output": np.full(number, chunks),
        "counted_reasoning": np.zeros(number),
        "rtt_ns": np.full(number, 50_000),
        "bytes_out": np.full(number, 5000),
        "bytes_in": np.full(number, 200 * chunks),
        "stamp_source": np.ones(number, np.uint8),
        "generator": np.full(number, generator),
    }
    total = number * chunks
    lists: dict[str, NDArray[np.int64] | NDArray[np.int32] | NDArray[np.uint32]] = {
        "offsets": np.arange(number + 1, dtype=np.int64) * chunks,
        "chunk_ns": stamps.ravel(),
        "chunk_lag_ns": rng.integers(5000, 30_000, total, dtype=np.int64).astype(np.int32),
        "chunk_bytes": np.full(total, 200, np.uint32),
        "chunk_text_bytes": np.full(total, 5, np.uint32),
    }
    _core.write_records(path, columns, lists)


REPORT = """
import contextlib, io, json, resource, sys, time
import aiperf.run.report, aiperf.cli.results, aiperf.metrics, aiperf.reports.render.console, aiperf.reports.exporters.summary_json, aiperf.reports.exporters.summary_csv
import aiperf.reports.exporters.timeslices_csv, aiperf.reports.exporters.timeslices_json, rich.console
from pathlib import Path
aiperf.metrics.load_all()
begin, cpu = time.perf_counter(), time.process_time()
with contextlib.redirect_stdout(io.StringIO()) as screen:
    overrides = {"output.slice_duration": float(sys.argv[2]), "output.report": False}
    run = aiperf.cli.results.write_and_show(aiperf.run.report.report(Path(sys.argv[1]), overrides))
seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
assert run.summary().counts.ok == int(sys.argv[3]), run.summary().counts
assert "Time to First Token" in screen.getvalue()
print(json.dumps([seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6]))
"""


def measure(requests: int, chunks: int, limit_s: float, limit_mb: float, repeats: int) -> Row:
    """Median of the repeats, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="aiperf-report-") as name:
        write = f"from pathlib import Path; from benchmarks.report import write_run; write_run(Path({name!r}), {requests}, {chunks})"
        subprocess.run([sys.executable, "-c", write], check=True)
        # The demo's slices of 10 s, or a hundred of them.
        slice_s = str(max(10.0, requests * chunks * GAP_NS / 1e9 / CONCURRENCY / 100))
        seconds, cpu, peaks = [], [], []
        for _ in range(repeats):
            command = [sys.executable, "-c", REPORT, name, slice_s, str(requests)]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)
            took, used, peak = json.loads(ended.stdout.splitlines()[-1])
            seconds.append(took)
            cpu.append(used)
            peaks.append(peak)
    return Row(
        requests=requests,
        chunks=chunks,
        seconds=statistics.median(seconds),
        cpu_s=statistics.median(cpu),
        peak_mb=max(peaks),
        limit_s=limit_s,
        limit_mb=limit_mb,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = [
        measure(1_000, 500, 0.5, 1000, REPEATS),
        measure(arguments.requests, arguments.chunks, 20.0, 1000, 1),
    ]
    for row in rows:
        mark = "met" if row.met else "NOT MET"
        print(
            f"report of {row.requests:,} × {row.chunks}: {row.seconds:.2f} s (CPU {row.cpu_s:.2f}) of {row.limit_s:g}, "
            f"{row.peak_mb:,.0f} MB of {row.limit_mb:g}: {mark}"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if all(row.met for row in rows) else 1)


if __name__ == "__main__":
    main()

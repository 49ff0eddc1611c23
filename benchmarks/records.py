"""How fast and lean records are after the load: `python -m benchmarks.records [--rows 200000]`.

Written, read, exported as JSONL and finalised through the border; peak memory of finalising 1 and 5 times the rows. The part
that runs during the load (build, journal) is native: `cargo bench -p aiperf-records`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aiperf import _core
from aiperf.records import Columns, finalise, open_run
from aiperf.records.schema import RECORDS_FILE

ROUNDS = 5
CHUNKS = 3
GROWTH = 5
"""The larger run of the memory comparison has this many times the rows."""


def write_run(run_dir: Path, rows: int) -> None:
    """Short requests: 3 chunks and a few words each."""
    sent = np.arange(rows, dtype=np.int64) * 20_000
    offsets = np.arange(rows + 1, dtype=np.int64) * CHUNKS
    steps = np.array([40_000, 41_000, 42_000])
    columns = {
        "scheduled": sent,
        "started": sent,
        "sent": sent + 300,
        "body_sent": sent + 900,
        "headers": sent + 39_000,
        "first_byte": sent + 39_500,
        "first_content": sent + 40_000,
        "first_content_user": sent + 43_000,
        "first_output": sent + 40_000,
        "last_content": sent + 42_000,
        "end": sent + 45_000,
        "status": np.full(rows, 200),
        "isl": np.full(rows, 100),
        "requested_osl": np.full(rows, CHUNKS),
        "bytes_out": np.full(rows, 700),
        "bytes_in": np.full(rows, 900),
    }
    lists = {
        "offsets": offsets,
        "chunk_ns": (sent[:, None] + steps).ravel(),
        "chunk_bytes": np.full(rows * CHUNKS, 180),
    }
    strings: dict[str, list[str | None]] = {"text": ["three short words"] * rows, "finish_reason": ["length"] * rows}
    _core.write_records(run_dir / RECORDS_FILE, columns, lists, strings)


def median_s(action: Callable[[], object]) -> float:
    def once() -> float:
        begin = time.perf_counter()
        action()
        return time.perf_counter() - begin

    return statistics.median(once() for _ in range(ROUNDS))


def show(what: str, value: float, unit: str) -> None:
    print(f"{what:<52} {value:>14,.1f} {unit}")


def export(run_dir: Path, path: Path) -> None:
    from aiperf.metrics.context import MetricOptions
    from aiperf.reports.requests_jsonl import JsonlOptions, build_jsonl

    options = JsonlOptions(metrics=MetricOptions(streaming=True))
    path.unlink(missing_ok=True)

    def on_batch(columns: Columns) -> None:
        _core.write_jsonl(path, build_jsonl(columns, options))

    finalise(run_dir, None, on_batch)


def peak_mb(rows: int) -> float:
    """Peak memory of a process that finalises a run of so many rows, MB."""
    with tempfile.TemporaryDirectory() as name:
        write = f"from pathlib import Path; from benchmarks.records import write_run; write_run(Path({name!r}), {rows})"
        subprocess.run([sys.executable, "-c", write], check=True)
        command = [sys.executable, "-m", "benchmarks.records", "--finalise", name]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--finalise", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.finalise:
        finalise(arguments.finalise, _core.builtin_count, lambda _: None, recount=True)
        # Not `ru_maxrss`: it starts with the parent's.
        peak = next(
            line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if "VmHWM" in line
        )
        print(int(peak.split()[1]) / 1024)
        return
    rows: int = arguments.rows
    with tempfile.TemporaryDirectory() as name:
        run_dir = Path(name)
        show("write_records", rows / median_s(lambda: write_run(run_dir, rows)) / 1e3, "k rows/s")
        show("read one scalar column", median_s(lambda: open_run(run_dir).first_content) * 1e3, "ms")
        chunks = median_s(lambda: sum(len(b.chunk_ns) for b in open_run(run_dir).batches()))
        show("read all chunk columns", rows * CHUNKS / chunks / 1e6, "M chunks/s")
        count = median_s(lambda: finalise(run_dir, _core.builtin_count, lambda _: None, recount=True))
        show("finalise: count tokens, write Parquet", rows / count / 1e3, "k rows/s")
        jsonl = median_s(lambda: export(run_dir, run_dir / "profile_export.jsonl"))
        show("export JSONL, metrics included", rows / jsonl / 1e3, "k rows/s")
    small, large = peak_mb(rows), peak_mb(GROWTH * rows)
    show(f"peak memory of finalising {rows:,} rows", small, "MB")
    show(f"peak memory of finalising {GROWTH * rows:,} rows", large, f"MB ({large - small:+.1f})")


if __name__ == "__main__":
    main()

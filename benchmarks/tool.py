"""`aiperf profile` as a whole command, ours or the other one: same flags, same files read back."""

from __future__ import annotations

import datetime as dt
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import Finished, run
from benchmarks.server import Server

__all__ = ["Outcome", "Tool", "compare_with_ledger"]

ALWAYS = ("--model", "sim", "--endpoint-type", "chat", "--tokenizer", "builtin", "--random-seed", "1", "--ui", "none")
QUIET = ("--no-server-metrics", "--no-gpu-telemetry")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run left behind. `server_cpu`: CPU time of the server over the measured time, 1.0 is a whole core."""

    summary: dict[str, Any]
    finished: Finished
    folder: Path
    server_cpu: float

    def value(self, tag: str, stat: str = "avg") -> float:
        """A metric of the summary; `KeyError` names the tag where it is missing."""
        return float(self.summary[tag][stat])

    @property
    def load_ended_s(self) -> float:
        """When the last reply had ended, epoch s; the summary has local time without a zone."""
        return dt.datetime.fromisoformat(self.summary["end_time"]).astimezone().timestamp()

    @property
    def first_request_s(self) -> float:
        """From the start of the process until the first request was sent, s."""
        return min(float(r["metadata"]["request_start_ns"]) for r in self.records()) / 1e9 - self.finished.begun_s

    def records(self) -> Iterator[dict[str, Any]]:
        """Lines of `profile_export.jsonl` without failed ones."""
        with (self.folder / "profile_export.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record.get("error") is None:
                    yield record

    def send_lags_ms(self) -> list[float]:
        """Start of each request minus when it was due, ms, in ascending order."""
        return sorted(
            (r["metadata"]["request_start_ns"] - r["metadata"]["credit_issued_ns"]) / 1e6 for r in self.records()
        )


@dataclass(frozen=True, slots=True)
class Tool:
    """One of the two tools, by its executable."""

    name: str
    executable: Path

    @property
    def python(self) -> Path:
        return self.executable.with_name("python")

    @contextmanager
    def profile(self, server: Server, flags: Sequence[str], *, measure_memory: bool = False) -> Iterator[Outcome]:
        """Runs `aiperf profile`; the run directory lives as long as the block."""
        with tempfile.TemporaryDirectory(prefix="aiperf-bench-") as folder:
            artifacts = Path(folder, "run")
            command: list[str | Path] = [
                self.executable,
                "profile",
                "--url",
                server.url,
                *ALWAYS,
                *QUIET,
                "--artifact-dir",
                artifacts,
                *flags,
            ]
            before_s = server.cpu_s
            finished = run(command, cwd=Path(folder), measure_memory=measure_memory)
            server_s = server.cpu_s - before_s
            summary = json.loads((artifacts / "profile_export_aiperf.json").read_text(encoding="utf-8"))
            duration_s = summary["benchmark_duration"]["avg"]
            yield Outcome(summary, finished, artifacts, server_s / duration_s)


def compare_with_ledger(outcome: Outcome, server: Server) -> tuple[float, float]:
    """Mean |TTFT error| and mean |ITL error|, ms: what the tool says of a request minus what the server did.

    The server's TTFT is first write − arrival of the request at its kernel, its ITL (last write − first write) / (tokens − 1),
    both by its own clock. From the arrival, as clients wait for a server too busy to read, and it is no error to say so.
    """
    rows = {row["request_id"]: row for row in server.ledger_rows()}
    ttft_ms, itl_ms = [], []
    for record in outcome.records():
        row = rows[record["metadata"]["x_request_id"]]
        real_ttft_ns = row["first_ns"] - row["arrived_ns"]
        real_itl_ns = (row["last_ns"] - row["first_ns"]) / (row["sent_tokens"] - 1)
        metrics = record["metrics"]
        ttft_ms.append(abs(metrics["time_to_first_token"]["value"] - real_ttft_ns / 1e6))
        itl_ms.append(abs(metrics["inter_token_latency"]["value"] - real_itl_ns / 1e6))
    return statistics.fmean(ttft_ms), statistics.fmean(itl_ms)

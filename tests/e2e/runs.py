"""Runs against the simulated server: the server with its ledger, a run of the tool in this process, and the two side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiperf import Run, profile, write
from aiperf.config.resolve import config_from
from aiperf.errors import ErrorKind

__all__ = ["Sim", "arrival_ns", "attempts", "chunk_stamps", "kinds", "simulate", "summary_of"]

MODEL = "qwen3-0.6b"


@dataclass(frozen=True)
class Sim:
    """A server that runs. `dir`: free for the test; runs and the ledger are in it."""

    url: str
    dir: Path
    server: Any
    made: list[Path] = field(default_factory=list)

    def run(self, **flags: object) -> Run:
        """One run of the tool; flags as in `config_from`."""
        asked: dict[str, object] = {
            "model": MODEL,
            "url": self.url,
            "endpoint_type": "chat",
            "streaming": True,
            "concurrency": 4,
            "isl": 20,
            "osl": 8,
            "tokenizer": "builtin",
            "random_seed": 1,
            "artifact_dir": self.dir / "run",
            "probe": False,
            "no_server_metrics": True,
            "calibrate": False,
            "report": False,
            **flags,
        }
        if "benchmark_duration" not in asked:
            asked.setdefault("request_count", 20)
        return write(profile(config_from({k: v for k, v in asked.items() if v is not None})))

    def ledger(self) -> list[dict[str, Any]]:
        """Rows of the ledger so far, in order of arrival."""
        self.server.flush_ledger()
        text = (self.dir / "ledger.jsonl").read_text(encoding="utf-8")
        return sorted((json.loads(line) for line in text.splitlines()), key=lambda row: int(row["n"]))

    def by_id(self) -> dict[str, dict[str, Any]]:
        return {row["request_id"]: row for row in self.ledger()}

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.server.stats())
        return found


@contextmanager
def simulate(directory: Path, **options: object) -> Iterator[Sim]:
    """A simulated server with a ledger; `options` as in `aiperf sim`."""
    from aiperf._core import SimServer

    wanted = {"ledger": str(directory / "ledger.jsonl"), "models": [MODEL], **options}
    with SimServer(json.dumps(wanted)) as server:
        yield Sim(server.url, directory, server)


def arrival_ns(row: Mapping[str, Any]) -> int:
    """When the server's kernel had a request of the ledger, epoch ns. It begins to stamp a moment after it was asked to: until then when the
    server read the first byte.
    """
    came: int | None = row["arrived_ns"]
    return int(row["first_byte_read_ns"]) if came is None else came


def kinds(run: Run) -> dict[ErrorKind, int]:
    """How many records of each kind, good ones included."""
    values, counts = np.unique(run.columns.scalar("error_kind"), return_counts=True)
    return {ErrorKind(int(v)): int(c) for v, c in zip(values, counts, strict=True)}


def attempts(run: Run) -> list[str]:
    """Request ids in the order of the records."""
    return [name for name in run.columns.strings("request_id") if name is not None]


def summary_of(run: Run) -> Mapping[str, Any]:
    """`profile_export_aiperf.json`."""
    found: dict[str, Any] = json.loads((run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    return found


def chunk_stamps(run: Run) -> dict[str, NDArray[np.int64]]:
    """By request id: epoch ns of the chunks with text, in order."""
    columns = run.columns
    names = columns.strings("request_id")
    out: dict[str, NDArray[np.int64]] = {}
    for batch in columns.batches():
        content = batch.is_content
        for i in range(batch.num_rows):
            part = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
            out[str(names[batch.row0 + i])] = batch.chunk_ns[part][content[part]] + columns.start_wall_ns
    return out

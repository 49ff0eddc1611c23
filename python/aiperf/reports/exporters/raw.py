"""`profile_export_raw.jsonl` (--export-level raw): the workers' raw lines in AIPerf's form; times become epoch ns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiperf.json_text import json_text
from aiperf.reports import Exporter, ReportedRun

__all__ = ["EXPORTER"]


def _lines(run: ReportedRun) -> Iterator[bytes]:
    """One at a time: the texts of a long run need not fit in memory."""
    columns = run.columns
    start = columns.start_wall_ns
    phase = columns.scalar("phase")
    number = {name: i for i, name in enumerate(columns.strings("request_id")) if name is not None}
    for entry in _entries(run.dir / "raw"):
        row = number.get(entry["x_request_id"])
        line = {
            "metadata": {
                "x_request_id": entry["x_request_id"],
                "phase_index": None if row is None else int(phase[row]),
            },
            "start_perf_ns": start + entry["start_ns"],
            "payload": entry["payload"],
            "status": entry["status"],
            "responses": [
                {"perf_ns": start + at, "packets": [{"name": "data", "value": data}]} for at, data in entry["responses"]
            ],
        }
        yield (json_text(line) + "\n").encode("utf-8", "replace")


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):  # the last one of a killed run may be half
                    yield json.loads(line)


EXPORTER = Exporter(
    what="raw",
    path=lambda run: run.files.raw,
    render=_lines,
    is_wanted=lambda config: config.output.export_level == "raw",
    order=70,
)

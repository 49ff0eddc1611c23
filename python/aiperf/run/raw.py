"""Files with whole texts: `profile_export_raw.jsonl` (--export-level raw) and `outputs.json` (--export-outputs-json)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from aiperf.json_text import json_text
from aiperf.records.store import open_run
from aiperf.run.directory import Files
from aiperf.run.outputs import part_of, write_whole

__all__ = ["write_outputs", "write_raw"]


def write_raw(files: Files) -> Path:
    """Concatenate the workers' raw lines into AIPerf's form (compat.md §3); times become epoch ns."""
    columns = open_run(files.run_dir)
    start = columns.start_wall_ns
    ids = columns.strings("request_id")
    phase = columns.scalar("phase")
    number = {name: i for i, name in enumerate(ids) if name is not None}
    with _whole(files.raw) as out:
        for entry in _entries(files.run_dir / "raw"):
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
                    {"perf_ns": start + at, "packets": [{"name": "data", "value": data}]}
                    for at, data in entry["responses"]
                ],
            }
            out.write(json_text(line) + "\n")
    return files.raw


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """A file that gets its name when it is complete."""
    part = part_of(path)
    try:
        with part.open("w", encoding="utf-8") as out:
            yield out
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):  # the last one of a killed run may be half
                    yield json.loads(line)


def write_outputs(files: Files, session_ids: Sequence[str]) -> Path:
    """`{"data": [{"session_id", "outputs": [text per turn]}]}`, one entry per session issued, in order."""
    columns = open_run(files.run_dir)
    texts, session, number, turn = (
        columns.strings("text"),
        columns.scalar("session"),
        columns.scalar("session_num"),
        columns.scalar("turn"),
    )
    grouped: dict[int, dict[int, str | None]] = {}
    names: dict[int, str] = {}
    for i, text in enumerate(texts):
        key, row = int(number[i]), int(session[i])
        grouped.setdefault(key, {})[int(turn[i])] = text
        names[key] = session_ids[row] if row < len(session_ids) else f"session_{row:06d}"
    data = [{"session_id": names[k], "outputs": [t for _, t in sorted(grouped[k].items())]} for k in sorted(grouped)]
    write_whole(files.outputs, (json_text({"data": data}, indent=2) + "\n").encode())
    return files.outputs

"""The run directory: made, and never taken from another run; `run.json` in it, written whole."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from aiperf.errors import ConfigError, Note, Problem
from aiperf.records.run_json import RUN_FILE, RunJson
from aiperf.reports.outputs import write_whole

__all__ = ["machine", "open_run_dir", "write_run_json"]

_MARKS = (RUN_FILE, "journal", "records.parquet", "profile_export.jsonl", "profile_export_aiperf.json")


def open_run_dir(wanted: Path) -> tuple[Path, Note | None]:
    """Create the directory of a run. One that holds a run already is left alone: this one gets `<name>-2`, `-3`, ….

    ConfigError if it cannot be created or written.
    """
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any((path / mark).exists() for mark in _MARKS):
                number += 1
                continue
            # Two runs that start at once: whoever creates the file has the directory.
            with (path / RUN_FILE).open("x", encoding="utf-8") as file:
                file.write("{}\n")
        except FileExistsError:
            if not path.is_dir():
                raise _unwritable(path, "it is a file") from None
            number += 1
            continue
        except OSError as error:
            raise _unwritable(path, error.strerror or str(error)) from error
        break
    note = None
    if number > 1:
        note = Note("directory_taken", f"`{wanted}` holds a run already: this one is in `{path}`")
    return path, note


def _unwritable(path: Path, why: str) -> ConfigError:
    return ConfigError([Problem(f"cannot write to `{path}`: {why}", "--artifact-dir", "name another folder")])


def machine() -> dict[str, object]:
    """What the run was made on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": cores,
        "python": platform.python_version(),
        "host": platform.node(),
        "pid": os.getpid(),
        "executable": sys.executable,
    }


def write_run_json(run_dir: Path, content: RunJson) -> None:
    """Replace `run.json` whole: a reader sees the old one or the new one."""
    write_whole(run_dir / RUN_FILE, content.to_text().encode("utf-8", "replace"))

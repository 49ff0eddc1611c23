"""The run directory: its name, the names of its files, and `run.json`, which is there before the first request."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiperf.config.model import Config
from aiperf.errors import ConfigError, Note, Problem, ResultError
from aiperf.json_text import dump_json, to_json_value
from aiperf.run.outputs import write_whole

__all__ = ["RUN_FILE", "Files", "machine", "open_run_dir", "read_run_json", "write_run_json"]

RUN_FILE = "run.json"
RUN_SCHEMA = 1
_MARKS = (RUN_FILE, "journal", "records.parquet", "profile_export.jsonl", "profile_export_aiperf.json")


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of the files of a run; `--profile-export-prefix foo` renames AIPerf's as AIPerf does (compat.md §2)."""

    run_dir: Path
    prefix: str | None = None

    def _named(self, default: str, suffix: str) -> Path:
        return self.run_dir / (default if self.prefix is None else f"{self.prefix}{suffix}")

    @property
    def jsonl(self) -> Path:
        return self._named("profile_export.jsonl", ".jsonl")

    @property
    def raw(self) -> Path:
        return self._named("profile_export_raw.jsonl", "_raw.jsonl")

    @property
    def summary(self) -> Path:
        return self._named("profile_export_aiperf.json", ".json")

    @property
    def csv(self) -> Path:
        return self._named("profile_export_aiperf.csv", ".csv")

    @property
    def slices_csv(self) -> Path:
        return self._named("profile_export_aiperf_timeslices.csv", "_timeslices.csv")

    @property
    def slices_json(self) -> Path:
        return self._named("profile_export_aiperf_timeslices.json", "_timeslices.json")

    @property
    def console(self) -> Path:
        return self._named("profile_export_console.txt", "_console.txt")

    @property
    def inputs(self) -> Path:
        return self.run_dir / "inputs.json"

    @property
    def outputs(self) -> Path:
        return self.run_dir / "outputs.json"

    @property
    def page(self) -> Path:
        return self.run_dir / "report.html"

    def server_metrics(self, ending: str) -> Path:
        return self._named(f"server_metrics_export.{ending}", f"_server_metrics.{ending}")

    @property
    def gpu(self) -> Path:
        return self._named("gpu_telemetry_export.jsonl", "_gpu_telemetry.jsonl")

    @property
    def network_latency(self) -> Path:
        return self._named("profile_export_network_latency.jsonl", "_network_latency.jsonl")

    @property
    def log(self) -> Path:
        return self.run_dir / "logs" / "aiperf.log"


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


def write_run_json(run_dir: Path, content: Mapping[str, object]) -> None:
    """Replace `run.json` whole: a reader sees the old one or the new one."""
    text = dump_json(to_json_value({"schema": RUN_SCHEMA, **content})) + "\n"
    write_whole(run_dir / RUN_FILE, text.encode("utf-8", "replace"))


def read_run_json(run_dir: Path) -> dict[str, Any]:
    """ResultError if it is missing or not ours."""
    path = run_dir / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "give the directory that `aiperf profile` wrote its files to"
        raise ResultError(f"cannot read `{path}`: {error.strerror or error}", hint) from error
    except ValueError as error:
        raise ResultError(f"cannot read `{path}`: {error}") from error
    if not isinstance(content, dict) or "config" not in content:
        raise ResultError(f"`{path}` does not describe a run", "the run ended before its preparation was complete")
    return content


def files_of(config: Config, run_dir: Path) -> Files:
    return Files(run_dir, config.output.profile_export_prefix)

"""The run directory: what an earlier run left in it is moved aside, never overwritten; `run.json` in it, written whole."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

from aiperf.errors import ConfigError, Note, Problem
from aiperf.records.run_json import RUN_FILE, RunJson
from aiperf.reports.paths import prefix_of
from aiperf.reports.writing import write_whole

__all__ = ["claim", "find_run", "is_written", "machine", "write_run_json"]

_RUN_MARKS: Final = (RUN_FILE, "journal", "records.parquet", "profile_export.jsonl", "profile_export_aiperf.json")
_STUDY_MARKS: Final = ("study.json", "sweep_aggregate", "profile_runs", "search_history.json")
_ENTRIES: Final = (
    *_RUN_MARKS,
    *_STUDY_MARKS,
    ".aiperf_results_ready.json",
    "aggregate",
    "phases",
    "phase_manifest.json",
    "profile_export*",
    "server_metrics_export.*",
    "gpu_telemetry_export*",
    "inputs.json",
    "outputs.json",
    "outputs.jsonl",
    "replies.npz",
    "agents.npz",
    "media.npz",
    "parts",
    "parts.json",
    "engine_traces.jsonl",
    "raw",
    "raw_records",
    "logs",
    "plots",
    "report.html",
    "run_config.json",
    "live.json",
    "sweep_table.csv",
    "ab_comparison.json",
    "cache_*.json",
    "cache_*.csv",
    "kv_*.json",
    "kv_*.csv",
    "workloads",
    "summary.md",
    "junit.xml",
)
"""What runs and studies, ours and AIPerf's, write into their folder. Only these are moved: a folder may also hold the user's own files,
a log that `tee` is writing, or the configuration this run was started with.
"""


@contextmanager
def claim(wanted: Path, goes_on: Callable[[Path], bool] = lambda _: False) -> Iterator[tuple[Path, Note | None]]:
    """(directory, note) of a run or study, its own while the context lasts.

    What an earlier one left in `wanted` is moved to `wanted.1`, `.2`, … (unless `goes_on` is true of it), so that scripts that read
    `wanted` read the new figures and the old ones are kept. Where another process is writing into it right now, this run goes into
    `wanted-2`, `-3`, …. ConfigError if the directory cannot be created or written.
    """
    with ExitStack() as held:
        for number in count(1):
            whole = _whole(wanted)
            path = wanted if number == 1 else whole.with_name(f"{whole.name}-{number}")
            made = [folder for folder in (path, *path.parents) if not folder.exists()]
            try:
                path.mkdir(parents=True, exist_ok=True)
                if not _lock(path, held):
                    continue
                moved = None if goes_on(path) else _move_aside(path)
                if not os.access(path, os.W_OK | os.X_OK):
                    raise PermissionError(13, "Permission denied")
            except FileExistsError:
                raise _unwritable(path, "it is a file") from None
            except OSError as error:
                raise _unwritable(path, error.strerror or str(error)) from error
            texts = []
            if number > 1:
                texts.append(f"another run is writing into `{wanted}`: this one is in `{path}`")
            if moved is not None:
                texts.append(f"the results that were in `{path}` are in `{moved}` now")
            note = Note("directory_taken" if number > 1 else "moved_aside", "; ".join(texts)) if texts else None
            before = set(path.iterdir())
            try:
                yield path, note
            except BaseException:
                if path.is_dir() and set(path.iterdir()) == before:
                    _leave_as_it_was(path, moved, made)
                raise
            return


def _leave_as_it_was(path: Path, moved: Path | None, made: Sequence[Path]) -> None:
    """A run that is refused before it has written anything neither leaves a folder nor takes the earlier results away. `made`: the
    folders that were made for it, the innermost first.
    """
    with suppress(OSError):  # what cannot be undone stays where the note says
        if moved is not None:
            for entry in tuple(moved.iterdir()):
                entry.rename(path / entry.name)
            moved.rmdir()
        for folder in made:
            folder.rmdir()


def find_run(run_dir: Path, benchmark_id: str) -> Path:
    """Where a run is that was in `run_dir`: there, or where a later run moved it."""
    for path in (run_dir, *_asides(run_dir)):
        if _facts(path).get("benchmark_id") == benchmark_id:
            return path
    return run_dir


def is_written(path: Path) -> bool:
    """Whether a run is writing into the directory right now."""
    with ExitStack() as held:
        return not _lock(path, held)


def _lock(path: Path, held: ExitStack) -> bool:
    """Hold the directory; False if another run holds it. Ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    file = os.open(path, os.O_RDONLY)
    held.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _move_aside(folder: Path) -> Path | None:
    """Move what a run or study left in the folder; where to, or None if there was nothing."""
    if not any((folder / mark).exists() for mark in (*_RUN_MARKS, *_STUDY_MARKS)):
        return None
    entries = _entries(folder)
    # In the folder itself where nothing can be put beside it: a mounted volume, a parent that is not writable.
    whole = _whole(folder)
    for parent in (whole.parent, folder):
        with suppress(OSError):  # the next place may take them; else told below
            aside = _new_folder(parent, whole.name)
            try:
                for path in entries:
                    path.rename(aside / path.name)
            except OSError:
                if parent == folder:
                    raise
                with suppress(OSError):  # some have been moved already, and stay where they are found
                    aside.rmdir()
                continue
            return folder.with_name(aside.name) if parent != folder and folder.name not in {"", ".."} else aside
    raise PermissionError(13, "the results in it cannot be moved aside")


def _whole(folder: Path) -> Path:
    """From the root, without `.` and `..`: it has a name."""
    return Path(os.path.abspath(folder))  # noqa: PTH100 - `resolve` would follow a symbolic link to another place


def _new_folder(parent: Path, name: str) -> Path:
    for number in count(1):
        with suppress(FileExistsError):  # the next number
            path = parent / f"{name}.{number}"
            path.mkdir()
            return path
    raise AssertionError


def _entries(folder: Path) -> list[Path]:
    """A run's or study's files and folders in it."""
    patterns = [*_ENTRIES]
    config = _facts(folder).get("config")
    output = config.get("output") if isinstance(config, dict) else None
    prefix = output.get("profile_export_prefix") if isinstance(output, dict) else None
    if isinstance(prefix, dict) and isinstance(given := prefix.get("value"), str) and (name := prefix_of(given)):
        stem = name.translate({ord(c): f"[{c}]" for c in "*?["})
        patterns += [f"{stem}_*", *(f"{stem}.{ending}" for ending in ("json", "csv", "jsonl"))]
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    if any((folder / mark).exists() for mark in _STUDY_MARKS):
        inside = (*_RUN_MARKS, "profile_runs")
        found |= {p for p in folder.iterdir() if p.is_dir() and any((p / mark).exists() for mark in inside)}
    return sorted(found)


def _asides(folder: Path) -> Iterator[Path]:
    whole = _whole(folder)
    for number in count(1):
        name = f"{whole.name}.{number}"
        there = [p for p in (whole.parent / name, folder / name) if p.is_dir()]
        if not there:
            return
        yield from there


def _facts(folder: Path) -> dict[str, object]:
    """`run.json` as it stands; empty if it cannot be read."""
    try:
        facts = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


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

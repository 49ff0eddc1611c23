"""Runs by their path, whoever made them: ours from the run directory, others through `readers/` as a run with the figures they state.

Of an imported run there are values per request where its files have them; what it states itself (percentiles, throughput) is taken as it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

from aiperf.config.model import Config
from aiperf.errors import Note, ResultError
from aiperf.records.run_json import RUN_FILE, RunJson
from aiperf.reports import ReportedRun
from aiperf.run.data import RunData
from aiperf.run.readers import READERS, Reader
from aiperf.run.run import Run

__all__ = ["imported_run", "load_data", "load_many", "load_sides", "open_any", "run_of"]


class _Numbered(Protocol):
    def load_number(self, path: Path, number: int) -> RunData: ...


def open_any(path: Path) -> Run:
    """A run of ours (its folder), or what another tool wrote: AIPerf, GuideLLM, inference-perf or vLLM (its file, or the folder; `file.json#2`: its second result).

    ResultError if there is nothing to read, or the format is none of these.
    """
    path, number = _split_number(path)
    if not path.exists():
        raise ResultError(f"there is no `{path}`", "give the folder of a run, or the result file of another tool")
    # Ours come first: our run directories hold AIPerf's files too.
    folder = path.parent if path.is_file() else path
    if (folder / RUN_FILE).is_file() and (number is None or path.is_dir()):
        if number is not None:
            raise ResultError(f"`{path}` holds one result: there is no `#{number}` of it", f"give `{path}`")
        return Run.open(folder)
    for name in READERS:
        reader = cast("Reader", importlib.import_module(f"aiperf.run.readers.{name}"))
        if not reader.matches(path):
            continue
        if number is None:
            return imported_run(reader.load(path))
        if not hasattr(reader, "load_number"):
            raise ResultError(f"`{path}` holds one result: there is no `#{number}` of it", f"give `{path}`")
        return imported_run(cast("_Numbered", reader).load_number(path, number))
    raise ResultError(
        f"`{path}` holds no result that is known here",
        "known: runs of `aiperf profile`, AIPerf's exports, `vllm bench serve --save-result`, GuideLLM, inference-perf",
    )


def imported_run(data: RunData) -> Run:
    """Its configuration is unknown but for what `data.options` says; how the other tool defines its metrics is noted."""
    notes = tuple(Note("definition", f"{d.tag}: {d.text}", {"tag": d.tag}) for d in data.differs)
    json = RunJson(config={}, aiperf_version=data.tool)
    return Run(dir=data.path, config=Config(), json=json, notes=notes, imported=data)


def run_of(data: RunData) -> ReportedRun:
    """The run that it is a view of."""
    return data.origin or imported_run(data)


def load_data(path: Path) -> RunData:
    """`open_any(path).data`."""
    return open_any(path).data


def _split_number(path: Path) -> tuple[Path, int | None]:
    """`file.json#2` → (`file.json`, 2), unless there is a file of the whole name."""
    name, mark, number = path.name.rpartition("#")
    return (path.with_name(name), int(number)) if mark and number.isdecimal() and not path.exists() else (path, None)


def load_many(paths: Sequence[Path]) -> list[RunData]:
    """All of them; two of the same name are told apart by their parent folder."""
    runs = [load_data(p) for p in paths]
    names = [r.name for r in runs]
    return [replace(r, label=_long_name(r.path)) if names.count(r.name) > 1 else r for r in runs]


def load_sides(paths: Sequence[Path]) -> list[tuple[RunData, ...]]:
    """The runs of each: one, or the repeats in a folder of them (`--num-profile-runs`), under the folder's name."""
    found = [_repeats(p) for p in paths]
    ones = iter(load_many([p for p, repeats in zip(paths, found, strict=True) if not repeats]))
    names = [p.resolve().name for p in paths]
    sides: list[tuple[RunData, ...]] = []
    for path, repeats in zip(paths, found, strict=True):
        label = _long_name(path) if names.count(path.resolve().name) > 1 else path.resolve().name
        sides.append(tuple(replace(load_data(p), label=label) for p in repeats) or (next(ones),))
    return sides


def _repeats(path: Path) -> list[Path]:
    """Runs of one point, in order: `profile_runs/run_0001`, or `trial_0001` of independent trials."""
    return [p for p in sorted(path.glob("profile_runs/*")) if (p / RUN_FILE).is_file()]


def _long_name(path: Path) -> str:
    return f"{path.resolve().parent.name}/{path.resolve().name}"

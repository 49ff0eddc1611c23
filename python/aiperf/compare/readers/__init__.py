"""Readers of results: one file each, `matches(path) -> bool` and `load(path) -> RunData`.

`path` is what the user gave: a folder or a file. The first reader that knows it reads it; ours comes first, because our run
directories hold AIPerf's files too. A folder of repeats (`--num-profile-runs`) is one side of a comparison. A reader of files that hold
several results has `load_number(path, number)` as well: `file.json#2` asks for the second.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, cast

from aiperf.compare.data import RunData
from aiperf.errors import ResultError
from aiperf.run.directory import RUN_FILE

__all__ = ["READERS", "Reader", "Tree", "load_run", "load_runs", "load_sides", "read_json", "tree"]

READERS: Final = ("run_dir", "aiperf_export", "vllm_bench", "guidellm", "inference_perf")

Tree = dict[str, object]
"""A JSON object."""


class Reader(Protocol):
    def matches(self, path: Path) -> bool: ...
    def load(self, path: Path) -> RunData: ...


def read_json(path: Path) -> object:
    """ResultError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"cannot read `{path}`: {error.strerror or error}") from error
    except ValueError as error:
        raise ResultError(f"cannot read `{path}`: {error}") from error


def tree(value: object) -> Tree:
    """The object, or an empty one if it is something else."""
    return cast("Tree", value) if isinstance(value, dict) else {}


def load_run(path: Path) -> RunData:
    """ResultError if there is nothing to read, or nobody knows the format."""
    path, number = _split_number(path)
    if not path.exists():
        raise ResultError(f"there is no `{path}`", "give the folder of a run, or the result file of another tool")
    for name in READERS:
        reader = cast("Reader", importlib.import_module(f"aiperf.compare.readers.{name}"))
        if not reader.matches(path):
            continue
        if number is None:
            return reader.load(path)
        load_number = cast("Callable[[Path, int], RunData] | None", getattr(reader, "load_number", None))
        if load_number is None:
            raise ResultError(f"`{path}` holds one result: there is no `#{number}` of it", f"give `{path}`")
        return load_number(path, number)
    raise ResultError(
        f"`{path}` holds no result that is known here",
        "known: runs of `aiperf profile`, AIPerf's exports, `vllm bench serve --save-result`, GuideLLM, inference-perf",
    )


def _split_number(path: Path) -> tuple[Path, int | None]:
    """`file.json#2` → (`file.json`, 2), unless there is a file of the whole name."""
    name, mark, number = path.name.rpartition("#")
    return (path.with_name(name), int(number)) if mark and number.isdecimal() and not path.exists() else (path, None)


def load_runs(paths: Sequence[Path]) -> list[RunData]:
    """All of them; two of the same name are told apart by their parent folder."""
    runs = [load_run(p) for p in paths]
    names = [r.name for r in runs]
    return [replace(r, label=_long_name(r.path)) if names.count(r.name) > 1 else r for r in runs]


def load_sides(paths: Sequence[Path]) -> list[tuple[RunData, ...]]:
    """The runs of each: one, or the repeats in a folder of them, under the folder's name."""
    found = [_repeats(p) for p in paths]
    ones = iter(load_runs([p for p, repeats in zip(paths, found, strict=True) if not repeats]))
    names = [p.resolve().name for p in paths]
    sides: list[tuple[RunData, ...]] = []
    for path, repeats in zip(paths, found, strict=True):
        label = _long_name(path) if names.count(path.resolve().name) > 1 else path.resolve().name
        sides.append(tuple(replace(load_run(p), label=label) for p in repeats) or (next(ones),))
    return sides


def _repeats(path: Path) -> list[Path]:
    """Runs of one point, in order: `profile_runs/run_0001`, or `trial_0001` of independent trials."""
    return [p for p in sorted(path.glob("profile_runs/*")) if (p / RUN_FILE).is_file()]


def _long_name(path: Path) -> str:
    return f"{path.resolve().parent.name}/{path.resolve().name}"

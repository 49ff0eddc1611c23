"""Readers of results: one file each, `matches(path) -> bool` and `load(path) -> RunData`.

`path` is what the user gave: a folder or a file. The first reader that knows it reads it; ours comes first, because our run
directories hold AIPerf's files too.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, cast

from aiperf.compare.data import RunData
from aiperf.errors import ResultError

__all__ = ["READERS", "Reader", "Tree", "load_run", "load_runs", "read_json", "tree"]

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
    if not path.exists():
        raise ResultError(f"there is no `{path}`", "give the folder of a run, or the result file of another tool")
    for name in READERS:
        reader = cast("Reader", importlib.import_module(f"aiperf.compare.readers.{name}"))
        if reader.matches(path):
            return reader.load(path)
    raise ResultError(
        f"`{path}` holds no result that is known here",
        "known: runs of `aiperf profile`, AIPerf's exports, `vllm bench serve --save-result`, GuideLLM, inference-perf",
    )


def load_runs(paths: Sequence[Path]) -> list[RunData]:
    """All of them; two of the same name are told apart by their parent folder."""
    from dataclasses import replace

    runs = [load_run(p) for p in paths]
    names = [r.name for r in runs]
    return [
        replace(r, label=f"{r.path.resolve().parent.name}/{r.path.resolve().name}") if names.count(r.name) > 1 else r
        for r in runs
    ]

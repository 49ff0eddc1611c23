"""Readers of other tools' results: one file each, `matches(path) -> bool` and `load(path) -> RunData`.

`path` is what the user gave: a folder or a file. The first reader that knows it reads it. A reader of files that hold several results has
`load_number(path, number)` as well: `file.json#2` asks for the second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Protocol, cast

from aiperf.errors import ResultError
from aiperf.run.data import RunData

__all__ = ["READERS", "Reader", "Tree", "read_json", "tree"]

READERS: Final = ("aiperf_export", "vllm_bench", "guidellm", "inference_perf")

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

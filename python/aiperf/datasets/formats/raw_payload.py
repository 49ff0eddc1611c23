"""`raw_payload`: request bodies sent as they are. JSON Lines, one request each; in a folder, each file is a conversation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aiperf.datasets import DatasetOptions
from aiperf.datasets.entry import MAX_TOKENS
from aiperf.datasets.rows import iter_objects
from aiperf.errors import DatasetError
from aiperf.session import Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS = (frozenset({"messages"}), frozenset({"prompt", "model"}), frozenset({"input", "model"}))
SAMPLING = "sequential"


class Options(DatasetOptions):
    pass


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    path = options.file
    if not path.is_dir():
        for line, payload in iter_objects(path, options):
            yield Session(f"line-{line}", (_turn(payload),))
        return
    files = sorted(p for p in path.iterdir() if p.is_file() and ".jsonl" in p.suffixes[-2:])
    if not files:
        raise DatasetError(f"cannot read `{path}`: no `.jsonl` file in this folder")
    for file in files:
        turns = tuple(_turn(payload) for _, payload in iter_objects(file, options))
        if turns:
            yield Session(file.name.partition(".")[0], turns)


def _turn(payload: dict[str, object]) -> Turn:
    model = payload.get("model")
    return Turn(payload=payload, osl=output_length(payload), model=model if isinstance(model, str) else None)


def output_length(payload: dict[str, object]) -> int | None:
    """What the body itself asks for, for the comparison with what came."""
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = payload.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_TOKENS:
            return value
    return None

"""Example: lines of `question` and, if the answer's length is to be asked for, `words`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from aiperf.datasets import DatasetOptions
from aiperf.session import Message, Session, Turn

FIELDS = (frozenset({"question"}),)
SAMPLING = "sequential"


class Options(DatasetOptions):
    """Fields here are options for `--dataset-option`, with type and description."""


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    with options.file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            message = Message(role="user", parts=(row["question"],))
            yield Session(id=f"question-{number}", turns=(Turn(messages=(message,), osl=row.get("words")),))

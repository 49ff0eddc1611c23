"""`single_turn`: JSON Lines, one request each: `{"text": "What is deep learning?"}`. AIPerf's format.

Fields: `text` or `texts`, `image(s)`, `audio(s)`, `video(s)` (URL, data URL or file; lists of strings or of `{"name",
"contents"}`), `timestamp` or `delay` (ms), `role`, `output_length`, `model`, `extra`, and `session_id`: lines of one session
are sent one after the other, each complete in itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from aiperf.datasets import DatasetOptions
from aiperf.datasets.entry import TimedEntry, turn_of
from aiperf.datasets.rows import iter_rows
from aiperf.session import Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS = tuple(frozenset({f}) for f in ("text", "texts", "image", "images", "audio", "audios", "video", "videos"))
SAMPLING = "sequential"


class Options(DatasetOptions):
    pass


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Sessions in the order of their first lines."""
    path = options.file
    folder = path.parent
    sessions: dict[str, list[Turn]] = {}
    for line, row in iter_rows(path, options, TimedEntry):
        name = f"line-{line}" if row.session_id is None else str(row.session_id)
        sessions.setdefault(name, []).append(turn_of(row, folder))
    for name, turns in sessions.items():
        yield Session(name, tuple(turns) if len(turns) == 1 else tuple(replace(t, fresh=True) for t in turns))

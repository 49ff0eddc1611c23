"""`single_turn`: JSON Lines, one request each: `{"text": "What is deep learning?"}`. AIPerf's format.

Fields: `text` or `texts`, `image(s)`, `audio(s)`, `video(s)` (URL, data URL or file; lists of strings or of `{"name",
"contents"}`), `image_uuids` (the id of each image for vLLM's processor cache; without `images` the ids alone), `timestamp` or `delay` (ms), `role`, `output_length`, `model`, `extra`, and `session_id`: lines of one session
are sent one after the other, each complete in itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.entry import TimedEntry, turn_of
from aiperf.datasets.rows import iter_rows
from aiperf.session import Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS = tuple(
    frozenset({f}) for f in ("text", "texts", "image", "images", "image_uuids", "audio", "audios", "video", "videos")
)
SAMPLING = "sequential"


class Options(DatasetOptions):
    strip_images: bool = Field(
        default=False, description="Send an image with an id once per session, later only its id"
    )


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Sessions in the order of their first lines."""
    path = options.file
    folder = path.parent
    strips = isinstance(options, Options) and options.strip_images
    sessions: dict[str, list[Turn]] = {}
    for line, row in iter_rows(path, options, TimedEntry):
        name = f"line-{line}" if row.session_id is None else str(row.session_id)
        sessions.setdefault(name, []).append(turn_of(row, folder))
    for name, listed in sessions.items():
        turns = _stripped(listed) if strips else listed
        yield Session(name, tuple(turns) if len(turns) == 1 else tuple(replace(t, fresh=True) for t in turns))


def _stripped(turns: list[Turn]) -> list[Turn]:
    """Without the data of images that an earlier turn has sent under their id. Twice in one turn it stays: a server looks up all
    images of a request before it keeps any of them.
    """
    seen: set[str] = set()
    out = []
    for turn in turns:
        messages = tuple(
            replace(m, images=tuple("" if i in seen else u for u, i in zip_longest(m.images, m.image_ids)))
            if m.image_ids
            else m
            for m in turn.messages
        )
        seen |= {i for m in turn.messages for u, i in zip(m.images, m.image_ids, strict=False) if i and u}
        out.append(replace(turn, messages=messages))
    return out

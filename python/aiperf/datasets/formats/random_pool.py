"""`random_pool`: requests drawn with replacement from a pool. AIPerf's format.

A file is one pool of lines as in `single_turn`, without times. In a folder each file is a pool, and a request takes one entry
from each. A text without a name of its own is named as its file is: those of `queries.jsonl` and `passages.jsonl` make a ranking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.entry import Entry, messages_of
from aiperf.datasets.rows import iter_rows
from aiperf.errors import DatasetError
from aiperf.session import Message, Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS: tuple[frozenset[str], ...] = ()
SAMPLING = "sequential"


class Options(DatasetOptions):
    entries: int = Field(default=100, ge=1, description="Requests to draw")
    batch_size: int = Field(default=1, ge=1, description="Texts in each, drawn apart from images and other media")


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:
    if not isinstance(options, Options):
        raise TypeError("random_pool.load takes random_pool.Options")
    path = options.file
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and ".jsonl" in p.suffixes[-2:])
        if not files:
            raise DatasetError(f"cannot read `{path}`: no `.jsonl` file in this folder")
        if options.batch_size > 1:
            raise DatasetError(
                "a batch cannot be drawn from a folder of pools", "give one file, or leave out the batch size"
            )
    else:
        files = [path]
    pools = [_read(file, options) for file in files]
    if path.is_dir():
        pools = [_named(pool, file.name.partition(".")[0]) for pool, file in zip(pools, files, strict=True)]
    width = len(str(options.entries - 1))
    for number in range(options.entries):
        if options.batch_size > 1:
            messages: tuple[Message, ...] = (_batch(pools[0], options.batch_size, rng),)
        else:
            messages = tuple(m for pool in pools for m in pool[int(rng.integers(len(pool)))])
        yield Session(f"pool-{number:0{width}d}", (Turn(messages=messages),))


def _read(file: Path, options: DatasetOptions) -> list[tuple[Message, ...]]:
    pool = [messages_of(row, file.parent) for _, row in iter_rows(file, options, Entry)]
    if not pool:
        raise DatasetError(
            f"cannot read `{file}`: none of its lines can be used", "; ".join(n.text for n in options.notes)
        )
    return pool


def _named(pool: list[tuple[Message, ...]], name: str) -> list[tuple[Message, ...]]:
    return [tuple(replace(m, name=m.name or name) for m in entry) for entry in pool]


def _batch(pool: list[tuple[Message, ...]], size: int, rng: np.random.Generator) -> Message:
    """`size` texts and one of each medium, each drawn on its own: pairs of an entry are not kept, as the name says."""
    messages = [m for entry in pool for m in entry]
    texts = [t for m in messages for t in (*([m.parts] if m.parts else []), *m.more)]
    drawn = [texts[int(i)] for i in rng.integers(len(texts), size=size)] if texts else []

    def one(media: list[str]) -> tuple[str, ...]:
        return (media[int(rng.integers(len(media)))],) if media else ()

    return Message(
        role="user",
        parts=drawn[0] if drawn else (),
        images=one([u for m in messages for u in m.images]),
        audios=one([u for m in messages for u in m.audios]),
        videos=one([u for m in messages for u in m.videos]),
        more=tuple(drawn[1:]),
    )

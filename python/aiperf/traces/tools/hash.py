"""One's own logs → a trace that can be shared: lengths, times, and ids that tell equal prefixes and nothing else.

A prompt is tokenised, message by message, and cut into blocks; the id of a block is a keyed hash (`_core.BlockHasher`, key: the salt) of
all tokens up to its end: equal prefixes give equal ids, and without the salt no id can be checked against a guessed text. `aiperf capture`
makes the same ids of the same prompts. A random salt is drawn unless one is given, and written nowhere. Session ids are hashed likewise.
No text goes into the output, and no field but those of a `hashed_trace` line.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiperf._core import BlockHasher
from aiperf.errors import DatasetError, Note
from aiperf.reading.problems import BadField, BrokenRecords
from aiperf.reading.records import iter_json
from aiperf.traces import UNKNOWN, TraceTable
from aiperf.traces.reading.column_builder import Row, TableBuilder
from aiperf.traces.tools.logged_turns import LogReader, LogTurn, Prompt, Rows

__all__ = ["Encode", "HashOptions", "Hasher", "hash_prompts", "make_salt"]

Encode = Callable[[str], Sequence[int]]

_TOLD = {
    "transcripts": "whole conversations, a request for each response in them",
    "prompts": "requests with their whole prompts",
    "additions": "what each request adds to its conversation",
}


def make_salt(salt: str | None) -> bytes:
    """Key of the hashes; a random one if none is given. DatasetError if a given one is too short."""
    if salt is None:
        return secrets.token_bytes(32)
    if len(salt) < 8:
        raise DatasetError("the salt is too short to keep anything secret", "take 16 random characters or more")
    return hashlib.blake2b(salt.encode(), digest_size=32).digest()


class Hasher:
    """Ids of prefixes of `block_size` tokens each."""

    def __init__(self, salt: bytes, block_size: int) -> None:
        self.block_size = block_size
        self._hasher = BlockHasher(salt, block_size)

    @classmethod
    def create(cls, block_size: int, salt: str | None = None) -> Hasher:
        """A random salt if none is given. DatasetError if the block size or the salt is no good."""
        if block_size < 1:
            raise DatasetError(f"a block has at least one token, found {block_size}")
        return cls(make_salt(salt), block_size)

    def blocks(self, tokens: Sequence[int], marks: Sequence[tuple[int, bytes]] = ()) -> list[int]:
        """One id per block, the last perhaps partial; a partial block has another id than the full one it may become."""
        ids: list[int] = self._hasher.blocks(np.asarray(tokens, np.uint32), marks).tolist()
        return ids

    def name(self, session: str) -> str:
        return self._hasher.name(session.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class HashOptions:
    """`rows`: what a line is (`LogReader`); "auto": recognised from each line. `prompt_field`: where the prompt is, if not found by its name."""

    rows: Rows = "auto"
    prompt_field: str | None = None
    skip_invalid: bool = False


def hash_prompts(path: Path, encode: Encode, hasher: Hasher, options: HashOptions | None = None) -> TraceTable:
    """JSONL of prompts or of conversations → table. A prompt is text, or a list of chat messages; the length of its response is given, or
    counted from the response's text; its time and session are as in the generic format. DatasetError as when a trace is read.
    """
    own = options or HashOptions()
    bad, builder, row = BrokenRecords(skip=own.skip_invalid), TableBuilder(), Row()
    reader = LogReader(encode, own.rows, own.prompt_field)
    media = 0
    for number, record in iter_json(path):
        try:
            if isinstance(record, BadField):
                raise record
            for turn in reader.turns(number, record):
                _fill(row, turn, hasher)
                builder.add(number, row)
                media += bool(turn.prompt.marks)
        except BadField as e:
            bad.add(path, number, e)
    notes = [*bad.notes(), *_notes(reader.counts, own.rows, reader.broken_off)]
    if media:
        text = f"requests with images, sound or files, whose tokens are not counted: {media:,}"
        notes.append(Note("media_not_counted", text, {"count": media}))
    return builder.build(path, "hashed_trace", hasher.block_size, tuple(notes))


def _fill(row: Row, turn: LogTurn, hasher: Hasher) -> None:
    prompt: Prompt = turn.prompt
    row.clear()
    row.input_length = len(prompt.tokens)
    row.hash_ids = hasher.blocks(prompt.tokens, prompt.marks)
    row.output_length = UNKNOWN if turn.output_length is None else turn.output_length
    row.at_ns = turn.at_ns
    row.delay_ns = turn.delay_ns
    if turn.session is not None:
        row.session = hasher.name(turn.session)


def _notes(counts: Counter[str], rows: Rows, broken_off: int) -> list[Note]:
    """What the lines were taken for, unless each is a prompt, as in most logs."""
    notes = []
    if rows == "auto" and set(counts) - {"prompts"}:
        told = "; ".join(f"{_TOLD[kind]}: {count:,}" for kind, count in counts.most_common())
        text = f"lines of the file are {told} (`--rows` chooses otherwise)"
        notes.append(Note("rows_taken_for", text, {"rows": dict(counts)}))
    if broken_off:
        text = (
            f"lines that do not begin with the messages of the line before in their session: {broken_off:,}; each is taken for a whole "
            "prompt all the same: if a line only adds to its conversation, use `--rows additions`"
        )
        notes.append(Note("prompts_do_not_grow", text, {"count": broken_off}))
    return notes

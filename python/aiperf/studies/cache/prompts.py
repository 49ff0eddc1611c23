"""Prompts as a cache sees them: a shared prefix and a rest that nobody else has; written as a trace of hash blocks.

A prompt is blocks of `block` tokens. Prefix `p` consists of the blocks (p, 0), (p, 1), …; the blocks behind it are the request's own. Equal
`base`: equal text, so that two runs of the same base meet each other in a cache, and two of different bases never do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiperf.json_text import json_text

__all__ = ["Prompts", "joined", "repeated", "write_trace"]

Ints = NDArray[np.int64]
_OWN: Final = 1 << 40
"""Blocks of a request's own rest are numbered from here, within the base."""
_PREFIX_BLOCKS: Final = 1 << 20
"""Blocks a prefix may have."""
_BASES: Final = 1 << 20
"""Bases are told apart in the ids' upper bits."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Arrays: (requests,), in the order of sending. `prefix`: its number; `shared`: its tokens, a whole number of blocks; `tokens`: of the
    whole prompt. `own`: number of the request's own rest. `session`: requests of one session, −1: each its own. `osl`: output tokens.
    """

    prefix: Ints
    shared: Ints
    tokens: Ints
    own: Ints
    session: Ints
    osl: int
    block: int
    base: int

    @property
    def count(self) -> int:
        return len(self.prefix)

    @property
    def total_tokens(self) -> int:
        return int(self.tokens.sum())

    @property
    def total_output(self) -> int:
        return self.count * self.osl

    def slice(self, part: slice | Ints) -> Prompts:
        return replace(
            self,
            prefix=self.prefix[part],
            shared=self.shared[part],
            tokens=self.tokens[part],
            own=self.own[part],
            session=self.session[part],
        )

    def with_sessions(self) -> Prompts:
        """The requests of a prefix are the turns of one session."""
        return replace(self, session=self.prefix.copy())

    def block_ids(self) -> tuple[Ints, Ints]:
        """(offsets, ids) of all blocks, the last one of a prompt perhaps not full: equal id, equal text up to there."""
        counts = -(-self.tokens // self.block)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        row = np.repeat(np.arange(self.count), counts)
        place = np.arange(int(offsets[-1])) - offsets[row]
        start = (self.base % _BASES) << 42
        shared = place < (self.shared // self.block)[row]
        ids = np.where(shared, self.prefix[row] * _PREFIX_BLOCKS + place, _OWN + self.own[row] * _PREFIX_BLOCKS + place)
        return offsets, ids + start


def repeated(order: Ints, *, shared: int, tokens: int, osl: int, block: int, base: int, first_own: int = 0) -> Prompts:
    """One request per entry of `order`, the number of its prefix; all of one length, each a session of its own."""
    count = len(order)
    prefix = np.asarray(order, dtype=np.int64)
    return Prompts(
        prefix=prefix,
        shared=np.full(count, shared // block * block, np.int64),
        tokens=np.full(count, tokens, np.int64),
        own=np.arange(first_own, first_own + count, dtype=np.int64),
        session=np.full(count, -1, np.int64),
        osl=osl,
        block=block,
        base=base,
    )


def joined(first: Prompts, second: Prompts) -> Prompts:
    """One after the other; of equal block, base and output length."""
    return replace(
        first,
        prefix=np.concatenate([first.prefix, second.prefix]),
        shared=np.concatenate([first.shared, second.shared]),
        tokens=np.concatenate([first.tokens, second.tokens]),
        own=np.concatenate([first.own, second.own]),
        session=np.concatenate([first.session, second.session]),
    )


def write_trace(prompts: Prompts, path: Path) -> None:
    """As a trace that `aiperf profile --input-file` takes with `--isl-block-size`, in the order of sending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as out:
        out.writelines(_lines(prompts))


def _lines(prompts: Prompts) -> Iterator[str]:
    offsets, ids = prompts.block_ids()
    for request in range(prompts.count):
        row: dict[str, object] = {
            "input_length": int(prompts.tokens[request]),
            "output_length": prompts.osl,
            "hash_ids": ids[offsets[request] : offsets[request + 1]].tolist(),
        }
        if prompts.session[request] >= 0:
            row["session_id"] = f"prefix-{prompts.session[request]}"
        yield json_text(row, separators=(",", ":")) + "\n"

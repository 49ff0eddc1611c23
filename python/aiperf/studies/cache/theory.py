"""What an ideal cache would serve: without bounds, or with the server's blocks and a policy; requests one after the other.

A block is found when all blocks before it in its prompt are found too. The last token of a prompt is always computed: a block that holds it
is never served. Output tokens and the part of a prompt that fills no block take room but are never found.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from aiperf.studies.cache.prompts import Prompts
from aiperf.traces import NO_TIME, TraceTable
from aiperf.traces.tools.prefix_reuse import Distances, Reuse, compute_reuse, lru_hits, stack_distances

__all__ = ["POLICIES", "Policy", "Theory", "policy_hits", "separate_prompts"]

Ints = NDArray[np.int64]
Policy = Literal["lru", "fifo", "lfu", "random"]
POLICIES: Final[tuple[Policy, ...]] = ("lru", "fifo", "lfu", "random")


def separate_prompts(
    offsets: Ints, ids: Ints, block: int, isl: NDArray[np.uint32], osl: NDArray[np.uint32]
) -> TraceTable:
    """Prompts one after the other, each whole and a session of its own. `offsets`, `ids`: their blocks; `isl`, `osl`: (prompts,) tokens."""
    count = len(offsets) - 1
    return TraceTable(
        path=Path(),
        format="",
        block_size=block,
        at_ns=np.full(count, NO_TIME, np.int64),
        delay_ns=np.zeros(count, np.int64),
        input_length=isl,
        output_length=osl,
        hash_offsets=offsets,
        hash_ids=ids,
        session=np.arange(count, dtype=np.int32),
        whole=np.ones(count, np.bool_),
        line=np.arange(1, count + 1, dtype=np.uint32),
        session_names={},
        contents={},
    )


@dataclass(frozen=True)
class Theory:
    """Of `prompts`, of which the first `warm` requests only fill the cache and count in no figure."""

    prompts: Prompts
    warm: int = 0

    @cached_property
    def rows(self) -> tuple[Ints, Ints]:
        """(offsets, ids) of all blocks that each request occupies; what is never found has an id of its own, below 0."""
        prompts = self.prompts
        offsets, ids = prompts.block_ids()
        full = prompts.tokens // prompts.block
        # The last output token is never written to the cache.
        total = -(-(prompts.tokens + prompts.osl - 1) // prompts.block)
        out = np.concatenate([np.zeros(1, np.int64), np.cumsum(total)])
        row = np.repeat(np.arange(prompts.count), total)
        place = np.arange(int(out[-1])) - out[row]
        known = place < full[row]
        own = -1 - np.arange(len(row), dtype=np.int64)
        own[known] = ids[offsets[row[known]] + place[known]]
        return out, own

    @cached_property
    def _usable(self) -> Ints:
        """(requests,) blocks that may be served: none that holds the last token."""
        return np.asarray((self.prompts.tokens - 1) // self.prompts.block)

    @cached_property
    def _reuse(self) -> Reuse:
        offsets, ids = self.rows
        p = self.prompts
        isl, osl = (np.diff(offsets) * p.block).astype(np.uint32), np.full(p.count, p.osl, np.uint32)
        return compute_reuse(separate_prompts(offsets, ids, p.block, isl, osl))

    @cached_property
    def _distances(self) -> Distances:
        return stack_distances(self._reuse)

    def infinite(self) -> Ints:
        """(measured requests,) tokens that an unbounded cache serves."""
        hits = np.minimum(self._reuse.hits, self._usable)
        return np.asarray(hits[self.warm :] * self.prompts.block)

    def lru(self, blocks: int) -> Ints:
        """(measured requests,) tokens that an LRU cache of `blocks` serves; it lets go of the last blocks of a prompt first."""
        served = np.minimum(lru_hits(self._distances, self.prompts.count, blocks), self._usable)
        return np.asarray(served[self.warm :] * self.prompts.block)

    def lru_capacity(self, hit_tokens: float) -> int | None:
        """Blocks of the smallest LRU cache that serves so many tokens of the measured requests; None if none serves so many."""
        low, high = 0, int(self.rows[0][-1])
        if hit_tokens > float(self.lru(high).sum()):
            return None
        while low < high:
            middle = (low + high) // 2
            if float(self.lru(middle).sum()) >= hit_tokens:
                high = middle
            else:
                low = middle + 1
        return low

    def policy(self, policy: Policy, blocks: int, seed: int = 0) -> Ints:
        """(measured requests,) tokens that a cache of `blocks` with another policy serves."""
        offsets, ids = self.rows
        served = np.minimum(policy_hits(policy, offsets, ids, blocks, seed), self._usable)
        return np.asarray(served[self.warm :] * self.prompts.block)


def policy_hits(policy: Policy, offsets: Ints, ids: Ints, capacity: int, seed: int = 0) -> Ints:
    """(requests,) leading blocks found, with a cache of `capacity` blocks that lets go of one block at a time.

    A loop over blocks: what is there depends on all that came before.
    """
    cache = _CACHES[policy](capacity, seed)
    out = np.zeros(len(offsets) - 1, np.int64)
    for request in range(len(out)):
        blocks = ids[offsets[request] : offsets[request + 1]].tolist()
        leading = 0
        while leading < len(blocks) and blocks[leading] in cache:
            leading += 1
        out[request] = leading
        needed = set(blocks)
        for block in blocks[leading:]:
            if block not in cache:
                cache.put(block, needed)
        # Given back from the last to the first, so that common beginnings live longest.
        for block in reversed(blocks):
            cache.touch(block)
    return out


class _Ordered:
    """Lets go of the first in its order that is not needed; a use moves a block to the end, or does not (first in, first out)."""

    def __init__(self, capacity: int, *, moves: bool) -> None:
        self._capacity = capacity
        self._moves = moves
        self._order: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, block: int) -> bool:
        return block in self._order

    def put(self, block: int, needed: set[int]) -> None:
        if len(self._order) >= self._capacity:
            victim = next((b for b in self._order if b not in needed), None)
            if victim is None:
                return
            del self._order[victim]
        self._order[block] = None

    def touch(self, block: int) -> None:
        if self._moves and block in self._order:
            self._order.move_to_end(block)


class _Rarest:
    """Lets go of the block used least often, of those the one not used for longest. The heap holds stale entries, skipped when met."""

    def __init__(self, capacity: int, _seed: int) -> None:
        self._capacity = capacity
        self._uses: dict[int, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, int]] = []
        self._clock = 0

    def __contains__(self, block: int) -> bool:
        return block in self._uses

    def put(self, block: int, needed: set[int]) -> None:
        if len(self._uses) >= self._capacity and not self._let_go(needed):
            return
        self._note(block, 0)

    def touch(self, block: int) -> None:
        if block in self._uses:
            self._note(block, self._uses[block][0] + 1)

    def _note(self, block: int, uses: int) -> None:
        self._clock += 1
        self._uses[block] = (uses, self._clock)
        heappush(self._heap, (uses, self._clock, block))

    def _let_go(self, needed: set[int]) -> bool:
        kept: list[tuple[int, int, int]] = []
        done = False
        while self._heap and not done:
            entry = heappop(self._heap)
            uses, clock, block = entry
            if self._uses.get(block) != (uses, clock):
                continue
            if block in needed:
                kept.append(entry)
                continue
            del self._uses[block]
            done = True
        for entry in kept:
            heappush(self._heap, entry)
        return done


class _Drawn:
    """New text goes to any place that is not needed, whether it holds something or not: there is no order, not even of empty ones."""

    def __init__(self, capacity: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._blocks: list[int | None] = [None] * capacity
        self._place: dict[int, int] = {}

    def __contains__(self, block: int) -> bool:
        return block in self._place

    def put(self, block: int, needed: set[int]) -> None:
        for _ in range(64):
            at = self._rng.randrange(len(self._blocks))
            old = self._blocks[at]
            if old is not None and old in needed:
                continue
            if old is not None:
                del self._place[old]
            self._blocks[at] = block
            self._place[block] = at
            return

    def touch(self, block: int) -> None:
        """Nothing is remembered."""


_CACHES: Final[dict[Policy, Callable[[int, int], _Ordered | _Rarest | _Drawn]]] = {
    "lru": lambda capacity, _: _Ordered(capacity, moves=True),
    "fifo": lambda capacity, _: _Ordered(capacity, moves=False),
    "lfu": _Rarest,
    "random": _Drawn,
}

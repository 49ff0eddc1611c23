"""How much of a trace's prompts a prefix cache could serve, and how large it must be.

A block is reusable when the whole prompt up to and with it has been sent before: by id in a trace whose ids are chained
(each id always follows the same one, as Mooncake's), by a hash of all ids up to there otherwise. Requests count in time
order, one after the other: a block is there for the next request once its request has begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiperf.traces import UNKNOWN, TraceTable
from aiperf.traces.replay import block_seeds, turn_times

__all__ = ["Reuse", "compute_reuse", "infer_turns", "lru_hits", "prefix_hashes", "time_order", "whole_prompts"]

Ints = NDArray[np.int64]

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Requests in time order (only those with hash ids have blocks)."""

    order: Ints
    """(requests,) rows of the table in time order."""
    offsets: Ints
    """(requests+1,) blocks of each request, those its input length has room for."""
    prev: NDArray[np.int32]
    """(blocks,) the last request before that has the block, −1: none. Falls along a request's blocks."""
    hits: Ints
    """(requests,) leading blocks seen before: what an infinite cache serves."""
    num_unique: int
    """Distinct blocks (prefixes)."""
    chained: bool
    """Ids are chained: equal id means equal prefix."""
    introduced: NDArray[np.bool_]
    """(requests,) the request's last full block is new with it."""
    full: Ints
    """(requests,) its blocks that are full."""

    @property
    def blocks(self) -> Ints:
        """(requests,)"""
        return np.diff(self.offsets)


def whole_prompts(table: TraceTable, order: Ints) -> TraceTable:
    """The table with every row a whole prompt: turns that add to a conversation get its history, answers included.

    Blocks of the first turn keep their ids; those behind it are the session's own, whatever ids the later lines have (at
    another place in a prompt the same block is another one for a cache). `order`: rows by session, turns in order.
    """
    session = table.session[order]
    first = np.diff(session, prepend=-1) != 0
    adds = ~table.whole[order] & ~first
    if not adds.any():
        return table
    size = table.block_size
    isl, osl = (
        np.where(c == UNKNOWN, 0, c).astype(np.int64) for c in (table.input_length[order], table.output_length[order])
    )
    needed = np.cumsum(isl + osl)
    start = np.flatnonzero(first)
    turns = np.diff(np.append(start, len(order)))
    own = np.repeat(needed[start] - (isl + osl)[start], turns)
    length = np.where(adds, needed - own - osl, isl)
    counts = np.diff(table.hash_offsets)[order]
    of_first = np.repeat(start, turns)
    kept = np.where(adds, np.minimum(counts[of_first], isl[of_first] // size), counts)
    total = np.where(adds, -(-length // size), counts)
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(total, out=offsets[1:])
    row = np.repeat(np.arange(len(order)), total)
    place = np.arange(int(offsets[-1])) - offsets[row]
    partial = adds[row] & (place == length[row] // size)
    ids = (session[row].astype(np.int64) << 31 | place) + (1 << 62)
    ids[partial] = -1 - row[partial]
    old = place < kept[row]
    source = table.hash_offsets[order[np.where(adds, of_first, np.arange(len(order)))]]
    ids[old] = table.hash_ids[source[row[old]] + place[old]]
    # Back into the order of the table.
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    ends = np.cumsum(total[back])
    step = np.arange(int(ends[-1])) - np.repeat(ends - total[back], total[back])
    return replace(
        table,
        input_length=np.minimum(length[back], UNKNOWN - 1).astype(np.uint32),
        hash_offsets=np.concatenate([np.zeros(1, np.int64), ends]),
        hash_ids=ids[np.repeat(offsets[:-1][back], total[back]) + step],
        whole=np.ones(table.num_rows, np.bool_),
    )


def time_order(table: TraceTable) -> Ints:
    """Rows by time; a row without one comes when the turn before it, or else the row before it in the file, does."""
    at = table.at_ns
    if (at < 0).any():
        at = turn_times(table)
        at = at[np.maximum.accumulate(np.where(at >= 0, np.arange(len(at)), 0))]
    return np.argsort(at, kind="stable").astype(np.int64)


def compute_reuse(table: TraceTable) -> Reuse:
    order = time_order(table)
    size = table.block_size
    counts = np.diff(table.hash_offsets)[order]
    length = table.input_length[order].astype(np.int64)
    length[length == UNKNOWN] = 0
    blocks = np.minimum(counts, -(-length // size))
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(blocks, out=offsets[1:])
    keys, num_keys, num_unique, chained = _keys(table, order, blocks, offsets)
    prev = np.empty(len(keys), np.int32)
    last = np.full(num_keys, -1, np.int32)
    # A request sees the cache as the requests before left it: a loop over requests, the inside is numpy's. No sorting of
    # all blocks: that would take several times the memory of the trace.
    begin = 0
    for request, end in enumerate(offsets[1:].tolist()):
        if end > begin:
            ids = keys[begin:end]
            prev[begin:end] = last[ids]
            last[ids] = request
            begin = end
    some = blocks > 0
    hits = np.zeros(len(order), np.int64)
    if some.any():
        # In int32: numpy widens the whole input to the type of the sum.
        hits[some] = np.add.reduceat((prev >= 0).view(np.int8), offsets[:-1][some], dtype=np.int32)
    full = np.minimum(blocks, length // size)
    has = full > 0
    introduced = np.zeros(len(order), np.bool_)
    introduced[has] = prev[(offsets[:-1] + full - 1)[has]] < 0
    return Reuse(
        order=order,
        offsets=offsets,
        prev=prev,
        hits=hits,
        num_unique=num_unique,
        chained=chained,
        introduced=introduced,
        full=full,
    )


def _keys(table: TraceTable, order: Ints, blocks: Ints, offsets: Ints) -> tuple[NDArray[np.int32], int, int, bool]:
    """(blocks,) a small number per block, equal where the prefix is equal; how many numbers there may be; how many there are."""
    rows = table.hash_offsets[order]
    in_order = bool((order == np.arange(len(order))).all()) and int(offsets[-1]) == len(table.hash_ids)
    if in_order:
        ids = table.hash_ids
    else:
        ids = table.hash_ids[np.repeat(rows - offsets[:-1], blocks) + np.arange(int(offsets[-1]))]
    starts = offsets[:-1][blocks > 0]
    dense, bound = _dense(ids)
    chained, num_unique = _are_chained(dense, bound, starts)
    if not chained:
        dense, bound = _dense(prefix_hashes(ids, blocks, offsets))
        return dense, bound, len(np.unique(dense)), False
    return dense, bound, num_unique, True


def _are_chained(dense: NDArray[np.int32], bound: int, starts: Ints) -> tuple[bool, int]:
    """Does each id always follow the same one (a request's first: none)? And how many ids there are. In pieces: memory."""
    follows = np.full(bound, -2, np.int32)

    def pieces() -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        for begin in range(0, len(dense), _CHUNK):
            ids = dense[begin : begin + _CHUNK]
            before = np.empty_like(ids)
            before[1:] = ids[:-1]
            before[0] = dense[begin - 1]
            low, high = np.searchsorted(starts, (begin, begin + len(ids)))
            before[starts[low:high] - begin] = -1
            yield ids, before

    for ids, before in pieces():
        follows[ids] = before
    chained = all(bool((follows[ids] == before).all()) for ids, before in pieces())
    return chained, int((follows > -2).sum())


def _dense(ids: Ints) -> tuple[NDArray[np.int32], int]:
    """Ids as numbers below the bound returned: themselves if they are small, else by rank."""
    if not len(ids):
        return np.empty(0, np.int32), 0
    low, high = int(ids.min()), int(ids.max())
    if low >= 0 and high < 4 * len(ids) + 1024 and high < 1 << 31:
        return ids.astype(np.int32), high + 1
    unique = np.unique(ids)
    out = np.empty(len(ids), np.int32)
    for start in range(0, len(ids), _CHUNK):
        out[start : start + _CHUNK] = np.searchsorted(unique, ids[start : start + _CHUNK])
    return out, len(unique)


def prefix_hashes(ids: Ints, blocks: Ints, offsets: Ints) -> Ints:
    """(blocks,) a 64-bit hash of all ids of the request up to each block: Σ mix(id_j)·K^j, sums wrap around."""
    powers = np.full(int(blocks.max(initial=0)), np.uint64(0xD134_2543_DE82_EF95))
    powers = np.cumprod(powers)
    position = np.arange(len(ids)) - np.repeat(offsets[:-1], blocks)
    sums = np.cumsum(block_seeds(ids) * powers[position], dtype=np.uint64)
    # Not `[0]`: a list of int64 would make the sums floats.
    before = np.concatenate([np.zeros(1, np.uint64), sums])[offsets[:-1]]
    start = np.repeat(before, blocks)
    return np.ascontiguousarray(sums - start).view(np.int64)


@dataclass(frozen=True, slots=True)
class Distances:
    """Runs of blocks of one request that were last sent by the same request; see `stack_distances`."""

    request: NDArray[np.int32]
    distance: Ints
    length: Ints


def stack_distances(reuse: Reuse) -> Distances:
    """For each run of reused blocks, how many other blocks were sent since its first block was.

    The cache is LRU and, as vLLM's, lets go of the last blocks of a prompt first. A block of request r last sent by q is
    still there if the cache holds more than D + i blocks: D = distinct blocks sent by the requests between q and r, i =
    its place in the run (the earlier blocks of the same prompt outlive it). D(q, r) = Σ length of runs (q', t), q < t < r
    and q' ≤ q: what those requests sent that had not been sent since q. The sum over all t < r is a dominance count, done
    for all runs at once by splitting the time axis in halves; all t ≤ q belong to it and are subtracted.
    """
    starts = np.zeros(len(reuse.prev) + 1, np.bool_)
    starts[reuse.offsets] = True
    starts = starts[:-1]
    starts[1:] |= reuse.prev[1:] != reuse.prev[:-1]
    begin = np.flatnonzero(starts)
    del starts
    length = np.diff(np.append(begin, len(reuse.prev)))
    request = (np.searchsorted(reuse.offsets, begin, side="right") - 1).astype(np.int32)
    q = reuse.prev[begin]
    total = _dominance(q, length)
    reused = q >= 0
    distance = total[reused] - reuse.offsets[q[reused] + 1]
    return Distances(request[reused], distance, length[reused])


def _dominance(q: NDArray[np.int32], weight: Ints) -> Ints:
    """(count,) out[i] = Σ weight[j] over j < i with q[j] ≤ q[i]; runs of one request fall in q, so none counts another."""
    count = len(q)
    out = np.zeros(count, np.int64)
    order = np.argsort(q, kind="stable").astype(np.int32)
    place = np.arange(count, dtype=np.int32)
    for bit in reversed(range(max(count - 1, 0).bit_length())):
        # Runs 0 … 2^(bit+1) − 1 stand in the first as many places of `order`, sorted by q, and so on. In each such block
        # the runs of the left half count for those of the right half behind them; then the halves are parted, sorted still.
        is_right = (order >> bit) & 1 == 1
        right = order[is_right]
        left_sum = np.zeros(count + 1, np.int64)
        np.cumsum(np.where(is_right, 0, weight[order]), out=left_sum[1:])
        at = place[is_right]
        out[right] += left_sum[at] - left_sum[at >> (bit + 1) << (bit + 1)]
        parted = np.empty_like(order)
        in_right = (place >> bit) & 1 == 1
        parted[in_right] = right
        parted[~in_right] = order[~is_right]
        order = parted
    return out


def lru_hits(distances: Distances, num_requests: int, capacity: int) -> Ints:
    """(requests,) blocks an LRU cache of `capacity` blocks serves."""
    served = np.clip(capacity - distances.distance, 0, distances.length)
    return np.bincount(distances.request, weights=served, minlength=num_requests).astype(np.int64)


def capacity_for(distances: Distances, share: float) -> int:
    """Smallest cache, in blocks, that serves `share` of what an infinite one does."""
    target = share * float(distances.length.sum())
    low, high = 0, int((distances.distance + distances.length).max(initial=0))
    while low < high:
        middle = (low + high) // 2
        if float(np.clip(middle - distances.distance, 0, distances.length).sum()) >= target:
            high = middle
        else:
            low = middle + 1
    return low


def infer_turns(reuse: Reuse) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(requests,) turn, from 0, and conversation, inferred from prefixes where a trace names no sessions.

    A request continues the latest request p whose full blocks (two at least, the last of them first sent by p) all are
    leading blocks of its own. A shared system prompt of a whole number of blocks can look like a first turn.
    """
    num = len(reuse.blocks)
    turn = np.zeros(num, np.int32)
    conversation = np.arange(num, dtype=np.int32)
    parent = np.full(num, -1, np.int32)
    # Views, not lists: read and written one by one at a list's speed, at an eighth of its memory.
    parents, turns, groups = parent.data, turn.data, conversation.data
    hits, full = reuse.hits.astype(np.int32).data, reuse.full.astype(np.int32).data
    introduced = reuse.introduced.data
    deepest = np.where(
        reuse.hits > 0, reuse.prev[np.maximum(reuse.offsets[:-1] + reuse.hits - 1, 0)] if len(reuse.prev) else -1, -1
    )
    # Each request's ancestor depends on its ancestors': a loop.
    for request, q in enumerate(deepest.astype(np.int32).data):
        p = q
        while p >= 0 and (full[p] > hits[request] or full[p] < 2 or not introduced[p]):
            p = parents[p]
        if p >= 0:
            parents[request], turns[request], groups[request] = p, turns[p] + 1, groups[p]
    return turn, conversation

"""New traces like a given one: its conversations drawn anew, then scaled in length, rate, shared prefix and roots.

The model is the trace itself. Unit of drawing is the conversation (the trace's sessions, else as inferred from prefixes), in
runs of 50 that began one after the other, so that what is near in time stays near (block bootstrap, Künsch 1989). A drawn
conversation keeps its lengths and its place among the requests around it. Arrivals are the trace's own gaps between
requests, from a random place on: the arrival law is kept exactly. Of the blocks of a drawn conversation

* those that other conversations have too keep their identity: drawn twice, they are shared twice;
* those that only turns of the same conversation share are new in each copy, but shared within it;
* those of a single request are new each time.

Then, per request: leading shared blocks × `prefix` (one at least), the other input tokens × `prompt`, output tokens × `output`; times ÷
`rate`; each copy belongs to one of `roots` trees that share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError
from aiperf.number_text import exact
from aiperf.traces import NO_TIME, UNKNOWN, TraceTable
from aiperf.traces.replay import block_seeds
from aiperf.traces.tools.prefix_reuse import Reuse, compute_reuse, infer_turns

__all__ = ["Scale", "scale_table", "synthesize"]

Ints = NDArray[np.int64]

_RUN = 50
"""Conversations drawn together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Factors; 1 leaves a law as it is. `requests`: how many, None: as many as the source."""

    requests: int | None = None
    prefix: float = 1.0
    prompt: float = 1.0
    output: float = 1.0
    rate: float = 1.0
    roots: int = 1

    def check(self) -> None:
        """DatasetError if a factor is not positive."""
        for name in ("prefix", "prompt", "output", "rate", "roots"):
            if not getattr(self, name) > 0:
                raise DatasetError(f"the factor `{name}` must be more than 0, found {exact(getattr(self, name))}")
        if self.requests is not None and self.requests < 1:
            raise DatasetError(f"the number of requests must be at least 1, found {self.requests}")


@dataclass(frozen=True, slots=True)
class _Drawn:
    """(requests,) in time order: index into the reuse's requests, which copy of a conversation, when."""

    request: Ints
    copy: Ints
    at_ns: Ints


def synthesize(table: TraceTable, scale: Scale, rng: np.random.Generator) -> TraceTable:
    """Same seed, same trace. DatasetError if a request's input length is not known (lines of text)."""
    _check(table, scale)
    reuse = compute_reuse(table)
    named = bool(table.session_names)
    conversation = _conversations(table, reuse)
    drawn = _draw(table, reuse, conversation, scale, rng)
    rows = reuse.order[drawn.request]
    isl, offsets, ids = _prompts(table, reuse, conversation, drawn, scale, rng)
    osl = _scaled_outputs(table.output_length[rows], scale)
    keep_names = named and bool(len(ids))
    # Sessions without hash ids would read as additions to a conversation, which their lengths are not.
    _, session = np.unique(drawn.copy, return_inverse=True)
    number = session if keep_names else np.arange(len(rows))
    return TraceTable(
        path=table.path,
        format="mooncake_trace",
        block_size=table.block_size,
        at_ns=drawn.at_ns,
        delay_ns=table.delay_ns[rows],
        input_length=isl,
        output_length=osl,
        hash_offsets=offsets,
        hash_ids=ids,
        session=number.astype(np.int32),
        whole=table.whole[rows],
        line=np.arange(1, len(rows) + 1, dtype=np.uint32),
        session_names={int(n): f"session-{n}" for n in np.unique(session)} if keep_names else {},
        contents={},
    )


def scale_table(table: TraceTable, scale: Scale, rng: np.random.Generator) -> TraceTable:
    """The trace itself, scaled: each request stays, in time order, with its session and its time ÷ `rate`.

    What AIPerf's `--synthesis-*` options do at replay. `requests` plays no part. DatasetError as for `synthesize`.
    """
    _check(table, scale)
    reuse = compute_reuse(table)
    conversation = _conversations(table, reuse)
    rows = reuse.order
    at = table.at_ns[rows]
    at = np.where(at >= 0, np.rint(at / scale.rate), NO_TIME).astype(np.int64)
    drawn = _Drawn(np.arange(len(rows)), conversation.astype(np.int64), at)
    isl, offsets, ids = _prompts(table, reuse, conversation, drawn, scale, rng)
    return replace(
        table,
        at_ns=at,
        delay_ns=np.rint(table.delay_ns[rows] / scale.rate).astype(np.int64),
        input_length=isl,
        output_length=_scaled_outputs(table.output_length[rows], scale),
        hash_offsets=offsets,
        hash_ids=ids,
        session=table.session[rows],
        whole=table.whole[rows],
        line=table.line[rows],
        contents={},
    )


def _check(table: TraceTable, scale: Scale) -> None:
    scale.check()
    if (table.input_length == UNKNOWN).any():
        raise DatasetError(
            f"cannot scale `{table.path}`: some of its lines have text and no input length",
            "`aiperf trace hash` makes lengths and hash ids of it",
        )


def _conversations(table: TraceTable, reuse: Reuse) -> NDArray[np.int32]:
    """(requests in time order,)"""
    return table.session[reuse.order] if table.session_names else infer_turns(reuse)[1]


def _scaled_outputs(osl: NDArray[np.uint32], scale: Scale) -> NDArray[np.uint32]:
    scaled = np.maximum(np.rint(osl * scale.output), 1).clip(max=UNKNOWN - 1)
    return np.where(osl == UNKNOWN, UNKNOWN, scaled).astype(np.uint32)


def _draw(
    table: TraceTable, reuse: Reuse, conversation: NDArray[np.int32], scale: Scale, rng: np.random.Generator
) -> _Drawn:
    at = table.at_ns[reuse.order]
    timed = bool((at >= 0).all())
    by_conversation = np.argsort(conversation, kind="stable")
    start = np.flatnonzero(np.diff(conversation[by_conversation], prepend=-1))
    sizes = np.diff(np.append(start, len(at)))
    begins = at[by_conversation[start]] if timed else start
    by_begin = np.argsort(begins, kind="stable")
    start, sizes, begins = start[by_begin], sizes[by_begin], begins[by_begin]
    gaps = np.diff(begins, prepend=begins[0])
    wanted = scale.requests or len(at)
    num = len(start)
    picked: list[Ints] = []
    have = 0
    while have < wanted:
        first = int(rng.integers(num))
        run = (first + np.arange(min(_RUN, num))) % num
        picked.append(run)
        have += int(sizes[run].sum())
    copies = np.concatenate(picked)
    began = np.cumsum(gaps[copies])
    lengths = sizes[copies]
    ends = np.cumsum(lengths)
    step = np.arange(int(ends[-1])) - np.repeat(ends - lengths, lengths)
    request = by_conversation[np.repeat(start[copies], lengths) + step]
    copy = np.repeat(np.arange(len(copies)), lengths)
    when = np.repeat(began, lengths) + (at[request] - np.repeat(begins[copies], lengths) if timed else step)
    order = np.argsort(when, kind="stable")[:wanted]
    times = _arrivals(at, wanted, scale.rate, rng) if timed else np.full(wanted, NO_TIME, np.int64)
    return _Drawn(request[order].astype(np.int64), copy[order].astype(np.int64), times)


def _arrivals(at: Ints, wanted: int, rate: float, rng: np.random.Generator) -> Ints:
    """(wanted,) ns: the source's gaps in their order from a random place on, round and round, ÷ `rate`; whole ms."""
    gaps = np.diff(at)
    if not len(gaps):
        return np.zeros(wanted, np.int64)
    turned = np.resize(np.roll(gaps, -int(rng.integers(len(gaps)))), wanted - 1)
    times = np.concatenate([[0], np.cumsum(turned)]) / rate
    return (times // 1_000_000).astype(np.int64) * 1_000_000


def _prompts(
    table: TraceTable,
    reuse: Reuse,
    conversation: NDArray[np.int32],
    drawn: _Drawn,
    scale: Scale,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint32], Ints, Ints]:
    """Input lengths and hash ids (CSR), ids numbered by first appearance."""
    size = table.block_size
    length = table.input_length[reuse.order[drawn.request]].astype(np.int64)
    blocks = reuse.blocks
    if not len(reuse.prev):
        isl = np.maximum(np.rint(length * scale.prompt), 1).clip(max=UNKNOWN - 1).astype(np.uint32)
        return isl, np.zeros(len(length) + 1, np.int64), np.empty(0, np.int64)
    begin = table.hash_offsets[reuse.order]
    position = np.arange(len(reuse.prev)) - np.repeat(reuse.offsets[:-1], blocks)
    ids = table.hash_ids[np.repeat(begin, blocks) + position]
    _, block, uses = np.unique(ids, return_inverse=True, return_counts=True)
    owner = np.repeat(conversation, blocks)
    lowest, highest = np.full(len(uses), len(conversation)), np.full(len(uses), -1)
    np.minimum.at(lowest, block, owner)
    np.maximum.at(highest, block, owner)
    private = lowest == highest
    shared = _leading(uses[block] > 1, blocks, reuse.offsets)

    prefix = shared[drawn.request]
    rest = np.maximum(length - prefix * size, 0)
    new_prefix = np.where(prefix > 0, np.maximum(np.rint(prefix * scale.prefix), 1), 0).astype(np.int64)
    new_rest = np.where(rest > 0, np.maximum(np.rint(rest * scale.prompt), 1), 0).astype(np.int64)
    # A prompt that is shared to its end may end in a partial block: it stays as partial as it was.
    missing = np.where(rest == 0, prefix * size - length, 0)
    isl = np.maximum(new_prefix * size + new_rest - missing, 1).clip(max=UNKNOWN - 1)
    has = blocks[drawn.request] > 0
    count = np.where(has, -(-isl // size), 0)
    # Fewer ids than blocks in the source: the rest is text without ids here too.
    count = np.where(has & (blocks[drawn.request] * size < length), np.minimum(count, np.maximum(new_prefix, 1)), count)
    offsets = np.zeros(len(count) + 1, np.int64)
    np.cumsum(count, out=offsets[1:])
    place = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], count)
    keys = np.arange(int(offsets[-1]), dtype=np.uint64) | np.uint64(1 << 63)
    old = np.repeat(new_prefix, count) > place
    which = np.repeat(drawn.request, count)[old]
    source = np.minimum((place[old] / scale.prefix).astype(np.int64), shared[which] - 1)
    original = block[reuse.offsets[which] + source]
    copy = np.repeat(drawn.copy, count)[old]
    tree = rng.integers(scale.roots, size=int(drawn.copy.max()) + 1)[copy]
    mixed = block_seeds(original) ^ block_seeds(place[old], 1) ^ block_seeds(tree, 2)
    mixed ^= np.where(private[original], block_seeds(copy, 3), np.uint64(0))
    keys[old] = mixed >> np.uint64(1)
    _, first, where = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return isl.astype(np.uint32), offsets, rank[where]


def _leading(good: NDArray[np.bool_], blocks: Ints, offsets: Ints) -> Ints:
    """(requests,) how many of a request's first blocks are good."""
    broken = np.cumsum(~good)
    before = np.repeat(np.concatenate([[0], broken])[offsets[:-1]], blocks)
    total = np.concatenate([[0], np.cumsum(broken == before)])
    return np.asarray(total[offsets[1:]] - total[offsets[:-1]], np.int64)

"""Figures of a trace: totals, token lengths, size bins, arrivals, prefix reuse, sessions. Rendering is next door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError, Note
from aiperf.number_text import exact
from aiperf.traces import UNKNOWN, TraceTable
from aiperf.traces.replay import context_needed, session_order
from aiperf.traces.tools.prefix_reuse import (
    Distances,
    Reuse,
    capacity_for,
    compute_reuse,
    infer_turns,
    lru_hits,
    stack_distances,
    time_order,
    whole_prompts,
)

__all__ = [
    "DEFAULT_BINS",
    "Arrivals",
    "Bin",
    "BoundedCache",
    "Lengths",
    "PrefixReuse",
    "Sessions",
    "TraceStats",
    "TurnReuse",
    "Window",
    "compute_stats",
]

DEFAULT_BINS = (0, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000)
"""Lower edges of the eight size bins; the last one has no upper edge."""

_CACHE_SHARES = (0.01, 0.1, 0.25, 0.5)
"""Bounded caches shown when none is asked for, as shares of the distinct blocks."""
_TURNS_SHOWN = 10
_ROWS = 1 << 16
"""Requests compared block by block at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens per request over the requests that state them; percentiles linear, as numpy's."""

    count: int
    total: int
    mean: float
    std: float
    min: int
    p25: float
    median: float
    p75: float
    p90: float
    p99: float
    max: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Requests of `low` ≤ input + output < `high` tokens; `high` None: no upper edge. `share`: of all requests, 0 … 1."""

    low: int
    high: int | None
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Window:
    """Arrivals in [start_s, end_s) since the first."""

    start_s: float
    end_s: float
    count: int


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`peak_to_mean`, `cv`: of the counts of whole windows (the last one only if it is the only one or full); None for one."""

    window_s: float
    windows: tuple[Window, ...]
    peak_to_mean: float | None
    cv: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnReuse:
    """Requests that are the `turn`-th (from 1) of their conversation; `last`: this and all later ones.

    `hit_rate`: leading blocks sent before by any request ÷ blocks. `first_turn_share`: leading blocks that the
    conversation's first turn has too ÷ blocks; None for the first turn.
    """

    turn: int
    requests: int
    blocks: int
    hit_rate: float | None
    first_turn_share: float | None
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedCache:
    """An LRU cache of `blocks` blocks; rates as in `PrefixReuse`."""

    blocks: int
    tokens: int
    share_of_unique: float
    hit_rate: float
    request_hit_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixReuse:
    """Theoretical: what a cache could serve that never evicts (or, `bounded`, evicts the least recently used).

    A turn that adds to a conversation counts with its history, the answers included (`reuse.whole_prompts`).
    `hit_rate`: Σ reused leading blocks ÷ Σ blocks. `request_hit_rate`: mean over requests of the same ratio (AIPerf's
    `cache_hit_rate`). `token_hit_rate`: Σ reused tokens ÷ Σ input tokens of requests with hash ids.
    """

    block_size: int
    requests_with_ids: int
    total_blocks: int
    unique_blocks: int
    reused_blocks: int
    hit_rate: float
    request_hit_rate: float
    token_hit_rate: float
    requests_without_hit: int
    blocks_for_90_percent: int
    """Smallest LRU cache that serves 90 % of what an infinite one does."""
    bounded: tuple[BoundedCache, ...]
    turns: tuple[TurnReuse, ...]
    turns_inferred: bool
    """The trace names no sessions: turns are inferred from prefixes."""
    roots: int
    """Distinct first blocks."""
    shared_roots: int
    """First blocks of two requests or more."""
    chained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """`inferred`: see `PrefixReuse.turns_inferred`. Think time: between a turn's arrival and the next one's."""

    inferred: bool
    sessions: int
    multi_turn: int
    mean_turns: float
    median_turns: float
    max_turns: int
    median_gap_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStats:
    """`lengths`: input + output of requests that state both. None: the trace does not say."""

    path: str
    format: str
    requests: int
    duration_s: float | None
    timed_requests: int
    """Those with a timestamp of their own: duration, rate and arrivals are of them."""
    requests_per_minute: float | None
    input_tokens: int
    output_tokens: int
    lengths: Lengths | None
    input_lengths: Lengths | None
    output_lengths: Lengths | None
    bins: tuple[Bin, ...]
    arrivals: Arrivals | None
    reuse: PrefixReuse | None
    sessions: Sessions
    context_limit: int | None
    over_limit: int | None
    """Requests with more tokens than the limit; None if none is given."""
    notes: tuple[Note, ...]


def compute_stats(
    table: TraceTable,
    *,
    bins: Sequence[int] = DEFAULT_BINS,
    window_s: float = 300.0,
    cache_blocks: Sequence[int] = (),
    context_limit: int | None = None,
) -> TraceStats:
    """DatasetError if the bins do not rise or the window is not positive."""
    if list(bins) != sorted(set(bins)) or not bins or bins[0] < 0:
        raise DatasetError(
            f"the bins must be rising lower edges, found {', '.join(map(str, bins))}",
            "for example `--bins 0,5000,10000`",
        )
    isl, osl = table.input_length, table.output_length
    has_in, has_out = isl != UNKNOWN, osl != UNKNOWN
    total = isl[has_in].astype(np.int64) + np.where(has_out, osl, 0)[has_in]
    arrivals = _arrivals(table, window_s)
    reuse, turns = None, None
    prompts = whole_prompts(table, session_order(table))
    if len(prompts.hash_ids):
        blocks = compute_reuse(prompts)
        turns = _turns(table, blocks)
        reuse = _prefix_reuse(prompts, blocks, turns, cache_blocks)
    timed = int((table.at_ns >= 0).sum())
    duration = arrivals.windows[-1].end_s if arrivals else None
    over = None
    if context_limit is not None:
        over = int((context_needed(table, session_order(table)) > context_limit).sum())
    return TraceStats(
        path=str(table.path),
        format=table.format,
        requests=table.num_rows,
        duration_s=duration,
        timed_requests=timed,
        requests_per_minute=timed / duration * 60 if duration else None,
        input_tokens=int(isl[has_in].sum(dtype=np.int64)),
        output_tokens=int(osl[has_out].sum(dtype=np.int64)),
        lengths=_lengths(total),
        input_lengths=_lengths(isl[has_in]),
        output_lengths=_lengths(osl[has_out]),
        bins=_bins(total, bins) if len(total) else (),
        arrivals=arrivals,
        reuse=reuse,
        sessions=_sessions(table, turns),
        context_limit=context_limit,
        over_limit=over,
        notes=table.notes,
    )


def _lengths(tokens: NDArray[np.int64] | NDArray[np.uint32]) -> Lengths | None:
    if not len(tokens):
        return None
    p25, p50, p75, p90, p99 = (float(p) for p in np.percentile(tokens, (25, 50, 75, 90, 99)))
    return Lengths(
        count=len(tokens),
        total=int(tokens.sum(dtype=np.int64)),
        mean=float(tokens.mean()),
        std=float(tokens.std()),
        min=int(tokens.min()),
        p25=p25,
        median=p50,
        p75=p75,
        p90=p90,
        p99=p99,
        max=int(tokens.max()),
    )


def _bins(tokens: NDArray[np.int64], edges: Sequence[int]) -> tuple[Bin, ...]:
    low = list(edges) if edges[0] <= int(tokens.min()) else [0, *edges]
    at = np.searchsorted(np.array(low), tokens, side="right") - 1
    counts = np.bincount(at, minlength=len(low)).tolist()
    return tuple(Bin(a, b, n, n / len(tokens)) for a, b, n in zip(low, [*low[1:], None], counts, strict=True))


def _arrivals(table: TraceTable, window_s: float) -> Arrivals | None:
    if not window_s > 0:
        raise DatasetError(f"the window must be longer than 0 s, found {exact(window_s)}")
    at = table.at_ns[table.at_ns >= 0]
    if not len(at):
        return None
    since = at - at.min()
    last = int(since.max())
    width = round(window_s * 1e9)
    if last // width >= 100_000:
        raise DatasetError(
            f"{last // width + 1:,} windows of {exact(window_s)} s are too many to show", "choose a longer `--window`"
        )
    counts = np.bincount(since // width)
    end = last / 1e9
    windows = tuple(Window(i * window_s, min((i + 1) * window_s, end), n) for i, n in enumerate(counts.tolist()))
    whole = counts[:-1] if len(counts) > 1 and (last + 1) % width < 0.9 * width else counts
    several = len(whole) > 1 and whole.mean() > 0
    return Arrivals(
        window_s,
        windows,
        float(whole.max() / whole.mean()) if several else None,
        float(whole.std() / whole.mean()) if several else None,
    )


@dataclass(frozen=True, slots=True)
class _Turns:
    """(requests in time order,) turn from 0, number of the conversation."""

    turn: NDArray[np.int32]
    conversation: NDArray[np.int32]
    inferred: bool


def _turns(table: TraceTable, reuse: Reuse) -> _Turns:
    if table.num_sessions == table.num_rows and not table.session_names:
        return _Turns(*infer_turns(reuse), inferred=True)
    order = session_order(table)
    session = table.session[order]
    start = np.flatnonzero(np.diff(session, prepend=-1))
    turn = np.empty(len(order), np.int32)
    turn[order] = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
    return _Turns(turn[reuse.order], table.session[reuse.order], inferred=False)


def _prefix_reuse(table: TraceTable, reuse: Reuse, turns: _Turns, cache_blocks: Sequence[int]) -> PrefixReuse:
    blocks = reuse.blocks
    has = blocks > 0
    total = int(blocks.sum())
    length = table.input_length[reuse.order].astype(np.int64)
    tokens = np.minimum(reuse.hits * table.block_size, length)[has]
    distances = stack_distances(reuse)
    rows = table.hash_offsets[reuse.order[has]]
    _, root_counts = np.unique(table.hash_ids[rows], return_counts=True)
    ratio = _Ratio(reuse.hits, blocks, has)
    return PrefixReuse(
        block_size=table.block_size,
        requests_with_ids=int(has.sum()),
        total_blocks=total,
        unique_blocks=reuse.num_unique,
        reused_blocks=int(reuse.hits.sum()),
        hit_rate=ratio.overall(reuse.hits),
        request_hit_rate=ratio.mean(reuse.hits),
        token_hit_rate=float(tokens.sum() / length[has].sum()),
        requests_without_hit=int((reuse.hits[has] == 0).sum()),
        blocks_for_90_percent=capacity_for(distances, 0.9),
        bounded=tuple(_bounded(reuse, distances, ratio, table.block_size, c) for c in _capacities(reuse, cache_blocks)),
        turns=_turn_reuse(table, reuse, turns),
        turns_inferred=turns.inferred,
        roots=len(root_counts),
        shared_roots=int((root_counts > 1).sum()),
        chained=reuse.chained,
    )


@dataclass(frozen=True, slots=True)
class _Ratio:
    hits: NDArray[np.int64]
    blocks: NDArray[np.int64]
    has: NDArray[np.bool_]

    def overall(self, hits: NDArray[np.int64]) -> float:
        return float(hits.sum() / self.blocks.sum())

    def mean(self, hits: NDArray[np.int64]) -> float:
        return float((hits[self.has] / self.blocks[self.has]).mean())


def _capacities(reuse: Reuse, asked: Sequence[int]) -> list[int]:
    if any(c < 1 for c in asked):
        raise DatasetError("a cache holds at least one block", "for example `--cache-blocks 1000,10000`")
    return sorted(set(asked)) or sorted({max(1, round(share * reuse.num_unique)) for share in _CACHE_SHARES})


def _bounded(reuse: Reuse, distances: Distances, ratio: _Ratio, size: int, capacity: int) -> BoundedCache:
    hits = lru_hits(distances, len(reuse.order), capacity)
    return BoundedCache(
        blocks=capacity,
        tokens=capacity * size,
        share_of_unique=capacity / reuse.num_unique,
        hit_rate=ratio.overall(hits),
        request_hit_rate=ratio.mean(hits),
    )


def _turn_reuse(table: TraceTable, reuse: Reuse, turns: _Turns) -> tuple[TurnReuse, ...]:
    if int(turns.turn.max(initial=0)) == 0:
        return ()
    blocks = reuse.blocks
    shared = _shared_with_first(table, reuse, turns)
    turn = np.minimum(turns.turn, _TURNS_SHOWN - 1)
    out = []
    for number in range(int(turn.max()) + 1):
        mine = turn == number
        num = int(blocks[mine].sum())
        out.append(
            TurnReuse(
                turn=number + 1,
                requests=int(mine.sum()),
                blocks=num,
                hit_rate=float(reuse.hits[mine].sum() / num) if num else None,
                first_turn_share=float(shared[mine].sum() / num) if num and number else None,
                last=number == _TURNS_SHOWN - 1 and int(turns.turn.max()) >= _TURNS_SHOWN,
            )
        )
    return tuple(out)


def _shared_with_first(table: TraceTable, reuse: Reuse, turns: _Turns) -> NDArray[np.int64]:
    """(requests,) leading blocks that the first turn of the conversation has too."""
    by_turn = np.lexsort((turns.turn, turns.conversation))
    conversation = turns.conversation[by_turn]
    start = np.diff(conversation, prepend=-1) != 0
    first = np.empty(len(by_turn), np.int64)
    first[by_turn] = by_turn[np.maximum.accumulate(np.where(start, np.arange(len(by_turn)), 0))]
    depth = np.minimum(reuse.blocks, reuse.blocks[first])
    depth[first == np.arange(len(first))] = 0
    begin = table.hash_offsets[reuse.order]
    # In pieces: memory.
    pieces = range(0, len(depth), _ROWS)
    return np.concatenate(
        [_equal_prefix(table.hash_ids, begin, begin[first], depth, slice(i, i + _ROWS)) for i in pieces]
    )


def _equal_prefix(
    ids: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64], depth: NDArray[np.int64], rows: slice
) -> NDArray[np.int64]:
    """(rows,) how many of the `depth` ids from `left` on equal those from `right` on, up to the first difference."""
    depth = depth[rows]
    ends = np.cumsum(depth)
    step = np.arange(int(ends[-1])) - np.repeat(ends - depth, depth)
    same = ids[np.repeat(left[rows], depth) + step] == ids[np.repeat(right[rows], depth) + step]
    broken = np.cumsum(~same)
    before = np.repeat(np.concatenate([np.zeros(1, np.int64), broken])[ends - depth], depth)
    good = np.concatenate([np.zeros(1, np.int64), np.cumsum(broken == before)])
    return np.asarray(good[ends] - good[ends - depth], np.int64)


def _sessions(table: TraceTable, turns: _Turns | None) -> Sessions:
    inferred = turns is not None and turns.inferred
    at: NDArray[np.int64]
    if turns is not None and inferred:
        by_turn = np.lexsort((turns.turn, turns.conversation))
        group = turns.conversation[by_turn]
        # Two requests may continue the same one: the order of arrival counts.
        at = table.at_ns[time_order(table)][by_turn]
    else:
        order = session_order(table)
        group, at = table.session[order], table.at_ns[order]
    sizes = np.unique(group, return_counts=True)[1]
    same = np.diff(group) == 0
    gaps = np.diff(at)[same & (at[1:] >= 0) & (at[:-1] >= 0)]
    return Sessions(
        inferred=inferred,
        sessions=len(sizes),
        multi_turn=int((sizes > 1).sum()),
        mean_turns=float(sizes.mean()),
        median_turns=float(np.median(sizes)),
        max_turns=int(sizes.max()),
        median_gap_s=float(np.median(np.abs(gaps)) / 1e9) if len(gaps) else None,
    )

"""Prefix reuse against brute force: hits of an infinite cache, exact LRU hits at every size, turns inferred from shared prefixes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.traces.trace_tables import brute_hits, brute_lru_hits, read

from aiperf.traces import TraceTable
from aiperf.traces.reading.column_builder import Row, TableBuilder
from aiperf.traces.replay import session_order
from aiperf.traces.tools.prefix_reuse import (
    capacity_for,
    compute_reuse,
    infer_turns,
    lru_hits,
    stack_distances,
    whole_prompts,
)

BLOCK = 4


def table_of(prompts: list[list[int]], sessions: list[str | None] | None = None, *, whole: bool = True) -> TraceTable:
    """Requests 1 ms apart, all blocks full."""
    builder, row = TableBuilder(), Row()
    for number, ids in enumerate(prompts):
        row.clear()
        row.at_ns, row.input_length, row.output_length, row.hash_ids = (
            number * 1_000_000,
            max(1, BLOCK * len(ids)),
            1,
            ids,
        )
        row.session = sessions[number] if sessions else None
        row.whole = whole
        builder.add(number + 1, row)
    return builder.build(Path("made"), "mooncake_trace", BLOCK)


def ids_of(table: TraceTable) -> list[list[int]]:
    offsets = table.hash_offsets.tolist()
    return [table.hash_ids[a:b].tolist() for a, b in pairwise(offsets)]


@st.composite
def chained_prompts(draw: st.DrawFn) -> list[list[int]]:
    """Paths in a random tree: the id is the node, so equal ids have equal prefixes."""
    nodes: dict[tuple[int, ...], int] = {}
    paths = draw(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=25))
    return [[nodes.setdefault(tuple(p[: i + 1]), len(nodes)) for i in range(len(p))] for p in paths]


@given(chained_prompts())
@settings(deadline=None)
def test_infinite_hits_are_those_of_brute_force(prompts: list[list[int]]) -> None:
    reuse = compute_reuse(table_of(prompts))
    assert reuse.chained
    assert reuse.hits.tolist() == brute_hits(prompts)
    assert reuse.num_unique == len({i for p in prompts for i in p})


@given(chained_prompts(), st.integers(1, 30))
@settings(deadline=None)
def test_lru_hits_are_those_of_brute_force(prompts: list[list[int]], capacity: int) -> None:
    reuse = compute_reuse(table_of(prompts))
    hits = lru_hits(stack_distances(reuse), len(prompts), capacity)
    assert hits.tolist() == brute_lru_hits(prompts, capacity)


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=20), st.integers(1, 12))
@settings(deadline=None)
def test_ids_that_are_not_chained_count_by_prefix(prompts: list[list[int]], capacity: int) -> None:
    """The same id behind another prefix is no hit for a prefix cache."""
    reuse = compute_reuse(table_of(prompts))
    assert reuse.hits.tolist() == brute_hits(prompts)
    assert lru_hits(stack_distances(reuse), len(prompts), capacity).tolist() == brute_lru_hits(prompts, capacity)


@given(chained_prompts())
@settings(deadline=None)
def test_a_larger_cache_never_serves_less(prompts: list[list[int]]) -> None:
    reuse = compute_reuse(table_of(prompts))
    distances = stack_distances(reuse)
    hits = [int(lru_hits(distances, len(prompts), c).sum()) for c in range(1, reuse.num_unique + 2)]
    assert hits == sorted(hits)
    assert hits[-1] == reuse.hits.sum()
    if hits[-1]:
        enough = capacity_for(distances, 0.9)
        assert hits[enough - 1] >= 0.9 * hits[-1]
        assert enough == 1 or hits[enough - 2] < 0.9 * hits[-1]


def test_huge_ids_are_as_good_as_small_ones() -> None:
    small = [[0, 1, 2], [0, 1, 3], [0, 1, 2, 4]]
    huge = [[i * 2**57 - 2**62 for i in p] for p in small]
    assert compute_reuse(table_of(huge)).hits.tolist() == compute_reuse(table_of(small)).hits.tolist() == [0, 2, 3]


def test_the_excerpt_agrees_with_brute_force_at_several_sizes() -> None:
    table = read("mooncake_trace.jsonl")
    prompts = ids_of(table)
    reuse = compute_reuse(table)
    assert reuse.hits.tolist() == brute_hits(prompts)
    for capacity in (10, 100, 1000):
        hits = lru_hits(stack_distances(reuse), table.num_rows, capacity)
        assert hits.tolist() == brute_lru_hits(prompts, capacity)


def test_requests_count_in_time_order_not_in_file_order() -> None:
    table = table_of([[1, 2], [1, 2, 3]])
    table.at_ns.flags.writeable = True
    late_first = TraceTable(**{f: getattr(table, f) for f in table.__slots__} | {"at_ns": table.at_ns[::-1].copy()})
    reuse = compute_reuse(late_first)
    assert reuse.order.tolist() == [1, 0]
    assert reuse.hits.tolist() == [0, 2]


def test_conversations_are_told_from_prefixes() -> None:
    prompts = [[0, 1, 2], [0, 5, 6], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 9], [0, 7]]
    turn, conversation = infer_turns(compute_reuse(table_of(prompts)))
    # The fifth branches off the first: its second turn, once more. The last shares a system prompt only.
    assert turn.tolist() == [0, 0, 1, 2, 1, 0]
    assert conversation.tolist() == [0, 1, 0, 0, 0, 5]


def test_turns_that_add_count_with_their_history() -> None:
    """AIPerf's agentic traces list what a turn adds; alone, its ids would look as if nothing was reused."""
    table = table_of([[1, 2, 3], [7, 8], [9]], ["s", "s", "s"], whole=False)
    prompts = whole_prompts(table, session_order(table))
    # History: 12 tokens + 1, then + 8 + 1.
    assert prompts.input_length.tolist() == [12, 21, 26]
    lists = ids_of(prompts)
    assert [len(p) for p in lists] == [3, 6, 7]
    assert lists[1][:3] == lists[2][:3] == [1, 2, 3]
    assert lists[1][:5] == lists[2][:5]
    assert lists[1][5] != lists[2][5]
    assert compute_reuse(prompts).hits.tolist() == [0, 3, 5]


@pytest.mark.parametrize("seed", range(3))
def test_whole_prompts_leave_other_rows_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names: list[str | None] = [rng.choice(["a", "b"]) if rng.random() < 0.5 else None for _ in range(12)]
    table = table_of([rng.integers(0, 9, 3).tolist() for _ in range(12)], names, whole=True)
    assert whole_prompts(table, session_order(table)) is table

"""What ideal caches serve: the fast LRU against one that is played block by block, and both against the engine model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.studies.virtual_meter import VirtualMeter

from aiperf.studies.cache.meter import Load
from aiperf.studies.cache.prompts import Prompts, repeated
from aiperf.studies.cache.theory import Theory, policy_hits

BLOCK = 16


def prompts_of(order: list[int], *, shared: int = 3, own: int = 1, osl: int = 1) -> Prompts:
    return repeated(
        np.array(order, dtype=np.int64),
        shared=shared * BLOCK,
        tokens=(shared + own) * BLOCK,
        osl=osl,
        block=BLOCK,
        base=7,
    )


def test_an_ideal_cache_never_serves_the_last_token() -> None:
    twice = prompts_of([0, 0], own=0)
    assert Theory(twice).infinite().tolist() == [0, 2 * BLOCK]


def test_a_cold_cache_a_full_one_and_one_of_half_the_size() -> None:
    # Four prefixes of three blocks, one own block each, read from the last to the first.
    theory = Theory(prompts_of([0, 1, 2, 3, 3, 2, 1, 0]), warm=4)
    assert theory.infinite().tolist() == [48, 48, 48, 48]
    assert theory.lru(10_000).tolist() == [48, 48, 48, 48]
    # Eight blocks hold two prompts. The own block of the first one read takes the place of the other's, which nobody asks for.
    assert theory.lru(8).tolist() == [48, 48, 0, 0]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(5, 40))
@settings(max_examples=200, deadline=None)
def test_the_fast_lru_is_the_one_played_block_by_block(order: list[int], blocks: int) -> None:
    theory = Theory(prompts_of(order, osl=20))
    assert theory.lru(blocks).tolist() == theory.policy("lru", blocks).tolist()


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu", "random"])
def test_every_policy_is_the_same_while_nothing_has_to_go(policy: str) -> None:
    # Random placement may overwrite: with very many places it hardly ever does.
    theory = Theory(prompts_of([0, 1, 2, 0, 1, 2]))
    found = theory.policy(policy, 1_000_000)  # type: ignore[arg-type]
    assert found.tolist() == theory.infinite().tolist()


def test_policies_differ_on_what_is_used_again() -> None:
    offsets = np.arange(0, 9, 1)
    ids = np.array([1, 1, 1, 2, 3, 1, 4, 1])
    hits = {p: policy_hits(p, offsets, ids, 2).tolist() for p in ("lru", "fifo", "lfu")}
    assert hits["lru"] == [0, 1, 1, 0, 0, 0, 0, 1]
    assert hits["fifo"] == [0, 1, 1, 0, 0, 0, 0, 1]
    assert hits["lfu"] == [0, 1, 1, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_the_engine_model_serves_what_lru_theory_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.integers(0, 12, 80).tolist()
    prompts = prompts_of(order, shared=5, own=1)
    blocks = int(rng.integers(20, 70))
    engine = {"block_size": BLOCK, "num_blocks": blocks, "seed": seed}
    point = VirtualMeter(engine)(Load(name="x", measured=prompts))
    assert point.hit_tokens.tolist() == Theory(prompts).lru(blocks).tolist()


def test_the_size_of_an_lru_cache_is_read_from_its_hits() -> None:
    theory = Theory(prompts_of([*range(20), *reversed(range(20))]), warm=20)
    for blocks in (8, 21, 40, 63):
        hits = float(theory.lru(blocks).sum())
        # The smallest one: up to a prompt's own block and the last that is computed anyway do not show.
        assert theory.lru_capacity(hits) in range(blocks - 3, blocks + 1)
    assert theory.lru_capacity(1e9) is None

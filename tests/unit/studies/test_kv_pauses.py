"""Preempted requests found in their streams, against the engine model on a virtual clock, which knows who was preempted."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from aiperf._core import simulate
from aiperf.studies.kv.figures import lost_tokens
from aiperf.studies.kv.pauses import find_pauses
from aiperf.studies.kv.steps import recomputed_share
from aiperf.studies.kv.streams import Streams, in_blocks

ENGINE: dict[str, object] = {
    "num_blocks": 256,
    "max_num_seqs": 64,
    "max_num_batched_tokens": 512,
    "prefix_caching": False,
    "step": {"base_ms": 5.0, "per_decode_ms": 0.05, "per_prefill_token_ms": 0.03, "jitter": 0.02},
}


def run(concurrency: int = 56, seed: int = 1, **engine: object) -> tuple[Streams, dict[str, Any]]:
    """Streams as a client without delays sees them, and what the engine did."""
    rng = np.random.default_rng(seed)
    count = 2 * concurrency
    prompt = rng.integers(24, 72, count).astype(np.uint32)
    simulated = simulate(
        json.dumps({**ENGINE, "seed": seed, **engine}),
        prompt,
        np.full(count, 48, dtype=np.uint32),
        concurrency=concurrency,
        keep_tokens=True,
    )
    streams = Streams(
        start=simulated["sent"],
        end=simulated["last"],
        prompt=simulated["prompt_tokens"].astype(np.float64),
        cached=simulated["cached_tokens"].astype(np.float64),
        per_chunk=np.ones(count),
        ok=~simulated["refused"],
        cancelled=np.zeros(count, dtype=bool),
        offsets=simulated["token_offsets"],
        times=simulated["token_ns"].astype(np.float64),
    )
    return streams, simulated


@pytest.mark.parametrize("seed", range(10))
def test_preempted_requests_are_those_of_the_engine(seed: int) -> None:
    streams, truth = run(seed=seed)
    preemptions = int(truth["preemptions"].sum())
    assert preemptions > 10
    pauses = find_pauses(streams, preemptions)
    assert pauses.count <= preemptions
    is_victim = truth["preemptions"] > 0
    found = pauses.victims(streams.num_requests)
    assert not (found & ~is_victim).any(), "nobody is accused who was not preempted"
    assert found.sum() >= 0.95 * is_victim.sum()
    assert lost_tokens(preemptions, pauses) == pytest.approx(truth["recomputed_tokens"].sum(), rel=0.05)


@pytest.mark.parametrize("seed", range(10))
def test_recomputing_and_swapping_are_told_apart_by_the_time_of_the_steps(seed: int) -> None:
    streams, truth = run(seed=seed)
    told = recomputed_share(streams, find_pauses(streams, int(truth["preemptions"].sum())))
    assert told.share == pytest.approx(1.0, abs=0.15)
    assert told.taken == 1.0
    streams, truth = run(seed=seed, preemption="swap", swap_block_ms=0.001)
    assert truth["swapped_blocks"].sum() > 0
    told = recomputed_share(streams, find_pauses(streams, int(truth["preemptions"].sum())))
    assert told.share == pytest.approx(0.0, abs=0.1)
    assert told.taken == pytest.approx(0.0, abs=0.02)


def test_without_a_counter_only_long_pauses_count() -> None:
    streams, truth = run()
    found = find_pauses(streams).victims(streams.num_requests)
    assert 0 < found.sum() <= (truth["preemptions"] > 0).sum()
    assert not (found & (truth["preemptions"] == 0)).any()


@pytest.mark.parametrize("engines", [2, 4])
def test_of_several_engines_nobody_is_accused_falsely(engines: int) -> None:
    """Their steps overlap: short pauses are left out."""
    for seed in range(3):
        streams, truth = run(seed=seed, replicas=engines, num_blocks=256 // engines)
        is_victim = truth["preemptions"] > 0
        found = find_pauses(streams, truth["preemptions"].sum(), engines).victims(streams.num_requests)
        assert not (found & ~is_victim).any()
        assert found.sum() >= 0.85 * is_victim.sum()


def test_a_load_that_fits_has_no_pauses() -> None:
    streams, truth = run(concurrency=20)
    assert truth["preemptions"].sum() == 0
    assert find_pauses(streams).count == 0
    assert find_pauses(streams, 0).count == 0
    assert recomputed_share(streams, find_pauses(streams)).share is None


def test_a_gap_that_all_streams_share_is_no_pause() -> None:
    """A long prompt that stops everybody, or a machine that was held up, preempts nobody."""
    times = np.cumsum([5e6] * 10 + [200e6] + [5e6] * 10)
    rows = 4
    streams = Streams(
        start=np.zeros(rows),
        end=np.full(rows, times[-1]),
        prompt=np.full(rows, 10.0),
        cached=np.full(rows, np.nan),
        per_chunk=np.ones(rows),
        ok=np.ones(rows, dtype=bool),
        cancelled=np.zeros(rows, dtype=bool),
        offsets=np.arange(rows + 1) * len(times),
        times=np.tile(times, rows),
    )
    assert find_pauses(streams).count == 0


@pytest.mark.parametrize("block_size", [1, 16, 64])
def test_tokens_held_round_up_to_the_blocks_of_the_engine(block_size: int) -> None:
    """At its last step a request holds prompt + output − 1 tokens, in the blocks that the engine counted."""
    streams, truth = run(concurrency=4, block_size=block_size, num_blocks=8192 // block_size)
    rows = np.arange(streams.num_requests)
    before_last = streams.end - 1
    held = np.array([streams.held(before_last[i : i + 1])[i, 0] for i in rows])
    assert (held == streams.prompt + 47).all()
    assert (in_blocks(held, block_size) == truth["peak_blocks"] * block_size).all()


def test_held_is_zero_outside_of_a_request() -> None:
    streams, _ = run(concurrency=2)
    at = np.array([-1.0, float(streams.times.max()) + 1])
    assert (streams.held(at) == 0).all()
    assert streams.unseen(np.array([0.0]))[0] == pytest.approx(streams.prompt[:2].sum())

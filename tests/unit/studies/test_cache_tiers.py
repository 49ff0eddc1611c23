"""Levels of a cache, told apart by the time at which served requests start."""

from __future__ import annotations

import numpy as np
import pytest

from aiperf.studies.cache.tiers import find_steps


def times(rng: np.random.Generator, *levels: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Distances 100, 200, … and times around each level's median, with the long tail that latencies have."""
    ms = np.concatenate([median * rng.lognormal(0, 0.2, count) for count, median in levels])
    return 100.0 * np.arange(1, len(ms) + 1), ms


@pytest.mark.parametrize("seed", range(5))
def test_one_level_has_no_step(seed: int) -> None:
    distance, ms = times(np.random.default_rng(seed), (200, 8.0))
    assert list(find_steps(distance, ms)) == []


@pytest.mark.parametrize("seed", range(5))
def test_two_and_three_levels_end_where_they_end(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (step,) = find_steps(*times(rng, (60, 5.0), (80, 12.0)))
    assert step.distance == pytest.approx(6050, rel=0.05)
    assert step.near_ms == pytest.approx(5, rel=0.2)
    assert step.far_ms == pytest.approx(12, rel=0.2)
    steps = list(find_steps(*times(rng, (60, 5.0), (80, 12.0), (60, 40.0))))
    assert [s.distance for s in steps] == pytest.approx([6050, 14050], rel=0.05)


def test_a_rise_too_small_to_matter_is_none() -> None:
    distance, ms = times(np.random.default_rng(1), (300, 5.0), (300, 5.8))
    assert list(find_steps(distance, ms)) == []


def test_a_few_requests_say_nothing() -> None:
    assert list(find_steps(np.arange(8.0), np.arange(8.0))) == []

"""Lengths follow AIPerf's laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiperf.config.lengths import parse_seq_dist
from aiperf.workload.lengths import NormalLengths, PairLengths, UniformLengths


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize(("mean", "length"), [(550, 550), (0.2, 1), (2.5, 2), (3.5, 4), (7.6, 8)])
def test_without_deviation_the_mean_is_rounded(mean: float, length: int) -> None:
    isl, osl = NormalLengths(mean).draw(4, rng())
    assert isl.tolist() == [length] * 4
    assert osl is None


def test_normal_lengths_follow_their_law() -> None:
    isl, osl = NormalLengths(1000, 100, 500, 50).draw(20_000, rng())
    assert osl is not None
    assert isl.mean() == pytest.approx(1000.5, abs=3)  # rounded up: + 0.5 on average
    assert osl.std() == pytest.approx(50, rel=0.03)


@given(st.floats(0.1, 20), st.floats(0, 50))
def test_lengths_are_at_least_one(mean: float, stddev: float) -> None:
    assert NormalLengths(mean, stddev).draw(50, rng())[0].min() >= 1


@pytest.mark.parametrize(
    ("style", "ratio", "low", "high"),
    [("vllm", 0.25, 75, 125), ("sglang", 0.25, 25, 100), ("vllm", 1.0, 1, 200), ("sglang", 0, 1, 100)],
)
def test_range_ratio_reaches_both_bounds(style: str, ratio: float, low: int, high: int) -> None:
    law = UniformLengths(100, 100, ratio, style)  # type: ignore[arg-type]
    isl, osl = law.draw(20_000, rng())
    assert osl is not None
    assert (isl.min(), isl.max()) == (low, high)
    assert (osl.min(), osl.max()) == (low, high)


def test_pairs_are_drawn_by_their_shares_and_together() -> None:
    isl, osl = PairLengths(parse_seq_dist("100,10:25;200,20:75")).draw(20_000, rng())
    assert osl is not None
    assert np.array_equal(isl, osl * 10)
    assert (isl == 200).mean() == pytest.approx(0.75, abs=0.01)


def test_pairs_have_their_own_deviations() -> None:
    isl, osl = PairLengths(parse_seq_dist("100|10,50:50;1000,500|50:50")).draw(20_000, rng())
    assert osl is not None
    small = isl < 500
    assert isl[small].std() == pytest.approx(10, rel=0.05)
    assert set(osl[small].tolist()) == {50}
    assert set(isl[~small].tolist()) == {1000}
    assert osl[~small].std() == pytest.approx(50, rel=0.05)

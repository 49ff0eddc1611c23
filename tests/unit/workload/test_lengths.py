"""Lengths follow AIPerf's laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiperf.config.lengths import parse_distribution, parse_seq_dist
from aiperf.workload.lengths import DrawnLengths, NormalLengths, PairLengths, UniformLengths


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


@pytest.mark.parametrize(
    ("text", "mean", "checks"),
    [
        ("512", 512, {0: 512, 100: 512}),
        ('{"mean": 512, "stddev": 0}', 512, {0: 512, 100: 512}),
        ('{"value": 64}', 64, {0: 64, 100: 64}),
        ('{"mean": 512, "stddev": 50}', 512, {50: 512}),
        ('{"mean": 512, "median": 400}', 512, {50: 400}),
        ('{"mean": 512, "median": 192}', 512, {50: 192}),
        ('{"mean": 512, "stddev": 500, "min": 300, "max": 600}', 512, {0: 300, 100: 600}),
        ('{"peaks": [{"mean": 100, "weight": 60}, {"mean": 2000, "weight": 40}]}', 860, {59: 100, 61: 2000}),
        ('{"peaks": [{"mean": 100}, {"mean": 300, "median": 300}]}', 200, {49: 100, 51: 300}),
        ('{"points": [{"value": 8, "weight": 3}, {"value": 80, "weight": 1}]}', 26, {74: 8, 76: 80}),
    ],
)
def test_a_distribution_has_the_mean_and_the_percentiles_it_names(
    text: str, mean: float, checks: dict[int, float]
) -> None:
    """The log-normal's median and mean are the two that users know; peaks keep their shares."""
    law = parse_distribution(text)
    assert law.mean == pytest.approx(mean)
    isl, osl = DrawnLengths(law, law).draw(40_000, np.random.default_rng(7))
    assert osl is not None
    assert isl.min() >= 1
    assert not np.array_equal(isl, osl) or isl.min() == isl.max()
    for percentile, value in checks.items():
        assert float(np.percentile(isl, percentile)) == pytest.approx(value, rel=0.03)
    if '"max"' not in text:
        assert isl.mean() == pytest.approx(mean, rel=0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{mean: 5}", "is not a distribution"),
        ("[]", "is not a distribution"),
        ('{"mean": 5, "median": 6}', "above its `mean`"),
        ('{"mean": 5, "stddev": 1, "median": 3}', "has no `stddev`"),
        ('{"stddev": 5}', "is not a distribution"),
        ('{"mean": -1}', "above 0"),
        ('{"mean": "many"}', "above 0"),
        ('{"mean": 1e999}', "above 0"),
        ('{"mean": 5, "min": 9, "max": 2}', "above `max`"),
        ('{"peaks": []}', "`peaks` is a list"),
        ('{"peaks": [{"mean": 4, "weight": 0}]}', "all 0"),
        ('{"peaks": [{"weight": 1}]}', "is not a distribution"),
    ],
)
def test_a_distribution_that_is_none_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_distribution(text)

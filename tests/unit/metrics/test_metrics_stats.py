"""Statistics: equal to numpy to the last bit, monotone, absent where the count does not support them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiperf.metrics.stats import (
    STANDARD_PERCENTILES,
    Stats,
    compute_stats,
    nearest_rank_stats,
    needed_count,
    percentile_name,
    percentiles_of_sorted,
    weighted_stats,
)
from aiperf.units import UNITS

finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(finite, min_size=1, max_size=60))
def test_percentiles_equal_numpys_to_the_last_bit(values: list[float]) -> None:
    ordered = np.sort(np.array(values))
    expected = np.percentile(ordered, STANDARD_PERCENTILES).tolist()
    assert percentiles_of_sorted(ordered, STANDARD_PERCENTILES) == expected


@given(st.lists(finite, min_size=1, max_size=60))
def test_percentiles_are_monotone_and_within_the_extremes(values: list[float]) -> None:
    stats = compute_stats(np.array(values))
    assert stats is not None
    found = [stats.percentiles[p] for p in STANDARD_PERCENTILES]
    numbers = [stats.min, *found, stats.max]
    assert all(a is not None and b is not None and a <= b for a, b in itertools.pairwise(numbers))
    assert stats.min <= stats.avg <= stats.max  # type: ignore[operator]


def test_absent_values_do_not_count_and_nothing_gives_nothing() -> None:
    stats = compute_stats(np.array([np.nan, 1.0, 3.0, np.nan]))
    assert stats is not None
    assert (stats.count, stats.avg, stats.sum, stats.std) == (2, 2.0, 4.0, 1.0)
    assert compute_stats(np.array([np.nan])) is None
    assert nearest_rank_stats(np.array([np.nan])) is None


def test_tail_percentiles_need_ten_values_beyond() -> None:
    assert needed_count(99) == 1
    assert needed_count(99.9) == 10_000
    assert needed_count(99.99) == 100_000
    few = compute_stats(np.arange(9_999.0), (99.0, 99.9))
    many = compute_stats(np.arange(10_000.0), (99.0, 99.9))
    assert few is not None
    assert many is not None
    assert few.percentiles[99.9] is None
    assert many.percentiles[99.9] == pytest.approx(np.percentile(np.arange(10_000), 99.9))
    assert percentile_name(99.9) == "p99.9"


def test_a_statistic_by_its_key() -> None:
    stats = Stats(avg=2.0, count=3, percentiles={99.0: 5.0})
    assert stats.get("mean") == 2.0
    assert stats.get("p99") == 5.0
    assert stats.get("count") == 3.0
    assert stats.get("p50") is None
    assert stats.get("nonsense") is None


def test_weighted_by_time() -> None:
    """1 for 9 s, 5 for 1 s: mean 1.4, median 1, p95 5; a moment that does not count is left out."""
    values, widths = np.array([1.0, 5.0, np.nan]), np.array([9.0, 1.0, 100.0])
    stats = weighted_stats(values, widths)
    assert stats is not None
    assert stats.avg == pytest.approx(1.4)
    assert stats.std == pytest.approx(1.2)
    assert stats.percentiles == {50.0: 1.0, 90.0: 1.0, 95.0: 5.0, 99.0: 5.0}


def test_shown_units_are_exact() -> None:
    """28125038 ns is 28.125038 ms, not 28.125037999999996: JSONL and summary agree."""
    assert 28125038.0 / UNITS["ns"].divisor == 28.125038
    assert UNITS["ns"].factor == 1e-6

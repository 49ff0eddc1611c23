"""Offsets between clocks: right within the bound that is stated, whatever the network does."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiperf.distributed.clocks import Offset, measure_offset, merge_offsets

delays = st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), min_size=1, max_size=20)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(offset=st.integers(-(10**13), 10**13), trips=delays)
def test_the_true_offset_is_within_the_bound(offset: int, trips: list[tuple[int, int]]) -> None:
    """There and back take any time, and not the same: as with queues in one direction."""
    now = 0
    going = iter(trips)

    def ask() -> int:
        nonlocal now
        there, back = next(going)
        now += there
        read = now + offset
        now += back
        return read

    found = measure_offset(ask, lambda: now, len(trips))
    assert abs(found.offset_ns - offset) <= found.bound_ns
    assert found.bound_ns <= min(a + b for a, b in trips) // 2 + 1


def test_the_quickest_round_trip_decides() -> None:
    times = iter([0, 1000, 1000, 1010, 1010, 5010])
    reads = iter([700, 1105, 4000])
    assert measure_offset(lambda: next(reads), lambda: next(times), 3) == Offset(100, 5)


@given(
    offset=st.integers(-(10**9), 10**9),
    errors=st.lists(st.tuples(st.integers(-1000, 1000), st.integers(0, 500)), min_size=1, max_size=5),
)
def test_measurements_that_hold_the_truth_agree_on_it(offset: int, errors: list[tuple[int, int]]) -> None:
    merged = merge_offsets([Offset(offset + e, abs(e) + extra) for e, extra in errors])
    assert abs(merged.offset_ns - offset) <= merged.bound_ns + 1


def test_clocks_that_drift_widen_the_bound() -> None:
    merged = merge_offsets([Offset(0, 10), Offset(1000, 10)])
    assert merged.offset_ns == 500
    assert merged.bound_ns >= 500

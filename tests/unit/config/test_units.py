"""Numbers with units are read and converted in one place, whoever takes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiperf.config.conditions import parse_condition
from aiperf.config.parse import parse_number
from aiperf.traces.tools.cut import parse_span
from aiperf.units import TIME_NS, split_number, threshold_in, time_in


@pytest.mark.parametrize("unit", TIME_NS)
def test_every_unit_of_time_is_the_same_everywhere(unit: str) -> None:
    """Three parsers knew different units: `µs` in one, `h` in two, `d` in one."""
    seconds = 3 * TIME_NS[unit] / 1e9
    assert parse_number(f"3{unit}", unit="s") == pytest.approx(seconds)
    assert parse_number(f"3{unit}", unit="ms") == pytest.approx(seconds * 1e3)
    condition = parse_condition(f"request_latency:p99 < 3{unit}")
    assert isinstance(condition.value, float)
    assert condition.value == pytest.approx(seconds * 1e3)
    assert parse_span(f"3{unit}") == round(seconds * 1e9)


@given(st.floats(-1e12, 1e12), st.sampled_from(list(TIME_NS)), st.sampled_from(list(TIME_NS)))
def test_times_round_trip(value: float, a: str, b: str) -> None:
    assert time_in(time_in(value, a, b), b, a) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12", (12.0, "")),
        (" 1_000ms ", (1000.0, "ms")),
        ("-.5e-3 %", (-0.0005, "%")),
        ("", None),
        ("ms", None),
        ("1 2", None),
    ],
)
def test_numbers_are_split_from_their_units(text: str, found: tuple[float, str] | None) -> None:
    assert split_number(text) == found


@pytest.mark.parametrize(
    ("value", "unit", "shown", "expected"),
    [
        (370.0, None, "ms", 370.0),
        (370.0, "ms", "ms", 370.0),
        (1500.0, "ms", "sec", 1.5),
        (2.0, "ms", "ns", 2e6),
        (95.0, "%", "ratio", 0.95),
        (5.0, "%", "%", 5.0),
        (5.0, "%", "ms", None),
        (5.0, "ms", "tokens/sec", None),
    ],
)
def test_thresholds_fit_the_metrics_unit_or_are_refused(
    value: float, unit: str | None, shown: str, expected: float | None
) -> None:
    assert threshold_in(value, unit, shown) == expected

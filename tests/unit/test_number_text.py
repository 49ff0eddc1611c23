"""Numbers as text: what is typed comes back whole, and nobody reads an exponent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiperf.number_text import exact, signed, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1609930000, "1609930000"),
        (1234567.0, "1234567"),
        (1796007179920.0, "1796007179920"),
        (0.1 + 0.2, "0.3"),
        (0.07 * 100, "7"),
        (1e-7, "0.0000001"),
        (-2.5, "-2.5"),
        (0.0, "0"),
        (math.inf, "inf"),
        (None, "–"),
    ],
)
def test_exact(value: float | None, text: str) -> None:
    assert exact(value) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (25285.35, 4, "25,285"),
        (1e9, 4, "1,000,000,000"),
        (12.3456, 4, "12.35"),
        (0.5, 4, "0.5"),
        (9.9996, 4, "10"),
        (0.012345, 3, "0.0123"),
        (-1234.5, 2, "-1,234"),
        (0.0, 4, "0"),
        (100, 1, "100"),
        (math.nan, 4, "nan"),
        (None, 4, "–"),
    ],
)
def test_significant(value: float | None, digits: int, text: str) -> None:
    assert significant(value, digits) == text


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_exact_reads_back(value: float) -> None:
    text = exact(value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=1e-14, abs=0)


@given(st.floats(allow_nan=False, min_value=1e-9, max_value=1e15), st.integers(1, 8))
def test_significant_is_near(value: float, digits: int) -> None:
    text = significant(value, digits)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.6 * 10.0 ** (1 - digits))


@pytest.mark.parametrize(("value", "text"), [(12345.0, "+12,345"), (-0.00012345, "-0.000123"), (0.0, "+0")])
def test_signed(value: float, text: str) -> None:
    assert signed(value) == text

"""Cells of tables on screen."""

from __future__ import annotations

import re

__all__ = ["marked_percentile", "number", "percent", "short"]


def number(value: float | None, digits: int = 2, absent: str = "–") -> str:
    """`1,234.56`; `absent` if there is none."""
    return absent if value is None else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """0.281 → `28.1%`."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def short(value: float | None) -> str:
    """About four figures: `0.123`, `12.3`, `345`, `12,345`."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def marked_percentile(mark: str | None) -> float | None:
    """75.0 for `p75`; None for other columns (`avg`, `max`), which are always there."""
    found = re.fullmatch(r"p(\d+(?:\.\d+)?)", mark or "")
    return float(found[1]) if found else None

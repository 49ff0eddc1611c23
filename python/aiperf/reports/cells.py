"""Cells of tables on screen."""

from __future__ import annotations

__all__ = ["number", "percent", "short"]


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

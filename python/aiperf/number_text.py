"""Numbers as people read and type them: never with an exponent."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["ABSENT", "exact", "signed", "significant"]

ABSENT: Final = "–"
"""What stands for a number that there is not."""
_DIGITS: Final = 15
"""What every double holds: 0.1 + 0.2 is 0.3, and a time since 1970 in ms keeps its last digit."""


def exact(value: float | None) -> str:
    """As one would type it, no digit lost, whole numbers without a fraction: `1234567`, `0.25`, `0.0000001`."""
    if value is None:
        return ABSENT
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    text = f"{value:.{_DIGITS}g}"
    if "e" not in text:
        return text
    from decimal import Decimal  # rarely, and not at each start

    return format(Decimal(text), "f")


def significant(value: float | None, digits: int = 4) -> str:
    """At least `digits` significant digits, thousands apart, no zeros at the end of a fraction: `25,285`, `12.35`, `0.5`."""
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return str(value)
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(0, places)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed(value: float, digits: int = 3) -> str:
    """A change: as `significant`, with its sign: `+1,234`, `-0.5`."""
    return ("+" if value >= 0 else "") + significant(value, digits)

"""Units of metrics, and how a base unit is shown.

Inside, times are ns and sizes bytes; a `Unit` says what users see: `UNITS["ns"]` is shown as ms, values divided by 1e6.
Dividing (not multiplying by 1e-6) keeps 28125038 ns at 28.125038 ms to the last bit. Unit names are AIPerf's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["TIME_NS", "UNITS", "Unit", "parse_in_unit"]


@dataclass(frozen=True, slots=True)
class Unit:
    """`shown`: the unit users see; a value in the base unit divided by `divisor` is the value in `shown`."""

    name: str
    shown: str
    divisor: float = 1.0

    @property
    def factor(self) -> float:
        """Base to shown, as a factor; for exact results divide by `divisor`."""
        return 1.0 / self.divisor


UNITS: Final[dict[str, Unit]] = {
    u.name: u
    for u in (
        Unit("ns", "ms", 1e6),
        Unit("ns_as_sec", "sec", 1e9),
        Unit("timestamp", "ns"),
        Unit("bytes", "KB", 1024.0),
        Unit("tokens", "tokens"),
        Unit("requests", "requests"),
        Unit("count", "count"),
        Unit("ratio", "ratio"),
        Unit("%", "%"),
        Unit("requests/sec", "requests/sec"),
        Unit("tokens/sec", "tokens/sec"),
        Unit("tokens/sec/user", "tokens/sec/user"),
    )
}

TIME_NS: Final[dict[str, float]] = {
    "ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "sec": 1e9, "m": 60e9, "min": 60e9, "h": 3600e9,
}  # fmt: skip
_BYTES: Final[dict[str, float]] = {"b": 1.0, "kb": 1024.0, "mb": 1024.0**2, "gb": 1024.0**3}
_COUNTS: Final[dict[str, float]] = {"k": 1e3, "m": 1e6}
_NUMBER = re.compile(r"^\s*([-+]?\d[\d_,]*(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+)\s*([^\d\s].*)?$")


def parse_in_unit(text: str, unit: Unit) -> float:
    """`500ms`, `0.5s`, `95%`, `1k` → the number in the unit's *shown* unit; a bare number already is in it.

    A `%` after the number divides by 100 for ratios. ValueError if the text is no number or the suffix does not fit.
    """
    found = _NUMBER.match(text)
    if found is None:
        raise ValueError(f"`{text}` is not a number with a unit, such as `500ms` or `95%`")
    value = float(found[1].replace("_", "").replace(",", ""))
    suffix = (found[2] or "").strip()
    if not suffix or suffix == unit.shown:
        return value
    low = suffix.lower()
    if unit.name in ("ns", "ns_as_sec", "timestamp") and low in TIME_NS:
        # Multiply before dividing: 0.5 s must be 500 ms exactly.
        return value * TIME_NS[low] / unit.divisor
    if unit.name == "bytes" and low in _BYTES:
        return value * _BYTES[low] / unit.divisor
    if unit.name == "ratio" and low == "%":
        return value / 100
    if unit.name in ("tokens", "requests", "count", "requests/sec", "tokens/sec", "tokens/sec/user"):
        if low in _COUNTS:
            return value * _COUNTS[low]
        if low in ("/s", "req/s", "tok/s", "requests/s", "tokens/s") and unit.name.endswith("/sec"):
            return value
    raise ValueError(f"`{suffix}` is not a unit of {unit.shown}")

"""Units of metrics, and how a base unit is shown.

Inside, times are ns and sizes bytes; a `Unit` says what users see: `UNITS["ns"]` is shown as ms, values divided by 1e6.
Dividing (not multiplying by 1e-6) keeps 28125038 ns at 28.125038 ms to the last bit. Unit names are AIPerf's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["TIME_NS", "UNITS", "Unit", "split_number", "threshold_in", "time_in"]

TIME_NS: Final = {
    "ns": 1.0,
    "us": 1e3,
    "µs": 1e3,
    "ms": 1e6,
    "s": 1e9,
    "sec": 1e9,
    "m": 6e10,
    "min": 6e10,
    "h": 3.6e12,
    "d": 8.64e13,
}
"""Every spelling of a unit of time that options, conditions and trace commands take, in ns."""

_NUMBER: Final = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Zµ%]*)\s*")


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
        *(Unit(u, u) for u in ("images", "images/sec", "ms/image", "MB", "sec")),
        Unit("%", "%"),
        Unit("requests/sec", "requests/sec"),
        Unit("tokens/sec", "tokens/sec"),
        Unit("tokens/sec/user", "tokens/sec/user"),
        *(Unit(u, u) for u in ("W", "J", "J*s", "tokens/J", "mJ/token", "joules/request", "joules/user")),
        *(Unit(u, u) for u in ("requests/sec/W", "good-req/s/W", "tokens/sec/W")),
    )
}


def split_number(text: str) -> tuple[float, str] | None:
    """`1.5ms` → (1.5, "ms"), `12` → (12.0, ""); underscores may group digits. None if it is no number with a word behind it."""
    found = _NUMBER.fullmatch(text)
    return None if found is None else (float(found[1].replace("_", "")), found[2])


def time_in(value: float, unit: str, wanted: str) -> float:
    """A time of `unit` in `wanted`, correctly rounded: 1.1 ms are 0.0011 s. KeyError for what is no unit of time."""
    given, asked = TIME_NS[unit], TIME_NS[wanted]
    return value * (given / asked) if given >= asked else value / (asked / given)


def threshold_in(value: float, unit: str | None, shown: str) -> float | None:
    """A threshold as written (None: without a unit) in the unit a metric is shown in; None if they do not fit."""
    if unit is None or unit == shown:
        return value
    if unit == "%":
        return value / 100 if shown == "ratio" else None
    return time_in(value, unit, shown) if unit in TIME_NS and shown in TIME_NS else None

"""Units of metrics, and how a base unit is shown.

Inside, times are ns and sizes bytes; a `Unit` names what a metric's values are in and, by `display`, what users see:
`UNITS["ns"].display == ("ms", 1e-6)`. Unit names are AIPerf's (`compat.md` §8).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNITS", "Unit"]


@dataclass(frozen=True, slots=True)
class Unit:
    """`shown`: the unit users see; a value in the base unit times `factor` is the value in `shown`."""

    name: str
    shown: str
    factor: float = 1.0


UNITS: dict[str, Unit] = {
    u.name: u
    for u in (
        Unit("ns", "ms", 1e-6),
        Unit("ns_as_sec", "sec", 1e-9),
        Unit("bytes", "KB", 1 / 1024),
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

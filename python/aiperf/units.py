"""Units of metrics, and how a base unit is shown.

Inside, times are ns and sizes bytes; a `Unit` says what users see: `UNITS["ns"]` is shown as ms, values divided by 1e6.
Dividing (not multiplying by 1e-6) keeps 28125038 ns at 28.125038 ms to the last bit. Unit names are AIPerf's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["UNITS", "Unit"]


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
        *(Unit(u, u) for u in ("W", "J", "J*s", "tokens/J", "mJ/token", "joules/request", "joules/user")),
        *(Unit(u, u) for u in ("requests/sec/W", "tokens/sec/W")),
    )
}

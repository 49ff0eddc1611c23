"""One span, as far as it matters here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Span"]

Value = str | float | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """`trace`: the trace id, 32 hex digits in lower case. `start_ns`, `end_ns`: since the epoch, by the server's clock."""

    trace: str
    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)

"""One span, as far as it matters here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Span", "client_span"]

_ALL: Final = (1 << 64) - 1


def client_span(trace: str) -> str:
    """The parent id that a request's `traceparent` has beside this trace id: the engine makes it from the id's lower half
    (`crates/engine/src/compose.rs`).
    """
    z = (int(trace[16:], 16) + 0x9E37_79B9_7F4A_7C15) & _ALL
    z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & _ALL
    z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & _ALL
    return f"{(z ^ (z >> 31)) | 1:016x}"


Value = str | float | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """`trace`: the trace id, 32 hex digits in lower case; `parent`: the id of the span above it, 16 of them, "" if there is none.
    `start_ns`, `end_ns`: since the epoch, by the server's clock.
    """

    trace: str
    parent: str = ""
    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)

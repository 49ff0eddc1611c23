"""An endpoint is data: a path, a body, and JSON pointers for the native reader. One file each; `ENDPOINT` is its object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from aiperf.config.engine import PointerSettings
from aiperf.session import Message, Turn

__all__ = ["BodyOptions", "Endpoint", "Features", "Pointers"]

Pointers = PointerSettings


@dataclass(frozen=True, slots=True)
class Features:
    """What an endpoint can do. `metrics_title` is in the table's title: `AIPerf | <metrics_title>`."""

    streaming: bool = True
    tokens_out: bool = True
    chat: bool = False
    framing: Literal["sse", "ndjson"] = "sse"
    metrics_title: str = "LLM Metrics"


@dataclass(frozen=True, slots=True)
class BodyOptions:
    """What the user's flags add to every body."""

    model: str
    streaming: bool
    include_usage: bool = True
    legacy_max_tokens: bool = False
    ignore_eos: bool = False
    force_min_tokens: bool = False
    extra: Mapping[str, object] = field(default_factory=dict)


class Endpoint(ABC):
    """One API. `body` may put parts (Synthetic, Reply, Stamp; see `aiperf.session`) wherever JSON text may stand: the plan
    writes them as segments. It runs before the clock starts, once per distinct shape.
    """

    path: ClassVar[str]
    pointers: ClassVar[Pointers]
    """Into one event of a stream."""
    plain_pointers: ClassVar[Pointers]
    """Into a whole reply."""
    features: ClassVar[Features]

    @abstractmethod
    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        """The request body. `history`: the conversation before this turn, replies as messages whose part is a Reply.

        Values of type `tuple[Part, ...]` stand for a JSON string made of these parts.
        """

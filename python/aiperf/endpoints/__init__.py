"""An endpoint is data: a path, a body, and JSON pointers for the native reader. One file each in `apis/`; `ENDPOINT` is its object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeGuard

from aiperf.config.engine import PointerSettings
from aiperf.config.model import Config
from aiperf.config.url import Target, target_of
from aiperf.session import Message, Part, Turn

__all__ = [
    "BodyOptions",
    "Endpoint",
    "Features",
    "Pointers",
    "add_extra",
    "has_length",
    "load_endpoint",
    "path_of",
    "targets_of",
    "texts_of",
]

Pointers = PointerSettings


@dataclass(frozen=True, slots=True)
class Features:
    """What an endpoint can do. `metrics_title` is in the table's title: `AIPerf | <metrics_title>`."""

    streaming: bool = True
    tokens_out: bool = True
    chat: bool = False
    framing: Literal["sse", "ndjson"] = "sse"
    metrics_title: str = "LLM Metrics"
    texts: tuple[str, ...] = ()
    """Where the API takes several texts by name, their names (`Message.name`); a batch is of the last one."""


@dataclass(frozen=True, slots=True)
class BodyOptions:
    """What the user's flags add to every body. `ignore_eos`, `force_min_tokens`: only where an output length is asked for."""

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


def add_extra(body: dict[str, object], turn: Turn, options: BodyOptions, *, usage: bool) -> dict[str, object]:
    """The user's extra fields, then the turn's, over the body's own, as AIPerf does: whole fields, no merging inside them.

    `usage`: the API knows `stream_options`; then `include_usage` is set in it unless the user set it.
    """
    merged = {**body, **options.extra, **turn.extra}
    if usage and options.include_usage and merged.get("stream"):
        given = merged.get("stream_options")
        if given is None or isinstance(given, Mapping):
            merged["stream_options"] = {"include_usage": True, **(given or {})}
    return merged


_LENGTHS = ("max_tokens", "max_completion_tokens", "max_new_tokens", "n_predict")


def has_length(turn: Turn, options: BodyOptions) -> bool:
    """True if the request asks for an output length. Without one a server that ignores the end of the text generates until its context
    is full: no newcomer's first run would end.
    """
    return turn.osl is not None or any(
        extra.get(name) is not None for extra in (options.extra, turn.extra) for name in _LENGTHS
    )


def texts_of(turn: Turn, name: str | None = None) -> list[tuple[Part, ...]]:
    """All texts of a turn's messages, batches included; with `name`, of the messages that have it."""
    chosen = [m for m in turn.messages if name is None or m.name == name]
    return [parts for m in chosen for parts in (*([m.parts] if m.parts else []), *m.more)]


def load_endpoint(name: str) -> Endpoint:
    """ConfigError with the nearest name if there is no such endpoint."""
    from aiperf import registry

    return registry.load("endpoints", name, "ENDPOINT", _is_endpoint)


def _is_endpoint(found: object) -> TypeGuard[Endpoint]:
    return isinstance(found, Endpoint)


def path_of(config: Config) -> str:
    """The path requests go to, below the base URL: the user's, else the endpoint's own."""
    return config.endpoint.custom_endpoint or load_endpoint(config.endpoint.endpoint_type).path


def targets_of(config: Config, urls: Sequence[str] | None = None) -> tuple[Target, ...]:
    """The configuration's URLs (or `urls`) with the endpoint's path, in order."""
    path = path_of(config)
    return tuple(target_of(url, path) for url in (config.endpoint.urls if urls is None else urls))

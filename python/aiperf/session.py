"""What a workload is made of: sessions of turns, each turn's text in parts.

A part is literal text, a recipe for synthetic text that the engine makes at send time, the reply to an earlier turn, or a
stamp that makes the request unique (cache busting).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["LONGEST_NS", "SAME_NAME", "Message", "Part", "Pause", "Reply", "Session", "Stamp", "Synthetic", "Turn"]


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Text of exactly `tokens` tokens, a function of `seed` and the vocabulary.

    `unique`: when the plan is repeated, each repetition gets fresh text; a hash block of a trace keeps its text for good.
    """

    seed: int
    tokens: int
    unique: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """The server's answer to an earlier turn: `turn` counts within the session `session` (default: the same session)."""

    turn: int
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """A unique id, new for every request sent: no two requests share a prefix beyond it."""


SAME_NAME = "\0"
"""In an id: what follows tells sessions of one name apart."""

Part = str | Synthetic | Reply | Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message. Parts are joined without separator; media are data URLs or URLs, in order after the text."""

    role: str
    parts: tuple[Part, ...]
    images: tuple[str, ...] = ()
    audios: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    name: str | None = None
    """Which field of the API the text is for, where there are several: `query`, `passages`."""
    more: tuple[tuple[Part, ...], ...] = ()
    """Further texts of a client-side batch: inputs of an embeddings request, content items of a chat message."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Other fields of a chat message, sent as they are: `tool_calls`, `tool_call_id`."""
    image_ids: tuple[str | None, ...] = ()
    """Of each image, the id under which the server keeps it (vLLM's `uuid`); an image of which only the id is sent is empty."""


LONGEST_NS = 1 << 62
"""Of a think time: what can be added to a time of the run without leaving 63 bits."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Of a turn that sends nothing: its think time is drawn anew in each play, log-normal with the median `delay_ns`.

    `sigma`: standard deviation of its logarithm; 0: always the median. `min_ns`, `max_ns` bound what is drawn.
    """

    sigma: float = 0.0
    min_ns: int = 0
    max_ns: int = LONGEST_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request of a session.

    `messages` are the messages this turn adds; the history (earlier turns and their live replies) is put in front by the
    plan. `payload` instead of messages: the body is sent as it is. `isl`: planned input tokens, None if unknown (then
    counted from the text); `osl`: output tokens asked for. `at_ns`: due time since the first of the schedule; `delay_ns`:
    think time after the previous reply.
    """

    messages: tuple[Message, ...] = ()
    payload: Mapping[str, object] | None = None
    isl: int | None = None
    osl: int | None = None
    at_ns: int | None = None
    delay_ns: int = 0
    model: str | None = None
    tools: tuple[Mapping[str, object], ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    fresh: bool = False
    """The messages are the whole conversation already: put no history in front."""
    expected: str | None = None
    """The recorded answer: where no output length is asked for, its tokens are."""
    fill: bool = False
    """The endpoint's own fields (model, stream, …) are put into `payload` where it has none."""
    after: tuple[tuple[str, int], ...] = ()
    """(session id, turn) pairs that must have ended before this turn may start: fork and join."""
    silent: Pause | None = None
    """It sends nothing and ends at once, after its think time: what waits for it begins then."""


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation: its turns are sent one after the other, each when the reply to the one before has ended.

    `parent`: id of the session that started this one (a sub-agent), None for a root.
    """

    id: str
    turns: tuple[Turn, ...]
    system: tuple[Part, ...] = ()
    parent: str | None = None

    @property
    def name(self) -> str:
        """What files call it: several sessions of one name have ids that differ behind a `SAME_NAME`."""
        return self.id.partition(SAME_NAME)[0]

"""Ready bodies: what the endpoint adds to those that a file gives without a type, and which options no ready body can use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from aiperf.config.model import Config, specs
from aiperf.endpoints import BodyOptions, Endpoint
from aiperf.errors import Note
from aiperf.session import Message, Session, Turn

__all__ = ["Envelope", "ReadyBodies"]

_LIMITS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"})
_PROMPT = "\ue000the prompt\ue001"

_FRONT = (
    "prompt.system_prompt",
    "prompt.system_prompt_file",
    "prompt.shared_system_prompt_length",
    "prompt.prefix_prompt_pool_size",
    "prompt.prefix_prompt_length",
    "prompt.user_context_prompt_length",
    "prompt.cache_bust",
    "prompt.batch_size_text",
)
"""Options that change prompts; a ready body has its own."""
_BODY = (
    "endpoint.extra_inputs",
    "endpoint.use_legacy_max_tokens",
    "endpoint.force_min_tokens",
    "endpoint.ignore_eos",
    "prompt.osl_mean",
    "prompt.osl_stddev",
)
"""Options that add fields to a body."""


class Envelope:
    """What an endpoint's body says besides the prompt: model, stream, output length, the user's extra inputs."""

    def __init__(self, endpoint: Endpoint, options: BodyOptions) -> None:
        self._endpoint, self._options = endpoint, options
        self._known: dict[tuple[str, int | None], Mapping[str, object]] = {}

    def missing(self, turn: Turn, model: str) -> dict[str, object]:
        """Fields to put into the turn's `payload`: those it has none of, and no second limit of the output."""
        payload = turn.payload or {}
        fields = self._fields(model, None if _LIMITS & payload.keys() else turn.osl)
        found = {name: value for name, value in fields.items() if name not in payload}
        if payload.get("stream", fields.get("stream")) is not True:
            found.pop("stream_options", None)
        return found

    def _fields(self, model: str, osl: int | None) -> Mapping[str, object]:
        known = self._known.get((model, osl))
        if known is None:
            turn = Turn(messages=(Message(role="user", parts=(_PROMPT,)),), osl=osl, model=model)
            body = self._endpoint.body(turn, (), replace(self._options, model=model))
            known = {name: value for name, value in body.items() if _PROMPT not in repr(value)}
            known = self._known[(model, osl)] = {n: v for n, v in known.items() if not isinstance(v, tuple)}
        return known


class ReadyBodies:
    """Counts what is filled in as sessions pass, and names the options that have no effect."""

    def __init__(self, config: Config, endpoint: Endpoint, options: BodyOptions) -> None:
        self._config = config
        self._envelope = Envelope(endpoint, options)
        self._filled: Counter[str] = Counter()
        self._verbatim: Counter[str] = Counter()
        self._fills = self._stands = self._others = 0

    def watch(self, sessions: Iterable[Session]) -> Iterator[Session]:
        for session in sessions:
            for turn in session.turns:
                self._count(turn)
            yield session

    def _count(self, turn: Turn) -> None:
        if turn.payload is None:
            self._others += 1
        elif turn.fill:
            self._fills += 1
            self._filled.update(self._envelope.missing(turn, "").keys())
        else:
            self._stands += 1
            self._verbatim["--model"] += "model" not in turn.payload
            is_streamed = turn.payload.get("stream") is True
            self._verbatim["--streaming"] += self._config.endpoint.streaming and not is_streamed

    def notes(self) -> Iterator[Note]:
        """Once all sessions have passed."""
        total = self._fills + self._stands
        if self._fills:
            listed = ", ".join(f"`{name}` ({n:,})" for name, n in self._filled.items()) or "nothing"
            text = (
                f"request bodies of the file: {self._fills:,}; filled in where a body has none: {listed} "
                "(`--custom-dataset-type raw_payload` sends them exactly as they stand)"
            )
            yield Note("bodies_filled", text, {"count": self._fills, "fields": dict(self._filled)})
        for flag, count in self._verbatim.items():
            if count:
                what = "name no model" if flag == "--model" else "do not ask for a stream"
                text = f"request bodies sent as they stand that {what}, whatever `{flag}` says: {count:,} of {total:,}"
                yield Note("option_without_effect", text, {"option": flag, "count": count})
        names = (*_FRONT, *(_BODY if self._stands and not self._fills else ()))
        given = [specs()[n].shown for n in names if total and not self._others and self._config.is_set(n)]
        if given:
            listed = ", ".join(f"`{flag}`" for flag in given)
            text = f"options without effect, since the bodies of the file are ready: {listed}"
            yield Note("option_without_effect", text, {"options": given, "count": total})

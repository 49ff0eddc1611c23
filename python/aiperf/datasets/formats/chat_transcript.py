"""`chat_transcript`: recorded conversations as OpenAI messages, tools included. JSON Lines or a JSON list.

`{"messages": [{"role": "user", …}, {"role": "assistant", "tool_calls": […]}, {"role": "tool", "tool_call_id": "a", "delay_ms": 420, …}, …],
"tools": […], "session_id": "a"}`. What the file leaves open is recognised, said, and can be chosen (`--dataset-option rows=…`):

* `transcripts`: a row is a whole conversation; each response in it is a request, with all that stands before it.
* `prompts`: a row is a request with its whole prompt; rows of one `session_id` are the turns of a conversation.
* `additions`: a row is what a turn adds to the conversation of its `session_id`.

`delay_ms` (or `delay`) of a message: how long a tool or a person took; messages between two responses count as sent at once, so the
longest one counts. Of a row: `timestamp` (ms), `delay_ms`, `model`, and fields of the request's body (`temperature`, `tool_choice`, …).
The recorded response says how many tokens are asked for. History is the recorded one, or with `--agentic-history live` the server's
responses, with the recorded tool calls, which the results that follow need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from aiperf.datasets import DatasetOptions
from aiperf.datasets.chat import message_of
from aiperf.datasets.entry import MAX_MS, MAX_TOKENS
from aiperf.datasets.rows import iter_rows
from aiperf.json_text import json_text
from aiperf.reading.problems import BadField
from aiperf.session import Message, Reply, Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "is_transcript", "load"]

FIELDS = (frozenset({"messages", "session_id"}), frozenset({"messages", "conversation_id"}))
SAMPLING = "sequential"

Rows = Literal["transcripts", "prompts", "additions"]

_DELAYS: Final = ("delay_ms", "delay")
_BODY: Final = (
    *("temperature", "top_p", "top_k", "stop", "seed", "tool_choice", "parallel_tool_calls", "response_format"),
    *("presence_penalty", "frequency_penalty", "reasoning_effort", "chat_template_kwargs"),
)
"""Fields of a request's body that a row may have; they are sent as they are."""
_TOLD: Final = {
    "transcripts": "whole conversations, a request for each response in them",
    "prompts": "requests with their whole prompts",
    "additions": "what each turn adds to its conversation",
}


class Options(DatasetOptions):
    rows: Literal["auto", "transcripts", "prompts", "additions"] = Field(
        default="auto",
        description="What a row is: a conversation (transcripts), a whole prompt (prompts), what a turn adds (additions)",
    )
    history: Literal["recorded", "live"] = Field(
        default="recorded",
        description="Responses in the history: the recorded ones or the server's (`--agentic-history`)",
    )


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    messages: list[dict[str, object]] = Field(min_length=1)
    tools: list[dict[str, object]] = Field(default_factory=list)
    session_id: str | int | None = None
    conversation_id: str | int | None = None
    id: str | int | None = None
    model: str | None = None
    timestamp: float | None = Field(default=None, ge=0, le=MAX_MS)
    delay_ms: float | None = Field(default=None, ge=0, le=MAX_MS)
    delay: float | None = Field(default=None, ge=0, le=MAX_MS)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: object = None
    top_p: object = None
    top_k: object = None
    stop: object = None
    seed: object = None
    tool_choice: object = None
    parallel_tool_calls: object = None
    response_format: object = None
    presence_penalty: object = None
    frequency_penalty: object = None
    reasoning_effort: object = None
    chat_template_kwargs: object = None

    @field_validator("messages")
    @classmethod
    def _has_roles(cls, value: list[dict[str, object]]) -> list[dict[str, object]]:
        if wrong := next((w for number, m in enumerate(value) if (w := _wrong(number, m))), None):
            raise ValueError(wrong)
        return value

    @property
    def session(self) -> str | None:
        found = next((v for v in (self.session_id, self.conversation_id) if v is not None), None)
        return None if found is None else str(found)

    @property
    def wait_ms(self) -> float:
        return self.delay_ms if self.delay_ms is not None else self.delay or 0.0

    @property
    def body(self) -> dict[str, object]:
        """What goes into the request's body."""
        return {k: v for k in _BODY if (v := getattr(self, k)) is not None}


def _wrong(number: int, message: Mapping[str, object]) -> str | None:
    """What is wrong with a message of a row."""
    if not isinstance(message.get("role"), str):
        return f"message {number} has no `role`"
    for name in _DELAYS:
        delay = message.get(name)
        is_number = isinstance(delay, int | float) and not isinstance(delay, bool)
        if delay is not None and not (is_number and 0 <= float(str(delay)) <= MAX_MS):
            return f"`{name}` of message {number} must be milliseconds ≥ 0"
    return None


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    row: _Row


def is_transcript(record: Mapping[str, object]) -> bool:
    """Is a record with `messages` a conversation that has happened? Its last message is a response."""
    messages = record.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") == "assistant"


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Sessions in the order of their first rows. DatasetError for a conversation without anything to send."""
    own = options if isinstance(options, Options) else Options(**options.model_dump())
    sessions: dict[str, list[_Line]] = {}
    for number, row in iter_rows(options.file, options, _Row):
        sessions.setdefault(row.session or f"line-{number}", []).append(_Line(number, row))
    kinds = _kinds(sessions)
    if own.rows != "auto":
        kinds = dict.fromkeys(kinds, own.rows)
    _tell(options, own, kinds, sessions)
    for name, lines in sessions.items():
        build = {"transcripts": _transcript, "prompts": _prompts, "additions": _additions}[kinds[name]]
        if turns := build(options, name, lines, is_live=own.history == "live"):
            yield Session(name, turns)


def _kinds(sessions: Mapping[str, Sequence[_Line]]) -> dict[str, Rows]:
    """What the rows of each session are. Nobody sends a request that ends with a response: where one row does, all single ones are
    conversations, also those that were left open.
    """
    singles = [lines[0].row.messages for lines in sessions.values() if len(lines) == 1]
    single: Rows = "transcripts" if any(m[-1]["role"] == "assistant" for m in singles) else "prompts"

    def kind(lines: Sequence[_Line]) -> Rows:
        grows = (b.row.messages[: len(a.row.messages)] == a.row.messages for a, b in pairwise(lines))
        return single if len(lines) == 1 else "prompts" if all(grows) else "additions"

    return {name: kind(lines) for name, lines in sessions.items()}


def _tell(
    options: DatasetOptions, own: Options, kinds: Mapping[str, Rows], sessions: Mapping[str, list[_Line]]
) -> None:
    """What the rows were taken for, with their number."""
    counts: Counter[Rows] = Counter()
    for name, kind in kinds.items():
        counts[kind] += len(sessions[name])
    told = "; ".join(f"{_TOLD[kind]}: {count:,}" for kind, count in counts.most_common())
    how = "as `--dataset-option rows` says" if own.rows != "auto" else "`--dataset-option rows=…` chooses otherwise"
    options.note("rows_taken_for", f"rows of the file are {told} ({how})", rows=dict(counts))


@dataclass(slots=True, kw_only=True)
class _Conversation:
    """Messages so far, as they are sent in front of the next request."""

    name: str
    is_live: bool
    messages: list[Message] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    wait_ms: float = 0.0

    def hear(self, message: Mapping[str, object]) -> None:
        """A message of somebody else than the model."""
        self.wait_ms = max(self.wait_ms, _delay(message))
        self.messages.append(message_of(_plain(message)))

    def request(self, row: _Row, answer: Mapping[str, object] | None, *, opens_row: bool = True) -> None:
        """Send what there is; `answer` is the recorded response, which goes into the history. A row's times are its first request's."""
        wait_ms = self.wait_ms + (row.wait_ms if opens_row else 0.0)
        at_ms = row.timestamp if opens_row else None
        self.turns.append(
            Turn(
                messages=tuple(self.messages),
                osl=None if answer is not None else row.max_completion_tokens or row.max_tokens,
                delay_ns=round(wait_ms * 1e6) if self.turns else 0,
                at_ns=None if at_ms is None else round(at_ms * 1e6),
                model=row.model,
                tools=tuple(row.tools),
                extra=row.body,
                fresh=True,
                expected=None if answer is None else _text_of(answer),
            )
        )
        self.wait_ms = 0.0

    def answered(self, answer: Mapping[str, object]) -> None:
        """The response to the last request."""
        recorded = message_of(_plain(answer))
        if self.is_live:
            # The results that follow answer the recorded calls: a response without them would leave them without a question.
            calls = {k: v for k, v in recorded.extra.items() if k == "tool_calls"}
            recorded = Message(role="assistant", parts=(Reply(len(self.turns) - 1),), extra=calls)
        self.messages.append(recorded)


def _transcript(options: DatasetOptions, name: str, lines: Sequence[_Line], *, is_live: bool) -> tuple[Turn, ...]:
    """A request for each response; one more if the conversation does not end with one."""
    talk = _Conversation(name=name, is_live=is_live)
    for line in lines:
        opens_row, is_open = True, False
        for message in line.row.messages:
            if message["role"] != "assistant":
                talk.hear(message)
                is_open = True
                continue
            if is_open:
                talk.request(line.row, message, opens_row=opens_row)
                talk.answered(message)
                opens_row = False
            else:  # two responses in a row, or one before any question: they are history, nobody asked for them
                talk.messages.append(message_of(_plain(message)))
            is_open = False
        if is_open:
            talk.request(line.row, None, opens_row=opens_row)
    if not talk.turns:
        _nothing(options, lines)
    return tuple(talk.turns)


def _prompts(options: DatasetOptions, name: str, lines: Sequence[_Line], *, is_live: bool) -> tuple[Turn, ...]:
    """Each row is sent whole; the response to one is in the next one."""
    talk = _Conversation(name=name, is_live=is_live)
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        messages = list(line.row.messages)
        answer = None
        if messages[-1]["role"] == "assistant":
            answer = messages.pop()
        elif following is not None and len(following.row.messages) > len(messages):
            after = following.row.messages[len(messages)]
            answer = after if after["role"] == "assistant" else None
        known = len(talk.messages) if talk.turns and is_live else 0
        if not known:
            talk.messages.clear()
        for message in messages[known:]:
            talk.hear(message)
        if not talk.messages:
            _nothing(options, [line])
            continue
        talk.request(line.row, answer)
        if answer is not None and is_live:
            talk.answered(answer)
    return tuple(talk.turns)


def _additions(options: DatasetOptions, name: str, lines: Sequence[_Line], *, is_live: bool) -> tuple[Turn, ...]:
    """A row may begin with the response to the one before, or end with its own; else the server's is all there is."""
    talk = _Conversation(name=name, is_live=is_live)
    for line in lines:
        messages = list(line.row.messages)
        if messages[0]["role"] == "assistant" and talk.turns:
            answer = messages.pop(0)
            talk.turns[-1] = replace(talk.turns[-1], expected=_text_of(answer), osl=None)
            talk.answered(answer)
        elif talk.turns and (not talk.messages or talk.messages[-1].role != "assistant"):
            talk.messages.append(Message(role="assistant", parts=(Reply(len(talk.turns) - 1),)))
        own = messages.pop() if messages and messages[-1]["role"] == "assistant" else None
        for message in messages:
            talk.hear(message)
        if messages:
            talk.request(line.row, own)
            if own is not None:
                talk.answered(own)
        else:
            _nothing(options, [line])
    return tuple(talk.turns)


def _nothing(options: DatasetOptions, lines: Sequence[_Line]) -> None:
    """A row that asks for nothing. DatasetError unless broken rows are left out."""
    bad = BadField("messages", "at least one message that is not a response", "responses alone")
    options.invalid(options.file, lines[0].number, bad)


def _delay(message: Mapping[str, object]) -> float:
    found = next((v for name in _DELAYS if isinstance(v := message.get(name), int | float)), 0.0)
    return float(found)


def _plain(message: Mapping[str, object]) -> dict[str, object]:
    """The message as it is sent."""
    return {k: v for k, v in message.items() if k not in _DELAYS}


def _text_of(answer: Mapping[str, object]) -> str:
    """What the model has written, calls of tools included."""
    content = answer.get("content")
    texts = [content] if isinstance(content, str) and content else []
    if isinstance(content, list):
        texts = [str(c["text"]) for c in content if isinstance(c, dict) and "text" in c]
    calls = answer.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        texts.append(json_text(function if function is not None else call))
    return "\n".join(texts)

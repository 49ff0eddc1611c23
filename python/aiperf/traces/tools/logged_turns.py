"""Requests of a log: each line's prompt, tokenised message by message, and the length of its response.

What a line is: a whole prompt, what a request adds to its conversation, or a transcript: a conversation that has happened, which ends with a
response, and in which each response is a request with all that stands before it. The text of a message is its content, and of a call of a
tool the name and the arguments: as `aiperf capture` reads prompts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiperf.json_text import json_text
from aiperf.reading.problems import BadField, fields_of, quote
from aiperf.traces import NO_TIME
from aiperf.traces.formats.generic import Options as GenericOptions
from aiperf.traces.formats.generic import parse_time
from aiperf.traces.reading.column_builder import time_ns, whole

__all__ = ["PROMPT_FIELDS", "LogReader", "LogTurn", "Prompt", "Rows"]

Rows = Literal["auto", "transcripts", "prompts", "additions"]
Encode = Callable[[str], Sequence[int]]
Record = Mapping[str, object]

PROMPT_FIELDS = ("messages", "prompt", "text_input", "text", "input", "question")
_ANSWER_FIELDS = ("response", "completion", "output", "answer", "text_output")
_LENGTH_FIELDS = ("output_length", "completion_tokens", "output_tokens")
_SESSION_FIELDS = ("session_id", "conversation_id", "chat_id", "user")
_DELAY_FIELDS = ("delay_ms", "delay")
_TEXTS = ("reasoning_content", "reasoning", "content", "text", "thinking", "output", "refusal")
_MS = 1_000_000
_TIMES = GenericOptions(path=Path())


@dataclass(slots=True)
class Prompt:
    """`marks`: parts that are no text, each with the tokens in front of it and a digest."""

    tokens: list[int] = field(default_factory=list)
    marks: list[tuple[int, bytes]] = field(default_factory=list)

    def copy(self) -> Prompt:
        return Prompt(list(self.tokens), list(self.marks))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTurn:
    """One request. `output_length` None: the log does not say. `session`: the log's own name; `at_ns`, `delay_ns`: as in a trace's table."""

    prompt: Prompt
    output_length: int | None
    session: str | None
    at_ns: int
    delay_ns: int


class LogReader:
    """`counts`: lines by what they were taken for. `broken_off`: whole prompts that do not begin with the one before in their session."""

    def __init__(self, encode: Encode, rows: Rows, prompt_field: str | None) -> None:
        self.counts: Counter[str] = Counter()
        self.broken_off = 0
        self._encode, self._rows, self._field = encode, rows, prompt_field
        self._histories: dict[str, Prompt] = {}
        self._before: dict[str, list[bytes]] = {}

    def turns(self, number: int, record: Record) -> list[LogTurn]:
        """BadField for a line without a prompt."""
        name = self._field or next((n for n in PROMPT_FIELDS if record.get(n)), None)
        if name is None or name not in record:
            wanted = f"`{self._field}`" if self._field else " or ".join(f"`{n}`" for n in PROMPT_FIELDS)
            raise BadField(None, f"a prompt in {wanted}", f"the fields {fields_of(record)}")
        messages = _messages(name, record[name])
        session = next((str(record[n]) for n in _SESSION_FIELDS if record.get(n) is not None), None)
        kind = self._kind(record, messages) if self._rows == "auto" else self._rows
        self.counts[kind] += 1
        if kind == "transcripts":
            return list(self._transcript(record, messages, session if session is not None else f"line-{number}"))
        if kind == "prompts" and session is not None:
            self._look_back(session, messages)
        return [self._one(record, name, messages, session, adds=kind == "additions")]

    def _kind(self, record: Record, messages: Sequence[Record]) -> str:
        """A conversation that has happened ends with a response, and has none beside it."""
        has_answer = any(record.get(n) is not None for n in (*_ANSWER_FIELDS, *_LENGTH_FIELDS))
        return "transcripts" if messages[-1].get("role") == "assistant" and not has_answer else "prompts"

    def _look_back(self, session: str, messages: Sequence[Record]) -> None:
        digests = [hashlib.blake2b(_compact(m).encode(), digest_size=8).digest() for m in messages]
        before = self._before.get(session, [])
        self.broken_off += digests[: len(before)] != before
        self._before[session] = digests

    def _one(
        self, record: Record, name: str, messages: Sequence[Record], session: str | None, *, adds: bool
    ) -> LogTurn:
        prompt = self._histories.get(session or "", Prompt()).copy() if adds else Prompt()
        if not (adds and prompt.tokens):
            self._tools(prompt, record)
        for message in messages:
            self._add(prompt, message)
        if not prompt.tokens:
            raise BadField(name, "a prompt that is not empty", quote(record[name]))
        length = next((n for n in _LENGTH_FIELDS if record.get(n) is not None), None)
        answer = next((record[n] for n in _ANSWER_FIELDS if isinstance(record.get(n), str)), None)
        output = whole(dict(record), length, 0) if length is not None else None
        said = self._encode(answer) if isinstance(answer, str) else []
        if adds and session is not None:
            history = prompt.copy()
            history.tokens += said
            self._histories[session] = history
        return LogTurn(
            prompt=prompt,
            output_length=output if output is not None else len(said) if answer is not None else None,
            session=session,
            at_ns=parse_time(dict(record), _TIMES),
            delay_ns=_delay(record),
        )

    def _transcript(self, record: Record, messages: Sequence[Record], session: str) -> Iterator[LogTurn]:
        """Two responses in a row are one request: nobody asked for the second. BadField if there is none at all."""
        prompt = Prompt()
        self._tools(prompt, record)
        is_open, wait, ended = False, _delay(record), NO_TIME
        asked, is_first = parse_time(dict(record), _TIMES), True
        for message in messages:
            at = parse_time(dict(message), _TIMES)
            if message.get("role") != "assistant":
                self._add(prompt, message)
                is_open, wait = True, max(wait, _delay(message))
                asked = at if at != NO_TIME else asked
                continue
            before = prompt.copy() if is_open else prompt
            self._add(prompt, message)
            if is_open and before.tokens:
                yield LogTurn(
                    prompt=before,
                    output_length=len(prompt.tokens) - len(before.tokens),
                    session=session,
                    at_ns=asked,
                    delay_ns=0 if is_first else max(wait, asked - ended if NO_TIME not in (asked, ended) else 0),
                )
                wait, asked, is_first = 0, NO_TIME, False
            is_open, ended = False, at
        if is_first:
            raise BadField("messages", "a conversation with a response behind a question", quote(list(messages)[:1]))

    def _tools(self, prompt: Prompt, record: Record) -> None:
        if tools := record.get("tools"):
            prompt.tokens += self._encode(_compact(tools))

    def _add(self, prompt: Prompt, message: Record) -> None:
        for piece in _pieces(message):
            if isinstance(piece, bytes):
                prompt.marks.append((len(prompt.tokens), piece))
            elif piece:
                prompt.tokens += self._encode(piece)


def _compact(value: object) -> str:
    """JSON as OpenAI's client writes it into a request."""
    return json_text(value, separators=(",", ":"))


def _messages(name: str, value: object) -> list[Record]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise BadField(name, "text or a list of messages", quote(value))
    if bad := next((m for m in value if not isinstance(m, dict)), None):
        raise BadField(name, "a list of messages", quote(bad))
    return value


def _delay(of: Record) -> int:
    return max(0, *(time_ns(dict(of), name, _MS) for name in _DELAY_FIELDS))


def _pieces(message: Record) -> list[str | bytes]:
    """Its text, in pieces between its parts that are no text; of those a digest of 16 bytes each."""
    out: list[str | bytes] = [""]

    def say(text: str) -> None:
        last = out[-1]
        if isinstance(last, str):
            out[-1] = last + text
        else:
            out.append(text)

    def content(value: object) -> None:
        if isinstance(value, str):
            say(value)
        for part in value if isinstance(value, list) else ():
            if isinstance(part, str):
                say(part)
            elif isinstance(part, dict) and not fields(part):
                out.append(hashlib.sha256(_compact(part).encode()).digest()[:16])

    def fields(of: Record) -> bool:
        """Whether there is any that holds text."""
        held = [of[n] for n in _TEXTS if n in of]
        for value in held:
            content(value)
        if isinstance(calls := of.get("tool_calls"), list):
            for call in calls:
                function = call.get("function") if isinstance(call, dict) else None
                if isinstance(function, dict):
                    say(f"{function.get('name') or ''}{function.get('arguments') or ''}")
        if (arguments := of.get("input")) is not None:  # Anthropic's call of a tool
            say(f"{of.get('name') or ''}{_compact(arguments)}")
        return bool(held) or "tool_calls" in of or arguments is not None

    fields(message)
    return out

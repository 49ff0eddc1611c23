"""Prompts of one's own logs → a trace that can be shared: lengths, times, and ids that tell equal prefixes and nothing else.

A prompt is tokenised and cut into blocks. The id of a block is a keyed BLAKE2b (key: the salt) of the id before it and of
its tokens, cut to 53 bits (every JSON reader keeps those exact): equal prefixes give equal ids, and without the salt no id
can be checked against a guessed text. A random salt is drawn unless one is given, and written nowhere. Session ids are
hashed likewise. No text goes into the output, and no field but those of a Mooncake line.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, fields_of, quote
from aiperf.traces import TraceOptions, TraceTable
from aiperf.traces.formats.generic import Options as GenericOptions
from aiperf.traces.formats.generic import parse_time
from aiperf.traces.reading.column_builder import Row, read_jsonl, whole

__all__ = ["PROMPT_FIELDS", "Hasher", "hash_prompts"]

PROMPT_FIELDS = ("messages", "prompt", "text_input", "text", "input", "question")
_ANSWER_FIELDS = ("response", "completion", "output", "answer", "text_output")
_LENGTH_FIELDS = ("output_length", "completion_tokens", "output_tokens")
_SESSION_FIELDS = ("session_id", "conversation_id", "chat_id", "user")
_BITS = 53

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Hasher:
    """`salt`: at most 64 bytes."""

    salt: bytes
    block_size: int

    @classmethod
    def create(cls, block_size: int, salt: str | None = None) -> Hasher:
        """A random salt if none is given. DatasetError if the block size or the salt is no good."""
        if block_size < 1:
            raise DatasetError(f"a block has at least one token, found {block_size}")
        if salt is not None and len(salt) < 8:
            raise DatasetError("the salt is too short to keep anything secret", "take 16 random characters or more")
        key = secrets.token_bytes(32) if salt is None else hashlib.blake2b(salt.encode(), digest_size=32).digest()
        return cls(key, block_size)

    def blocks(self, tokens: Sequence[int]) -> list[int]:
        """One id per block, the last perhaps partial; a partial block has another id than the full one it may become."""
        ids = []
        before = b""
        for start in range(0, len(tokens), self.block_size):
            data = array("q", tokens[start : start + self.block_size]).tobytes()
            before = hashlib.blake2b(before + data, digest_size=8, key=self.salt).digest()
            ids.append(int.from_bytes(before, "little") >> (64 - _BITS))
        return ids

    def name(self, session: str) -> str:
        return hashlib.blake2b(session.encode(), digest_size=8, key=self.salt, person=b"session").hexdigest()


def hash_prompts(
    path: Path, encode: Encode, hasher: Hasher, *, prompt_field: str | None = None, skip_invalid: bool = False
) -> TraceTable:
    """JSONL of prompts → table. A line's prompt: text, or a list of chat messages (their contents are tokenised one by one,
    so a prompt that begins with the same messages begins with the same tokens); its answer's length: given, or counted from
    the answer's text; its time and session as in the generic format. DatasetError as when a trace is read.
    """
    options = TraceOptions(path=path, block_size=hasher.block_size, skip_invalid=skip_invalid)
    times = GenericOptions(path=path)

    def parse(record: dict[str, object], row: Row) -> None:
        tokens = [t for text in _texts(record, prompt_field) for t in encode(text)]
        if not tokens:
            raise BadField(prompt_field, "a prompt that is not empty", quote(record.get(prompt_field or "prompt")))
        row.input_length = len(tokens)
        row.hash_ids = hasher.blocks(tokens)
        row.at_ns = parse_time(record, times)
        name = next((n for n in _LENGTH_FIELDS if record.get(n) is not None), None)
        answer = next((record[n] for n in _ANSWER_FIELDS if isinstance(record.get(n), str)), None)
        if name is not None:
            row.output_length = whole(record, name, 0)
        elif isinstance(answer, str):
            row.output_length = len(encode(answer))
        session = next((record[n] for n in _SESSION_FIELDS if record.get(n) is not None), None)
        if session is not None:
            row.session = hasher.name(str(session))

    return read_jsonl(path, "mooncake_trace", options, parse)


def _texts(record: dict[str, object], field: str | None) -> list[str]:
    name = field or next((n for n in PROMPT_FIELDS if record.get(n)), None)
    if name is None or name not in record:
        wanted = f"`{field}`" if field else " or ".join(f"`{n}`" for n in PROMPT_FIELDS)
        raise BadField(None, f"a prompt in {wanted}", f"the fields {fields_of(record)}")
    value = record[name]
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise BadField(name, "text or a list of messages", quote(value))
    out = []
    for message in value:
        if not isinstance(message, dict):
            raise BadField(name, "a list of messages", quote(message))
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
        if calls := message.get("tool_calls"):
            content = f"{content or ''}{json.dumps(calls, sort_keys=True)}"
        if isinstance(content, str) and content:
            out.append(content)
    return out

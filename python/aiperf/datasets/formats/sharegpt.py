"""`sharegpt`: conversations of people with ChatGPT, a JSON list or JSON Lines of
`{"id": "…", "conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}`.

As vLLM and AIPerf do: the first question is the request, the first recorded answer gives its output length; prompts and
answers under 4 tokens, prompts over 1,024 and pairs over 2,048 are left out. `turns=all` sends the whole conversation, with
the server's own answers in the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.rows import iter_objects
from aiperf.reading.problems import BadField, fields_of, place, quote
from aiperf.session import Message, Part, Session, Turn

__all__ = ["FIELDS", "REPOSITORY", "SAMPLING", "Options", "load"]

FIELDS = (frozenset({"conversations"}), frozenset({"conversation"}))
SAMPLING = "sequential"
REPOSITORY = ("anon8231489123/ShareGPT_Vicuna_unfiltered", "ShareGPT_V3_unfiltered_cleaned_split.json")
"""On the Hugging Face hub: repository and file."""

_USED = {"id", "conversations", "conversation"}
_PEOPLE = {"human", "user"}
_MODELS = {"gpt", "chatgpt", "assistant", "bing", "bard", "model"}


class Options(DatasetOptions):
    turns: Literal["first", "all"] = Field(default="first", description="The first question, or the conversation")
    min_tokens: int | None = Field(
        default=4, ge=1, description="Minimum length of the prompt and of the recorded response"
    )
    max_prompt_tokens: int | None = Field(default=1024, ge=1, description="Longest prompt")
    max_total_tokens: int | None = Field(
        default=2048, ge=1, description="Maximum length of prompt and response together"
    )


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Without a path: from the hub or its local cache. Conversations without a question and an answer are left out."""
    if not isinstance(options, Options):
        raise TypeError("sharegpt.load takes sharegpt.Options")
    path = _download() if options.path is None else options.path
    short = 0
    seen: set[str] = set()
    for number, record in iter_objects(path, options):
        try:
            turns = _turns(record)
        except BadField as bad:
            options.invalid(path, number, bad)
            continue
        options.unused(record.keys() - _USED)
        if not turns[1]:
            short += 1
            continue
        name = str(record.get("id") or place(number))
        name = name if name not in seen else f"{name} ({place(number)})"
        seen.add(name)
        yield Session(name, turns[1] if options.turns == "all" else turns[1][:1], turns[0])
    if short:
        options.note("no_answer", f"conversations without a question and an answer, left out: {short:,}", count=short)


def _download() -> Path:
    from aiperf.datasets.hub import download

    return download(*REPOSITORY)


def _turns(record: dict[str, object]) -> tuple[tuple[Part, ...], tuple[Turn, ...]]:
    """System text and turns. BadField for a broken record."""
    said = record.get("conversations", record.get("conversation"))
    if not isinstance(said, list):
        found = f"no such field (there are {fields_of(record)})" if said is None else quote(said)
        raise BadField("conversations", "a list", found)
    system: tuple[Part, ...] = ()
    turns: list[Turn] = []
    question: str | None = None
    for i, item in enumerate(said):
        speaker = item.get("from", item.get("role")) if isinstance(item, dict) else None
        text = item.get("value", item.get("content")) if isinstance(item, dict) else None
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise BadField(f"conversations.{i}", "texts `from` and `value`", quote(item))
        if speaker == "system" and not turns and text:
            system = (text,)
        elif speaker in _PEOPLE:
            question = text
        elif speaker in _MODELS and question and text:
            turns.append(Turn(messages=(Message(role="user", parts=(question,)),), expected=text))
            question = None
    return system, tuple(turns)

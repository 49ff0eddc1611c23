"""`dag_jsonl`: branching conversations, as agents make them. AIPerf's format; JSON Lines, one conversation each:

```
{"session_id": "main", "turns": [{"messages": [{"role": "user", "content": "Plan."}], "spawns": ["a", "b"]},
                                 {"messages": [{"role": "user", "content": "Sum up."}]}]}
{"session_id": "a", "turns": [{"messages": [{"role": "user", "content": "Search."}], "max_tokens": 64}]}
{"session_id": "b", "turns": [{"messages": [{"role": "user", "content": "Read."}]}]}
```

* A turn adds `messages` (OpenAI's) to its conversation, behind the server's live answers; `model`, `max_tokens`, `tools`, `delay`
  (ms), `extra` (merged into the body).
* `forks`: conversations that go on from here with the whole history; the parent ends, unless written
  `{"child": "x", "background": true}`.
* `spawns`: conversations of their own that start when the turn has ended; the parent's next turn waits for all of them (join), or
  the turn `join_at` of `{"children": ["x"], "join_at": 3}`.
* `pre_session_spawns` of a conversation start with it; nothing waits for them.
* `context_mode: "message_array_with_responses"`: each turn is complete, no history goes in front.

A conversation nobody starts is a root. Unlike AIPerf: `orchestrator` conversations, which send nothing, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from aiperf.datasets import DatasetOptions
from aiperf.datasets.chat import message_of
from aiperf.datasets.entry import MAX_MS, MAX_TOKENS
from aiperf.datasets.rows import iter_rows
from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField
from aiperf.session import Message, Reply, Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS = (frozenset({"turns.messages"}),)
SAMPLING = "sequential"


class Options(DatasetOptions):
    pass


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Fork(_Model):
    child: str = Field(min_length=1)
    background: bool = False


class _Spawn(_Model):
    children: list[str] = Field(min_length=1)
    join_at: int | None = Field(default=None, ge=1)


class _Turn(_Model):
    messages: list[dict[str, object]] = Field(min_length=1)
    model: str | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS, strict=True)
    tools: list[dict[str, object]] | None = None
    extra: dict[str, object] | None = None
    forks: list[str | _Fork] = Field(default_factory=list)
    spawns: list[str | _Spawn] = Field(default_factory=list)
    delay: float = Field(default=0, ge=0, le=MAX_MS)

    @field_validator("messages")
    @classmethod
    def _has_roles(cls, value: list[dict[str, object]]) -> list[dict[str, object]]:
        if any(not isinstance(m.get("role"), str) for m in value):
            raise ValueError("each message needs a `role`")
        return value


class _Conversation(_Model):
    session_id: str = Field(min_length=1)
    turns: list[_Turn] = Field(min_length=1)
    pre_session_spawns: list[str] = Field(default_factory=list)
    context_mode: str | None = None


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Parents before their children, roots in the order of the file. DatasetError for a child that is missing or has two
    parents, a circle, a turn behind a fork, or a join that is not behind its spawn.
    """
    path = options.file
    found: dict[str, _Conversation] = {}
    for line, row in iter_rows(path, options, _Conversation):
        if row.session_id in found:
            bad = BadField("session_id", "an id of its own", f"`{row.session_id}` a second time")
            options.invalid(path, line, bad)
            continue
        found[row.session_id] = row
    parent = _parents(found, str(path))
    yielded = 0
    stack = [name for name in reversed(found) if name not in parent]
    starts: dict[str, _Start] = {}
    while stack:
        name = stack.pop()
        session, children = _session(found, name, starts.get(name, _Start()), str(path))
        starts.update(children)
        stack.extend(reversed(children))
        yielded += 1
        yield session
    if yielded < len(found):
        lost = next(n for n in found if n in parent and n not in starts)
        raise DatasetError(f"the conversations of `{path}` start each other in a circle: `{lost}`")


class _Start:
    """How a conversation begins: what it inherits, and which turns must have ended."""

    def __init__(
        self, history: tuple[Message, ...] = (), after: tuple[tuple[str, int], ...] = (), parent: str | None = None
    ) -> None:
        self.history, self.after, self.parent = history, after, parent


def _children(turn: _Turn) -> list[str]:
    forks = [f if isinstance(f, str) else f.child for f in turn.forks]
    return [*forks, *(c for s in turn.spawns for c in ([s] if isinstance(s, str) else s.children))]


def _parents(found: Mapping[str, _Conversation], path: str) -> dict[str, str]:
    parent: dict[str, str] = {}
    for name, conversation in found.items():
        named = [c for turn in conversation.turns for c in _children(turn)]
        for child in (*conversation.pre_session_spawns, *named):
            if child not in found:
                raise DatasetError(f"conversation `{name}` of `{path}` starts `{child}`, which is not in the file")
            if child in parent:
                raise DatasetError(
                    f"conversation `{child}` of `{path}` is started twice: by `{parent[child]}` and `{name}`"
                )
            parent[child] = name
    return parent


def _session(
    found: Mapping[str, _Conversation], name: str, start: _Start, path: str
) -> tuple[Session, dict[str, _Start]]:
    """The session, and how the conversations it starts begin."""
    conversation = found[name]
    is_complete = conversation.context_mode == "message_array_with_responses"
    where = f"conversation `{name}` of `{path}`"
    children = {c: _Start(parent=name) for c in conversation.pre_session_spawns}
    waits: dict[int, list[tuple[str, int]]] = {}
    history = list(start.history)
    turns: list[Turn] = []
    last = len(conversation.turns) - 1
    for k, row in enumerate(conversation.turns):
        messages = tuple(message_of(m) for m in row.messages)
        turns.append(
            Turn(
                messages=messages,
                osl=row.max_tokens,
                delay_ns=round(row.delay * 1e6),
                model=row.model,
                tools=tuple(row.tools or ()),
                extra=row.extra or {},
                fresh=is_complete,
            )
        )
        history = [*([] if is_complete else history), *messages, Message(role="assistant", parts=(Reply(k, name),))]
        for fork in row.forks:
            child = fork if isinstance(fork, str) else fork.child
            if k < last and (isinstance(fork, str) or not fork.background):
                hint = f'write `{{"child": "{child}", "background": true}}` if the conversation is to go on'
                raise DatasetError(f"{where} has turns behind turn {k}, which ends it by the fork `{child}`", hint)
            children[child] = _Start(tuple(history), ((name, k),), name)
        for spawn in row.spawns:
            named, join = ([spawn], None) if isinstance(spawn, str) else (spawn.children, spawn.join_at)
            if join is not None and not k < join <= last:
                raise DatasetError(f"{where}: `join_at` {join} of turn {k} is not one of its later turns (0 to {last})")
            for child in named:
                children[child] = _Start((), ((name, k),), name)
                if k < last:
                    waits.setdefault(k + 1 if join is None else join, []).append((child, len(found[child].turns) - 1))
    if start.after or start.history:
        turns[0] = replace(turns[0], messages=(*start.history, *turns[0].messages), after=start.after)
    for k, ended in waits.items():
        turns[k] = replace(turns[k], after=(*turns[k].after, *ended))
    return Session(name, tuple(turns), parent=start.parent), children

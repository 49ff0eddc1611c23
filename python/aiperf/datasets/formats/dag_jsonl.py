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
* `orchestrator: true` with `spawns` and no turns: it sends nothing and only starts others. `rounds: 3` starts them three times, each
  time when all of the round before have ended; `rounds: [{"spawns": ["a"], "think_time_ms": 500}, …]` gives each round its own.
  Before a round it waits `think_time_ms`; with `think_time_sigma` a log-normal time of that median, drawn for each play and round,
  within `think_time_min_ms` and `think_time_max_ms`.

A conversation nobody starts is a root; one that several spawn is started for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from aiperf.datasets import DatasetOptions
from aiperf.datasets.chat import message_of
from aiperf.datasets.entry import MAX_MS, MAX_TOKENS
from aiperf.datasets.rows import iter_rows
from aiperf.errors import DatasetError
from aiperf.number_text import exact
from aiperf.reading.problems import BadField
from aiperf.session import LONGEST_NS, SAME_NAME, Message, Pause, Reply, Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS = (frozenset({"turns.messages"}),)
SAMPLING = "sequential"
_MOST = 1_000_000


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


_Ms = Annotated[float, Field(ge=0, le=MAX_MS, strict=True)]


class _Round(_Model):
    spawns: list[str] = Field(min_length=1)
    think_time_ms: _Ms | None = None


class _Conversation(_Model):
    session_id: str = Field(min_length=1)
    turns: list[_Turn] = Field(default_factory=list)
    pre_session_spawns: list[str] = Field(default_factory=list)
    context_mode: str | None = None
    orchestrator: bool = False
    spawns: list[str] = Field(default_factory=list)
    rounds: Annotated[int, Field(ge=1, le=_MOST, strict=True)] | list[_Round] | None = None
    think_time_ms: _Ms | None = None
    think_time_sigma: Annotated[float, Field(gt=0, le=10, strict=True)] | None = None
    think_time_min_ms: _Ms | None = None
    think_time_max_ms: _Ms | None = None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if (wrong := _wrong_orchestrator(self) if self.orchestrator else _wrong_turns(self)) is not None:
            raise ValueError(wrong)
        return self

    def rows(self) -> list[_Turn]:
        """Its turns; an orchestrator's are its rounds, which start others and send nothing, and its end, which waits for the last."""
        if not self.orchestrator:
            return self.turns
        if self.rounds is None:
            return [_Turn.model_construct(messages=[], spawns=list(self.spawns))]
        listed = self.rounds if isinstance(self.rounds, list) else [_Round(spawns=self.spawns)] * self.rounds
        usual = self.think_time_ms or 0
        starts = [
            _Turn.model_construct(
                messages=[],
                spawns=[_Spawn(children=r.spawns)],
                delay=usual if r.think_time_ms is None else r.think_time_ms,
            )
            for r in listed
        ]
        return [*starts, _Turn.model_construct(messages=[])]

    def pause(self) -> Pause | None:
        """How an orchestrator's think times are drawn; None for a conversation with requests."""
        if not self.orchestrator:
            return None
        longest = LONGEST_NS if self.think_time_max_ms is None else round(self.think_time_max_ms * 1e6)
        return Pause(self.think_time_sigma or 0.0, round((self.think_time_min_ms or 0) * 1e6), longest)


_THINKING = ("think_time_ms", "think_time_sigma", "think_time_min_ms", "think_time_max_ms")


def _wrong_turns(row: _Conversation) -> str | None:
    """What a conversation with requests has that it must not have, or lacks."""
    if not row.turns:
        return "a conversation needs `turns`, or `orchestrator: true` and `spawns`"
    if row.spawns:
        return "`spawns` of a whole conversation need `orchestrator: true`; here they belong to a turn"
    given = next((name for name in ("rounds", *_THINKING) if getattr(row, name) is not None), None)
    return None if given is None else f"`{given}` needs `orchestrator: true`"


def _wrong_orchestrator(row: _Conversation) -> str | None:
    if row.turns or row.pre_session_spawns:
        name = "turns" if row.turns else "pre_session_spawns"
        return f"an orchestrator sends nothing itself: it has no `{name}`, only `spawns`"
    if isinstance(row.rounds, list):
        if not row.rounds or row.spawns:
            return "a list of `rounds` has at least one round, each with its own `spawns`, and none beside the list"
        twice = next((c for c, n in Counter(c for r in row.rounds for c in r.spawns).items() if n > 1), None)
        if twice is not None:
            return f"`{twice}` is started by two rounds: each round of a list has conversations of its own"
    elif not row.spawns:
        return "an orchestrator needs `spawns`, or a list of `rounds`"
    return _wrong_thinking(row)


def _wrong_thinking(row: _Conversation) -> str | None:
    """Think times that nothing would be done with."""
    own = [r.think_time_ms for r in row.rounds] if isinstance(row.rounds, list) else []
    least, most = row.think_time_min_ms, row.think_time_max_ms
    if row.think_time_ms is not None and row.rounds is None:
        return "`think_time_ms` is waited before each of the `rounds`, and there are none"
    if row.think_time_sigma is None:
        bounds = least is not None or most is not None
        return (
            "`think_time_min_ms` and `think_time_max_ms` need `think_time_sigma`: they bound what is drawn"
            if bounds
            else None
        )
    if row.think_time_ms is None and all(t is None for t in own):
        return "`think_time_sigma` needs `think_time_ms`, the median to draw around"
    if least is not None and most is not None and least > most:
        return f"`think_time_min_ms` {exact(least)} is above `think_time_max_ms` {exact(most)}"
    return None


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Parents before their children, roots in the order of the file; a conversation that several spawn, once for each. DatasetError
    for a child that is missing or forked twice, a circle, a turn behind a fork, or a join that is not behind its spawn.
    """
    path = options.file
    conversations: dict[str, _Conversation] = {}
    for line, row in iter_rows(path, options, _Conversation):
        if row.session_id in conversations:
            bad = BadField("session_id", "an id of its own", f"`{row.session_id}` a second time")
            options.invalid(path, line, bad)
            continue
        conversations[row.session_id] = row
    started = _started(conversations, str(path))
    ids = _Ids(str(path))
    stack = [_Start(ids.take(name), name) for name in conversations if name not in started][::-1]
    while stack:
        session, children = _session(conversations, stack.pop(), str(path), ids)
        stack.extend(reversed(children))
        yield session
    if len(ids.times) < len(conversations):
        lost = next(n for n in conversations if n not in ids.times)
        raise DatasetError(f"the conversations of `{path}` start each other in a circle: `{lost}`")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begin:
    """How a conversation begins: what it inherits, which turns must have ended, and who started it."""

    history: tuple[Message, ...] = ()
    after: tuple[tuple[str, int], ...] = ()
    parent: str | None = None
    above: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Start:
    """A conversation of the file, once more for each that starts it. `id`: of this one; `name`: in the file."""

    id: str
    name: str
    begin: _Begin = _Begin()


def _children(turn: _Turn) -> list[str]:
    forks = [f if isinstance(f, str) else f.child for f in turn.forks]
    return [*forks, *(c for s in turn.spawns for c in ([s] if isinstance(s, str) else s.children))]


def _started(conversations: Mapping[str, _Conversation], path: str) -> set[str]:
    """All that others start. A fork goes on from one place; what is spawned may be spawned from several."""
    forked: dict[str, str] = {}
    started: set[str] = set()
    for name, conversation in conversations.items():
        forks = [f if isinstance(f, str) else f.child for turn in conversation.turns for f in turn.forks]
        rows = conversation.rows()
        named = [c for turn in rows for c in _children(turn)]
        for child in (*conversation.pre_session_spawns, *named):
            if child not in conversations:
                raise DatasetError(f"conversation `{name}` of `{path}` starts `{child}`, which is not in the file")
        for turn in rows:
            twice = next((c for c, n in Counter(_children(turn)).items() if n > 1), None)
            if twice is not None:
                raise DatasetError(f"a turn of conversation `{name}` of `{path}` starts `{twice}` twice")
        for child in forks:
            if child in forked:
                raise DatasetError(
                    f"conversation `{child}` of `{path}` is forked twice: by `{forked[child]}` and `{name}`"
                )
            forked[child] = name
        started.update(conversation.pre_session_spawns, named)
    return started


class _Ids:
    """An id for each time a conversation is started; `times`: how often each was."""

    def __init__(self, path: str) -> None:
        self.times: Counter[str] = Counter()
        self._path = path

    def take(self, name: str) -> str:
        self.times[name] += 1
        if self.times.total() > _MOST:
            raise DatasetError(f"the conversations of `{self._path}` start each other more than {_MOST:,} times")
        return name if self.times[name] == 1 else f"{name}{SAME_NAME}{self.times[name]}"


class _Family:
    """The conversations that one starts."""

    def __init__(self, start: _Start, ids: _Ids, path: str) -> None:
        self.start, self._ids, self._path = start, ids, path
        self.children: list[_Start] = []

    def add(self, name: str, history: tuple[Message, ...] = (), after: tuple[tuple[str, int], ...] = ()) -> str:
        """The id of the new one."""
        above = self.start.begin.above | {self.start.name}
        if name in above:
            raise DatasetError(f"the conversations of `{self._path}` start each other in a circle: `{name}`")
        own = self._ids.take(name)
        self.children.append(_Start(own, name, _Begin(history=history, after=after, parent=self.start.id, above=above)))
        return own


def _session(
    conversations: Mapping[str, _Conversation], start: _Start, path: str, ids: _Ids
) -> tuple[Session, list[_Start]]:
    """The session, and how the conversations it starts begin."""
    conversation, begin = conversations[start.name], start.begin
    is_complete = conversation.context_mode == "message_array_with_responses"
    where = f"conversation `{start.name}` of `{path}`"
    family = _Family(start, ids, path)
    for child in conversation.pre_session_spawns:
        family.add(child)
    waits: dict[int, list[tuple[str, int]]] = {}
    history = list(begin.history)
    turns: list[Turn] = []
    rows, pause = conversation.rows(), conversation.pause()
    last = len(rows) - 1
    for turn, row in enumerate(rows):
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
                silent=pause,
            )
        )
        reply = Message(role="assistant", parts=(Reply(turn, start.id),))
        history = [*([] if is_complete else history), *messages, reply]
        for fork in row.forks:
            child = fork if isinstance(fork, str) else fork.child
            if turn < last and (isinstance(fork, str) or not fork.background):
                hint = f'write `{{"child": "{child}", "background": true}}` if the conversation is to go on'
                raise DatasetError(f"{where} has turns behind turn {turn}, which ends it by the fork `{child}`", hint)
            family.add(child, tuple(history), ((start.id, turn),))
        for spawn in row.spawns:
            named, join = ([spawn], None) if isinstance(spawn, str) else (spawn.children, spawn.join_at)
            if join is not None and not turn < join <= last:
                raise DatasetError(
                    f"{where}: `join_at` {join} of turn {turn} is not one of its later turns (0 to {last})"
                )
            for name in named:
                child = family.add(name, (), ((start.id, turn),))
                if turn < last:
                    waits.setdefault(turn + 1 if join is None else join, []).append(
                        (child, len(conversations[name].rows()) - 1)
                    )
    if begin.after or begin.history:
        turns[0] = replace(turns[0], messages=(*begin.history, *turns[0].messages), after=begin.after)
    for turn, ended in waits.items():
        turns[turn] = replace(turns[turn], after=(*turns[turn].after, *ended))
    return Session(start.id, tuple(turns), parent=begin.parent), family.children

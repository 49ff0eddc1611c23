"""Sessions → plan: each request's body as a list of segments, in numpy columns (`docs/dev/2026-11-24-border.md`).

Two ways lead here: `build_plan` for sessions as objects (datasets, traces), `ColumnPlan` for many turns of one shape given
as columns (synthetic prompts), without a Python step per request.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aiperf.endpoints import BodyOptions, Endpoint
from aiperf.errors import DatasetError
from aiperf.reading.media_rows import MediaRows
from aiperf.session import Message, Part, Pause, Reply, Session, Synthetic, Turn
from aiperf.workload.body import Template, Templates
from aiperf.workload.carried import Carried, carried, media_rows
from aiperf.workload.segments import LEADING_SPACE, UNKNOWN, SegmentKind, SegmentWriter
from aiperf.workload.tables import CoreArguments, PlanTables, silent_columns

__all__ = [
    "Blocks",
    "ColumnPlan",
    "CoreArguments",
    "PlanOptions",
    "PlanTables",
    "TemplateTokens",
    "TurnColumns",
    "build_block_plan",
    "build_plan",
]

Count = Callable[[Sequence[str]], NDArray[np.int64]]
TemplateTokens = Callable[[tuple[str, ...]], int]
"""Roles of all messages of a prompt → tokens of the chat template around their texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """`body`: what goes into every body (its `model` is not used). `model_of_session`: index of the session's model, by the
    session's number; default round-robin. `template_tokens`: tokens the chat template adds to messages of these roles, put on
    top of each `isl`; None: not included.
    """

    models: tuple[str, ...]
    body: BodyOptions
    model_strategy: Literal["round_robin", "random"] = "round_robin"
    seed: int = 0
    template_tokens: TemplateTokens | None = None

    def model_of_session(self, sessions: int) -> NDArray[np.uint16]:
        """(sessions,) index of each session's model."""
        if self.model_strategy == "random" and len(self.models) > 1:
            return np.random.default_rng([self.seed, 0x6D]).integers(len(self.models), size=sessions, dtype=np.uint16)
        return (np.arange(sessions) % len(self.models)).astype(np.uint16)


class _Literals:
    """Each distinct literal once."""

    def __init__(self) -> None:
        self.list: list[bytes] = []
        self._number: dict[bytes, int] = {}

    def number(self, data: bytes) -> int:
        known = self._number.get(data)
        if known is None:
            known = self._number[data] = len(self.list)
            self.list.append(data)
        return known


_LONG_PIECE = 512
"""Bytes between two texts of a body from which on copies count."""

_Segments = tuple[list[int], list[int], list[int], int, list[str]]
"""kinds, a, b, planned tokens, and the literal texts whose tokens are yet to be counted."""


def _around_osl(piece: bytes, osl: int | None) -> tuple[bytes, ...]:
    """The piece with its output length. A long one, as of tool definitions, is cut there: what stands around the number is kept once."""
    if len(piece) < _LONG_PIECE or osl is None:
        return (Template.with_osl(piece, osl),)
    head, is_marked, tail = Template.split_at_osl(piece)
    return (head, b"%d" % osl, tail) if is_marked else (piece,)


class _Builder:
    def __init__(self, endpoint: Endpoint, options: PlanOptions) -> None:
        self.options = options
        self.templates = Templates(endpoint, options.body)
        self.literals = _Literals()
        self.models: dict[str, int] = {m: i for i, m in enumerate(options.models)}
        self.session_ids: list[str] = []
        self.parents: dict[int, str] = {}
        self.numbers: dict[str, int] = {}
        self.first_row: dict[str, int] = {}
        self.turns_of: dict[str, int] = {}
        self.session, self.osl = array("I"), array("I")
        self.at_ns, self.delay_ns = array("q"), array("q")
        self.model = array("H")
        self.isl: list[int] = []
        self.begins = bytearray()
        self.around = array("q")
        self.seg_kind, self.seg_a, self.seg_b = bytearray(), array("Q"), array("I")
        self.seg_offsets = array("I", [0])
        self.texts: list[str] = []
        self.text_rows = array("I")
        self.media: list[Carried] = []
        self.after: list[tuple[int, str, int]] = []
        self.replies: list[tuple[int, str, int]] = []
        self.silent: dict[int, Pause] = {}

    def add(self, session: Session, default_model: str) -> None:
        if session.id in self.first_row:
            raise DatasetError(f"two sessions have the id `{session.id}`")
        base = len(self.isl)
        number = len(self.session_ids)
        self.session_ids.append(session.name)
        self.numbers[session.id] = number
        if session.parent is not None and session.turns[0].after:  # else the engine starts it by itself: a root
            self.parents[number] = session.parent
        self.first_row[session.id] = base
        self.turns_of[session.id] = len(session.turns)
        start: tuple[Message, ...] = (Message(role="system", parts=session.system),) if session.system else ()
        is_single = len(session.turns) == 1
        history = list(start)
        shapes = [Templates.shape(m) for m in history]
        opening = [gap for m in history for gap in self._gaps(m, base)]
        filled = list(opening)
        for index, turn in enumerate(session.turns):
            if turn.fresh and index:
                history, shapes, filled = list(start), shapes[: len(start)], list(opening)
            row = base + index
            model = turn.model or default_model
            if turn.silent is not None:
                self._add_silent(row, number, turn, turn.silent)
                continue
            template = self.templates.get(turn, history, tuple(shapes), model)
            own = [gap for m in turn.messages for gap in self._gaps(m, base)]
            self._write_row(template, [*filled, *own], turn, base)
            begins = index == 0 or turn.fresh or turn.payload is not None
            self._plan_tokens(row, turn, opening if begins else [], own, begins=begins)
            self.around.append(self._template_tokens(turn, history))
            self.media.append(carried((*history, *turn.messages)))
            self.session.append(number)
            self.at_ns.append(-1 if turn.at_ns is None else turn.at_ns)
            self.delay_ns.append(turn.delay_ns)
            self.osl.append(UNKNOWN if turn.osl is None else turn.osl)
            self.model.append(self.models.setdefault(model, len(self.models)))
            self.after.extend((row, sid, t) for sid, t in turn.after)
            if not is_single and turn.payload is None:
                reply = Message(role="assistant", parts=(Reply(index),))
                history.extend((*turn.messages, reply))
                shapes.extend([*(Templates.shape(m) for m in turn.messages), Templates.shape(reply)])
                filled.extend([*own, *self._gaps(reply, base)])

    def _add_silent(self, row: int, number: int, turn: Turn, pause: Pause) -> None:
        """A row without a body: no request."""
        self.silent[row] = pause
        self.seg_offsets.append(len(self.seg_kind))
        self.begins.append(True)
        self.isl.append(0)
        self.around.append(0)
        self.media.append(carried(()))
        self.session.append(number)
        self.at_ns.append(-1)
        self.delay_ns.append(turn.delay_ns)
        self.osl.append(UNKNOWN)
        self.model.append(0)
        self.after.extend((row, sid, t) for sid, t in turn.after)

    def _gaps(self, message: Message, base: int) -> list[_Segments]:
        texts = [self._segments(parts, base) for parts in Templates.texts(message)]
        return [*texts, *[self._medium(data) for data in self.templates.media(message)]]

    def _medium(self, data: bytes) -> _Segments:
        return [SegmentKind.LITERAL], [self.literals.number(data)], [0], 0, []

    def _segments(self, parts: tuple[Part, ...], base: int) -> _Segments:
        first = parts[0]
        if isinstance(first, str) and len(parts) == 1:
            if not first:
                return [], [], [], 0, []
            return [SegmentKind.LITERAL], [self.literals.number(self.templates.literal(first))], [0], 0, [first]
        kinds: list[int] = []
        firsts: list[int] = []
        seconds: list[int] = []
        if all(type(p) is Synthetic for p in parts):  # the blocks of a trace: the common case, kept short
            kinds = [SegmentKind.FRESH if p.unique else SegmentKind.FIXED for p in parts]  # type: ignore[union-attr]
            firsts = [p.seed for p in parts]  # type: ignore[union-attr]
            tokens = [p.tokens for p in parts]  # type: ignore[union-attr]
            seconds = [tokens[0], *[t | LEADING_SPACE for t in tokens[1:]]]
            return kinds, firsts, seconds, sum(tokens), []
        planned = 0
        texts: list[str] = []
        space = 0
        for part in parts:
            if isinstance(part, str):
                if part:
                    kinds.append(SegmentKind.LITERAL)
                    firsts.append(self.literals.number(self.templates.literal(part)))
                    seconds.append(0)
                    texts.append(part.rstrip(" "))
                    space = 0 if part[-1].isspace() else LEADING_SPACE
                continue
            if isinstance(part, Synthetic):
                kinds.append(SegmentKind.FRESH if part.unique else SegmentKind.FIXED)
                firsts.append(part.seed)
                seconds.append(part.tokens | space)
                planned += part.tokens
            elif isinstance(part, Reply):
                kinds.append(SegmentKind.REPLY)
                if part.session is None:
                    firsts.append(base + part.turn)
                else:  # the row is known when all sessions are
                    firsts.append(len(self.replies) | _FOREIGN)
                    self.replies.append((base, part.session, part.turn))
                seconds.append(0)
            else:
                kinds.append(SegmentKind.STAMP)
                firsts.append(0)
                seconds.append(0)
            space = LEADING_SPACE
        return kinds, firsts, seconds, planned, texts

    def _write_row(self, template: Template, gaps: Sequence[_Segments], turn: Turn, base: int) -> None:
        for piece in template.pieces:
            if isinstance(piece, bytes):
                for part in _around_osl(piece, turn.osl):
                    self.seg_kind.append(SegmentKind.LITERAL)
                    self.seg_a.append(self.literals.number(part))
                    self.seg_b.append(0)
                continue
            kinds, a, b, _, _ = gaps[piece] if turn.payload is None else self._segments(template.parts[piece], base)
            self.seg_kind.extend(kinds)
            self.seg_a.extend(a)
            self.seg_b.extend(b)
        self.seg_offsets.append(len(self.seg_kind))

    def _plan_tokens(
        self, row: int, turn: Turn, opening: Sequence[_Segments], own: Sequence[_Segments], *, begins: bool
    ) -> None:
        """`opening`, `own`: the system message and the turn's messages; `begins`: nothing of a conversation before it."""
        self.begins.append(begins)
        texts: list[str] = []
        if turn.payload is not None:
            planned, texts = turn.isl or 0, [] if turn.isl is not None else _texts_of(turn.payload)
        elif "messages" in turn.extra:  # messages sent as they are, over the body's own
            planned, texts = turn.isl or 0, [] if turn.isl is not None else _texts_of(turn.extra)
        elif turn.isl is not None:
            planned = turn.isl + sum([gap[3] for gap in opening])
            texts = [text for gap in opening for text in gap[4]]
        else:
            gaps = [*opening, *own]
            planned = sum([gap[3] for gap in gaps])
            texts = [text for gap in gaps for text in gap[4]]
        self.isl.append(planned)
        self.texts.extend(texts)
        self.text_rows.extend([row] * len(texts))

    def _template_tokens(self, turn: Turn, history: Sequence[Message]) -> int:
        count = self.options.template_tokens
        if count is None:
            return 0
        own = turn.extra.get("messages") if turn.payload is None else turn.payload.get("messages")
        if isinstance(own, list):
            return count(tuple(str(m["role"]) for m in own if isinstance(m, Mapping) and "role" in m))
        return 0 if turn.payload is not None else count(tuple(m.role for m in (*history, *turn.messages)))

    def tables(self, count: Count | None) -> PlanTables:
        turns = len(self.isl)
        if not turns:
            raise DatasetError("no request to send: the workload is empty")
        segments = SegmentWriter(np.diff(np.array(self.seg_offsets, dtype=np.int64)).astype(np.int64))
        segments.kind[:], segments.a[:], segments.b[:] = np.frombuffer(self.seg_kind, np.uint8), self.seg_a, self.seg_b
        for at in np.flatnonzero((segments.kind == SegmentKind.REPLY) & (segments.a >= _FOREIGN)):
            _, sid, turn = self.replies[int(segments.a[at]) & ~_FOREIGN]
            segments.a[at] = self._row(sid, turn, "a response")
        columns = segments.columns(
            np.array(self.session, dtype=np.uint32),
            osl=np.array(self.osl, dtype=np.uint32),
            isl=self._planned(count),
            model=np.array(self.model, dtype=np.uint16),
            at_ns=np.array(self.at_ns, dtype=np.int64),
            delay_ns=np.array(self.delay_ns, dtype=np.int64),
        )
        if self.after:
            rows = np.array([row for row, _, _ in self.after], dtype=np.int64)
            needed = [self._row(sid, turn, "`after`") for _, sid, turn in self.after]
            counts = np.bincount(rows, minlength=turns)
            columns["after_offsets"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
            columns["after"] = np.array(needed, dtype=np.uint32)
        columns |= silent_columns(self.silent)
        if len(self.silent) == turns:
            raise DatasetError("no request to send: the conversations only start others")
        media = media_rows(columns["session"], self.media)
        return PlanTables(
            columns=columns,
            literals=self.literals.list,
            session_ids=self.session_ids,
            models=tuple(self.models),
            media=media,
            parents=self._parents(),
        )

    def _parents(self) -> list[int] | None:
        if not self.parents:
            return None
        return [self.numbers.get(self.parents.get(i, ""), -1) for i in range(len(self.session_ids))]

    def _row(self, sid: str, turn: int, what: str) -> int:
        first = self.first_row.get(sid)
        if first is None or not 0 <= turn < self.turns_of[sid]:
            known = f"it has {self.turns_of[sid]} turns" if first is not None else "there is no such session"
            raise DatasetError(f"{what} names turn {turn} of session `{sid}`: {known}")
        return first + turn

    def _planned(self, count: Count | None) -> NDArray[np.uint32]:
        """Own tokens of each turn, then summed up over the turns of a conversation."""
        own = np.array(self.isl, dtype=np.int64)
        rows = np.array(self.text_rows, dtype=np.int64)
        unknown = np.zeros(len(own), np.bool_)
        if count is None:
            unknown[rows] = True
        elif self.texts:
            number: dict[str, int] = {}
            which = np.array([number.setdefault(t, len(number)) for t in self.texts], dtype=np.int64)
            np.add.at(own, rows, np.asarray(count(list(number)), dtype=np.int64)[which])
        begins = np.frombuffer(self.begins, np.uint8).astype(np.bool_)
        start = np.maximum.accumulate(np.where(begins, np.arange(len(own)), 0))

        def summed(values: NDArray[np.int64]) -> NDArray[np.int64]:
            total = np.cumsum(values)
            return total - (total - values)[start]

        whole = summed(own) + np.array(self.around, dtype=np.int64)
        return np.where(summed(unknown.astype(np.int64)) > 0, UNKNOWN, whole).astype(np.uint32)


_FOREIGN = 1 << 63


def _texts_of(payload: Mapping[str, object]) -> list[str]:
    """The texts of a ready body whose tokens are its input: of `messages`, `prompt` or `input`."""
    texts: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, Mapping):
            for key in ("content", "text", "input_text"):
                if key in value:
                    walk(value[key])

    for key in ("system", "instructions", "messages", "prompt", "input"):
        if key in payload:
            walk(payload[key])
    return texts


def build_plan(
    sessions: Iterable[Session], endpoint: Endpoint, options: PlanOptions, count: Count | None = None
) -> PlanTables:
    """The plan of sessions in their order. DatasetError if it is empty or a turn names one that is not there.

    `count`: counts the tokens of literal texts (once per distinct text) for turns without `isl`; None leaves it unknown.
    The plan's `isl` is that of all planned text of the body: of the turn, given or counted, and of the earlier turns of the
    conversation in front of it; the live replies among them are not known here.
    """
    builder = _Builder(endpoint, options)
    names = options.models
    rng = np.random.default_rng([options.seed, 0x6D])
    draws = options.model_strategy == "random" and len(names) > 1
    for i, session in enumerate(sessions):
        number = int(rng.integers(len(names), dtype=np.uint16)) if draws else i % len(names)
        builder.add(session, names[number])
    return builder.tables(count)


class Blocks(Protocol):
    """One user message of synthetic texts per turn, as columns (`aiperf.traces.replay.PlanColumns`)."""

    @property
    def session(self) -> NDArray[np.uint32]: ...
    @property
    def at_ns(self) -> NDArray[np.int64]: ...
    @property
    def delay_ns(self) -> NDArray[np.int64]: ...
    @property
    def isl(self) -> NDArray[np.uint32]: ...
    @property
    def osl(self) -> NDArray[np.uint32]: ...
    @property
    def seg_offsets(self) -> NDArray[np.uint32]: ...
    @property
    def seg_kind(self) -> NDArray[np.uint8]: ...
    @property
    def seg_seed(self) -> NDArray[np.uint64]: ...
    @property
    def seg_tokens(self) -> NDArray[np.uint32]: ...


def build_block_plan(blocks: Blocks, session_ids: list[str], endpoint: Endpoint, options: PlanOptions) -> PlanTables:
    """As `build_plan`, for turns that are each a whole prompt of synthetic texts: no step of Python per request."""
    templates = Templates(endpoint, options.body)
    literals = _Literals()
    turns = len(blocks.session)
    model = options.model_of_session(len(session_ids))[blocks.session]
    counts = np.diff(blocks.seg_offsets).astype(np.int64)
    before, behind = np.zeros(turns, np.int64), np.zeros(turns, np.int64)
    groups: list[tuple[NDArray[np.int64], list[NDArray[np.uint64]], list[NDArray[np.uint64]]]] = []
    message = Message(role="user", parts=(Synthetic(0, 1),))
    has_osl = blocks.osl != UNKNOWN
    for number in np.unique(model):
        for asked in (True, False):
            rows = np.flatnonzero((model == number) & (has_osl == asked))
            if not rows.size:
                continue
            turn = Turn(messages=(message,), osl=1 if asked else None)
            pieces = templates.get(turn, (), (), options.models[int(number)]).pieces
            at = pieces.index(0)
            around_it = [_literal_column(p, blocks.osl[rows], literals) for p in pieces if isinstance(p, bytes)]
            groups.append((rows, around_it[:at], around_it[at:]))
            before[rows], behind[rows] = at, len(pieces) - at - 1
    around = 0 if options.template_tokens is None else options.template_tokens(("user",))
    isl = np.where(blocks.isl == UNKNOWN, UNKNOWN, blocks.isl + np.uint32(around)).astype(np.uint32)
    segments = SegmentWriter(before + counts + behind)
    starts = segments.offsets[:-1]
    place = np.arange(len(blocks.seg_kind)) + np.repeat(starts + before - blocks.seg_offsets[:-1], counts)
    segments.kind[place], segments.a[place] = blocks.seg_kind, blocks.seg_seed
    segments.b[place] = blocks.seg_tokens | np.uint32(LEADING_SPACE)
    segments.b[(starts + before)[counts > 0]] &= np.uint32(LEADING_SPACE - 1)
    for rows, front, back in groups:
        for k, column in enumerate(front):
            segments.a[starts[rows] + k] = column
        for k, column in enumerate(back):
            segments.a[segments.offsets[rows + 1] - len(back) + k] = column
    columns = segments.columns(
        blocks.session, osl=blocks.osl, isl=isl, model=model, at_ns=blocks.at_ns, delay_ns=blocks.delay_ns
    )
    return PlanTables(columns=columns, literals=literals.list, session_ids=session_ids, models=options.models)


def _literal_column(piece: bytes, osl: NDArray[np.generic], literals: _Literals) -> NDArray[np.uint64]:
    """(rows,) number of the literal, with the row's output length in it."""
    if not Template.has_osl(piece):
        return np.full(len(osl), literals.number(piece), np.uint64)
    values, which = np.unique(osl, return_inverse=True)
    numbers = [literals.number(Template.with_osl(piece, int(v))) for v in values]
    return np.array(numbers, dtype=np.uint64)[which]


Column = int | NDArray[np.generic]
"""One value for all rows of a group, or one for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnColumns:
    """Turns of one shape: `rows` are their row numbers; `turn`, `history` show the shape (their parts are not read).

    `gaps`: for each text of history and turn, its segments as (kind, a, b), each a number or a column `(rows,)`; `a` of a
    literal is its JSON-escaped bytes.
    """

    rows: NDArray[np.int64]
    turn: Turn
    history: tuple[Message, ...]
    model: str
    gaps: Sequence[Sequence[tuple[int, Column | bytes, Column]]]


class ColumnPlan:
    """A plan put together from `TurnColumns`; every row must be in exactly one of them."""

    def __init__(self, endpoint: Endpoint, options: PlanOptions) -> None:
        self._options = options
        self._templates = Templates(endpoint, options.body)
        self._literals = _Literals()

    def build(
        self,
        groups: Sequence[TurnColumns],
        session: NDArray[np.uint32],
        session_ids: list[str],
        columns: Mapping[str, NDArray[np.generic]],
        media: MediaRows | None = None,
    ) -> PlanTables:
        """`columns`: `isl`, `osl`, `delay_ns`, `model` by row (`at_ns` is none)."""
        osl = columns["osl"]
        turns = len(session)
        lengths = np.zeros(turns, np.int64)
        made = []
        for group in groups:
            kinds, firsts, seconds = self._expand(group, osl[group.rows])
            lengths[group.rows] = len(kinds)
            made.append((group.rows, kinds, firsts, seconds))
        segments = SegmentWriter(lengths)
        for rows, kinds, firsts, seconds in made:
            for k, kind in enumerate(kinds):
                at = segments.offsets[rows] + k
                segments.kind[at], segments.a[at], segments.b[at] = kind, firsts[k], seconds[k]
        columns = segments.columns(
            session, osl=osl, isl=columns["isl"], model=columns["model"], delay_ns=columns["delay_ns"]
        )
        return PlanTables(
            columns=columns,
            literals=self._literals.list,
            session_ids=session_ids,
            models=self._options.models,
            media=media,
        )

    def media(self, urls: Sequence[str]) -> NDArray[np.uint64]:
        """(urls,) the numbers of media as literals: the gaps of messages whose media have the same fronts."""
        return np.array([self._literals.number(self._templates.medium(u)) for u in urls], dtype=np.uint64)

    def _expand(self, group: TurnColumns, osl: NDArray[np.generic]) -> tuple[list[int], list[Column], list[Column]]:
        shapes = tuple([Templates.shape(m) for m in group.history])
        template = self._templates.get(group.turn, group.history, shapes, group.model)
        kinds: list[int] = []
        firsts: list[Column] = []
        seconds: list[Column] = []
        for piece in template.pieces:
            if isinstance(piece, int):
                for kind, x, y in group.gaps[piece]:
                    kinds.append(kind)
                    firsts.append(self._literals.number(x) if isinstance(x, bytes) else x)
                    seconds.append(y)
                continue
            kinds.append(SegmentKind.LITERAL)
            seconds.append(0)
            firsts.append(_literal_column(piece, osl, self._literals))
        return kinds, firsts, seconds

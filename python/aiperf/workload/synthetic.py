"""Synthetic load: sessions of turns of drawn lengths, as plan columns. No text is made here (design §4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiperf.config.lengths import Distribution, parse_distribution, parse_seq_dist
from aiperf.config.model import Config
from aiperf.endpoints import Endpoint
from aiperf.errors import ConfigError, Problem
from aiperf.session import Message, Part, Synthetic, Turn
from aiperf.workload.body import escape
from aiperf.workload.lengths import DrawnLengths, LengthLaw, NormalLengths, PairLengths, UniformLengths, draw_normal
from aiperf.workload.media import MediaPools
from aiperf.workload.media.carriers import Carriers
from aiperf.workload.plan import Column, ColumnPlan, PlanOptions, PlanTables, TurnColumns
from aiperf.workload.segments import LEADING_SPACE, UNKNOWN, SegmentKind

__all__ = ["CACHE_BUST_TOKENS", "MAX_TURNS", "SyntheticOptions", "build_synthetic_plan", "synthetic_options"]

MAX_TURNS = 65_536
"""Rows of a synthetic plan; a longer run repeats it with fresh text (`epoch`)."""

_OPEN_ENDED_TURNS = 16_384
"""Rows when the run is bounded by time only."""

CACHE_BUST_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticOptions:
    """`turns`: rows wanted at least, before whole sessions are made of them. `entries`: different prompts to reuse, None:
    each turn its own, and fresh text at each repetition. Lengths in tokens; None: no such text.
    """

    lengths: LengthLaw
    turns: int
    sessions: int | None = None
    entries: int | None = None
    turn_mean: float = 1.0
    turn_stddev: float = 0.0
    delay_mean_ms: float = 0.0
    delay_stddev_ms: float = 0.0
    delay_ratio: float = 1.0
    delay_cap_s: float | None = None
    batch_size: int = 1
    system_prompt: str | None = None
    shared_system_tokens: int | None = None
    context_tokens: int | None = None
    prefixes: int | None = None
    prefix_tokens: int | None = None
    cache_bust: str = "none"
    """`none`, `system_prefix`, `system_suffix`, `first_turn_prefix` or `first_turn_suffix`."""


def length_law(config: Config) -> LengthLaw:
    """ConfigError for a `--seq-dist` that is not understood (`config.check` finds it earlier)."""
    prompt = config.prompt
    if prompt.seq_dist is not None:
        try:
            return PairLengths(parse_seq_dist(prompt.seq_dist))
        except ValueError as error:
            raise ConfigError((Problem(str(error), "--seq-dist"),)) from error
    if prompt.random_range_ratio is not None:
        return UniformLengths(prompt.isl_mean, prompt.osl_mean, prompt.random_range_ratio, prompt.random_corpus_style)
    if prompt.isl_dist is not None or prompt.osl_dist is not None:
        isl = _distribution(prompt.isl_dist, prompt.isl_mean, prompt.isl_stddev)
        return DrawnLengths(
            isl, None if prompt.osl_mean is None else _distribution(prompt.osl_dist, prompt.osl_mean, prompt.osl_stddev)
        )
    return NormalLengths(prompt.isl_mean, prompt.isl_stddev, prompt.osl_mean, prompt.osl_stddev)


def _distribution(text: str | None, mean: float, stddev: float) -> Distribution:
    if text is None:
        return Distribution(kind="normal", mean=mean, stddev=stddev)
    return parse_distribution(text)


def synthetic_options(config: Config, system_prompt: str | None = None) -> SyntheticOptions:
    """`system_prompt`: the text, also where a file holds it."""
    prompt, conversation = config.prompt, config.conversation
    requests = config.load.request_count
    if requests is None and conversation.num_sessions is not None:
        requests = int(np.ceil(conversation.num_sessions * conversation.turn_mean))
    if requests is None and config.load.benchmark_duration is None:
        requests = max(10, 2 * (config.load.concurrency or 1))
    return SyntheticOptions(
        lengths=length_law(config),
        turns=min(MAX_TURNS, _OPEN_ENDED_TURNS if requests is None else requests),
        sessions=conversation.num_sessions,
        entries=config.input.num_dataset_entries,
        turn_mean=conversation.turn_mean,
        turn_stddev=conversation.turn_stddev,
        delay_mean_ms=conversation.turn_delay_mean,
        delay_stddev_ms=conversation.turn_delay_stddev,
        delay_ratio=conversation.turn_delay_ratio,
        delay_cap_s=conversation.turn_delay_cap_seconds,
        batch_size=prompt.batch_size_text,
        system_prompt=system_prompt,
        shared_system_tokens=prompt.shared_system_prompt_length,
        context_tokens=prompt.user_context_prompt_length,
        prefixes=prompt.prefix_prompt_pool_size,
        prefix_tokens=prompt.prefix_prompt_length,
        cache_bust=prompt.cache_bust,
    )


@dataclass(frozen=True, slots=True)
class _Text:
    """A text as segments, and how many synthetic tokens it has in all."""

    segments: tuple[tuple[int, Column | bytes, Column], ...]
    tokens: int | NDArray[np.int64] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _TurnTexts:
    """The users' texts by turn. `batch[k]`: (rows,) seeds of the k-th text; `own`: (rows,) its tokens; `decoration`: of a session's
    first turn, prefix, cache-busting text in front and behind.
    """

    names: tuple[str, ...]
    batch_size: int
    kind: SegmentKind
    batch: Sequence[NDArray[np.uint64]]
    own: NDArray[np.int64]
    decoration: tuple[_Text | None, _Text | None, _Text | None]
    media: Carriers

    def messages(self, look: int) -> tuple[Message, ...]:
        """The shape of what a turn adds. `look`: as in `Carriers`."""
        return self.media.on(_user_messages(self.names, self.batch_size), look)

    def history(self, opening: Sequence[Message], turn: int, look: int) -> tuple[Message, ...]:
        """The shape of what precedes a turn."""
        answered = (*self.messages(look), Message(role="assistant", parts=_SHAPE))
        return (*opening, *answered * turn)

    def gaps(self, rows: NDArray[np.int64], turn: int, look: int) -> list[Sequence[tuple[int, Column | bytes, Column]]]:
        """Segments of all texts of a turn with its history, the responses between them included."""
        gaps: list[Sequence[tuple[int, Column | bytes, Column]]] = []
        for earlier in range(turn + 1):
            of = rows - (turn - earlier)  # the rows of turn j of the same sessions
            decoration = self.decoration if earlier == 0 else (None, None, None)
            gaps += _user_gaps(self.batch, self.own, of, self.kind, self.names, decoration)
            gaps += self.media.gaps(of, look)
            if earlier < turn:
                gaps.append([(SegmentKind.REPLY, of.astype(np.uint64), 0)])
        return gaps


def build_synthetic_plan(
    options: SyntheticOptions,
    endpoint: Endpoint,
    plan: PlanOptions,
    rng: np.random.Generator,
    system_tokens: int = 0,
    media: MediaPools | None = None,
) -> PlanTables:
    """Same options and same `rng` state: same plan. `system_tokens`: tokens of `options.system_prompt`. `media`: what user messages carry."""
    num_turns = _turns_per_session(options, rng)
    first = np.concatenate([[0], np.cumsum(num_turns)])
    rows = int(first[-1])
    session = np.repeat(np.arange(len(num_turns)), num_turns)
    turn = np.arange(rows) - first[session]
    per_turn = options.entries if options.entries is not None else rows
    isl, osl = options.lengths.draw(per_turn, rng)
    seed = rng.integers(1 << 63, size=per_turn, dtype=np.uint64)
    entry = np.arange(rows) % per_turn
    kind = SegmentKind.FRESH if options.entries is None else SegmentKind.FIXED
    model = plan.model_of_session(len(num_turns))[session]
    system, context, prefix, bust, bust_end = _fixed_texts(options, session, kind, rng)
    # The k-th text of a batch has the next seed: other text, same length.
    batch = [(seed[entry] + np.uint64(k)) for k in range(options.batch_size)]

    names = endpoint.features.texts
    around = _template_tokens(plan, _opening_roles(options), len(names) or 1, int(num_turns.max()))
    added = np.diff(around, prepend=0)[turn]  # a turn's own share; the prompt is to have the length asked for
    own = np.maximum(1, isl[entry] - added)
    opening_texts = [(role, text) for role, text in (("system", system), ("user", context)) if text is not None]
    opening = [Message(role=role, parts=_SHAPE) for role, _ in opening_texts]
    opening_gaps = [text for _, text in opening_texts]
    base_tokens = sum((t.tokens for t in opening_gaps), start=np.zeros(rows, np.int64)) + system_tokens

    carried = Carriers(media, made := ColumnPlan(endpoint, plan), session, entry)
    groups = []
    turn_texts = _TurnTexts(
        names=names,
        batch_size=options.batch_size,
        kind=kind,
        batch=batch,
        own=own,
        decoration=(prefix, bust, bust_end),
        media=carried,
    )
    for number in range(int(num_turns.max())):
        for model_number, look in _kinds(model[turn == number], carried.look[turn == number]):
            history = turn_texts.history(opening, number, look)
            at = np.flatnonzero((turn == number) & (model == model_number) & (carried.look == look))
            shape = Turn(messages=turn_texts.messages(look), osl=None if osl is None else 1)
            gaps = [_take(text, at) for text in opening_gaps] + turn_texts.gaps(at, number, look)
            groups.append(
                TurnColumns(rows=at, turn=shape, history=history, model=plan.models[int(model_number)], gaps=gaps)
            )

    counted = own * options.batch_size + (own if len(names) > 1 else 0) + added
    for text in (prefix, bust, bust_end):
        if text is not None:
            counted = counted + np.where(turn == 0, text.tokens, 0)
    counted = counted + np.where(turn == 0, base_tokens, 0)
    total = np.cumsum(counted)
    before = np.concatenate([[0], total])[first[session]]
    columns: dict[str, NDArray[np.generic]] = {
        "isl": (total - before).astype(np.uint32),
        "osl": (np.full(rows, UNKNOWN) if osl is None else osl[entry]).astype(np.uint32),
        "delay_ns": _delays(options, turn, rng),
        "model": model.astype(np.uint16),
    }
    return made.build(groups, session.astype(np.uint32), _session_ids(len(num_turns)), columns, carried.rows(turn))


def _opening_roles(options: SyntheticOptions) -> list[str]:
    """Of the messages in front of the first turn."""
    has_system = (
        options.system_prompt is not None
        or options.shared_system_tokens is not None
        or options.cache_bust.startswith("system")
    )
    return ["system"] * has_system + ["user"] * (options.context_tokens is not None)


def _kinds(model: NDArray[np.uint16], look: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The pairs that occur."""
    return sorted({(int(m), int(k)) for m, k in np.unique(np.column_stack([model, look]), axis=0)})


def _session_ids(count: int) -> list[str]:
    return [f"session_{i:06d}" for i in range(count)]


_SHAPE: tuple[Part, ...] = (Synthetic(0, 1),)
"""Stands for any text where only the shape of a body counts."""


def _template_tokens(plan: PlanOptions, opening: list[str], texts: int, turns: int) -> NDArray[np.int64]:
    """(turns,) tokens of the chat template around the whole prompt of each turn."""
    count = plan.template_tokens
    if count is None:
        return np.zeros(turns, np.int64)
    user = ["user"] * texts
    return np.array([count((*opening, *[*user, "assistant"] * t, *user)) for t in range(turns)], dtype=np.int64)


def _turns_per_session(options: SyntheticOptions, rng: np.random.Generator) -> NDArray[np.int64]:
    """(sessions,) turns of each. Single-turn with `entries`: one session per entry."""
    if options.turn_mean <= 1 and options.turn_stddev <= 0:
        sessions = options.sessions or (options.turns if options.entries is None else min(options.entries, MAX_TURNS))
        return np.ones(min(sessions, MAX_TURNS), np.int64)
    sessions = options.sessions or max(1, int(np.ceil(options.turns / options.turn_mean)))
    turns, _ = NormalLengths(options.turn_mean, options.turn_stddev).draw(sessions, rng)
    fits = int(np.searchsorted(np.cumsum(turns), MAX_TURNS, side="right"))
    return turns[: max(1, fits)]


def _delays(options: SyntheticOptions, turn: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """(rows,) ns; none before a first turn."""
    delays = np.zeros(len(turn), np.int64)
    later = np.flatnonzero(turn > 0)
    if later.size and options.delay_mean_ms > 0:
        ms = draw_normal(options.delay_mean_ms, options.delay_stddev_ms, later.size, rng) * options.delay_ratio
        if options.delay_cap_s is not None:
            ms = np.minimum(ms, options.delay_cap_s * 1e3)
        delays[later] = np.rint(ms * 1e6).astype(np.int64)
    return delays


def _fixed_texts(
    options: SyntheticOptions, session: NDArray[np.int64], kind: int, rng: np.random.Generator
) -> tuple[_Text | None, _Text | None, _Text | None, _Text | None, _Text | None]:
    """System message, user context, prefix of the first turn, and what busts the cache before and behind it, by row."""
    sessions = int(session[-1]) + 1

    def by_session() -> NDArray[np.uint64]:
        return rng.integers(1 << 63, size=sessions, dtype=np.uint64)[session]

    bust = None
    if options.cache_bust != "none":
        bust = _Text(((SegmentKind.FRESH, by_session(), CACHE_BUST_TOKENS),), CACHE_BUST_TOKENS)
    shared: _Text | None = None
    if options.system_prompt is not None:
        shared = _Text(((SegmentKind.LITERAL, escape(options.system_prompt), 0),))
    elif options.shared_system_tokens is not None:
        seed = int(rng.integers(1 << 63, dtype=np.uint64))
        shared = _Text(((SegmentKind.FIXED, seed, options.shared_system_tokens),), options.shared_system_tokens)
    if bust is not None and options.cache_bust == "system_prefix":
        if shared is None:
            shared = bust
        else:
            shared = _joined(bust, shared) if options.system_prompt is None else _joined(bust, _BREAK, shared)
    elif bust is not None and options.cache_bust == "system_suffix":
        shared = bust if shared is None else _joined(shared, bust)
    context = None
    if options.context_tokens is not None:
        context = _Text(((kind, by_session(), options.context_tokens),), options.context_tokens)
    prefix = None
    if options.prefixes is not None and options.prefix_tokens is not None:
        pool = rng.integers(1 << 63, size=options.prefixes, dtype=np.uint64)
        chosen = pool[rng.integers(options.prefixes, size=sessions)][session]
        prefix = _Text(((SegmentKind.FIXED, chosen, options.prefix_tokens),), options.prefix_tokens)
    return (
        shared,
        context,
        prefix,
        bust if options.cache_bust == "first_turn_prefix" else None,
        bust if options.cache_bust == "first_turn_suffix" else None,
    )


_BREAK = _Text(((SegmentKind.LITERAL, escape("\n\n"), 0),))


def _joined(*texts: _Text) -> _Text:
    segments = tuple(s for t in texts for s in t.segments)
    return _Text(segments, sum(int(np.max(t.tokens)) for t in texts))


def _user_messages(names: tuple[str, ...], batch: int) -> tuple[Message, ...]:
    """One user message, or one for each text the API names; the last one takes the batch."""
    more = (_SHAPE,) * (batch - 1)
    if not names:
        return (Message(role="user", parts=_SHAPE, more=more),)
    return (
        *(Message(role="user", parts=_SHAPE, name=n) for n in names[:-1]),
        Message(role="user", parts=_SHAPE, name=names[-1], more=more),
    )


def _take(text: _Text, rows: NDArray[np.int64]) -> list[tuple[int, Column | bytes, Column]]:
    """The segments of some rows; all but the first begin with a space."""
    taken: list[tuple[int, Column | bytes, Column]] = []
    for i, (kind, a, b) in enumerate(text.segments):
        seeds = a[rows] if isinstance(a, np.ndarray) else a
        tokens = b[rows] if isinstance(b, np.ndarray) else b
        is_glued = i == 0 or kind == SegmentKind.LITERAL or text.segments[i - 1] is _BREAK.segments[0]
        taken.append((kind, seeds, tokens if is_glued else _continuing(tokens)))
    return taken


def _continuing(tokens: Column) -> Column:
    if isinstance(tokens, int):
        return tokens | LEADING_SPACE
    return tokens.astype(np.uint32) | np.uint32(LEADING_SPACE)


def _user_gaps(
    batch: Sequence[NDArray[np.uint64]],
    own: NDArray[np.int64],
    rows: NDArray[np.int64],
    kind: int,
    names: tuple[str, ...],
    decoration: tuple[_Text | None, _Text | None, _Text | None],
) -> list[Sequence[tuple[int, Column | bytes, Column]]]:
    prefix, bust, bust_end = decoration
    tokens = own[rows]
    gaps: list[Sequence[tuple[int, Column | bytes, Column]]] = [
        [(kind, batch[0][rows] ^ np.uint64(n + 1 << 48), tokens)] for n in range(len(names) - 1)
    ]
    for seeds in batch:
        segments = [*(bust.segments if bust else ()), *(prefix.segments if prefix else ())]
        segments.append((kind, seeds, own))
        segments += bust_end.segments if bust_end else ()
        gaps.append(_take(_Text(tuple(segments)), rows))
    return gaps

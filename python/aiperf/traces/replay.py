"""A trace made ready to be sent: which rows, when, and each prompt's recipe, as columns or as sessions.

Order of what happens to a row: left out by offset, length, context or sampling · time moved to the zero point ·
idle gaps shortened · times divided by the speedup · output length capped · prompt cut into blocks.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError, Note
from aiperf.number_text import exact
from aiperf.session import Message, Part, Session, Synthetic, Turn
from aiperf.traces import NO_TIME, UNKNOWN, Content, TraceOptions, TraceTable, counted

__all__ = ["PlanColumns", "Replay", "block_seeds", "context_needed", "prepare", "session_order", "turn_times"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanColumns:
    """The rows to send, in order of issue: sessions by their first due time, turns of a session next to each other.

    Names, types and values are those of the native plan (`docs/dev/2026-11-24-border.md`), but for the segments: here
    they are the synthetic parts of one user message per row; rows with text of their own have none.
    """

    row: IntArray
    """(turns,) index into the table."""
    session: NDArray[np.uint32]
    """(turns,) from 0, non-decreasing."""
    at_ns: IntArray
    """(turns,) ns since the schedule's start; -1: none."""
    delay_ns: IntArray
    """(turns,)"""
    isl: NDArray[np.uint32]
    osl: NDArray[np.uint32]
    """(turns,) 2³²−1: unknown, none asked."""
    fresh: NDArray[np.bool_]
    """(turns,) the row is the whole conversation: no history goes in front."""
    seg_offsets: NDArray[np.uint32]
    """(turns+1,)"""
    seg_kind: NDArray[np.uint8]
    """(segments,) 1: same text at each repetition; 2: fresh text at each repetition."""
    seg_seed: NDArray[np.uint64]
    seg_tokens: NDArray[np.uint32]
    """(segments,)"""

    @property
    def num_sessions(self) -> int:
        return int(self.session[-1]) + 1


@dataclass(frozen=True, slots=True)
class Replay:
    """`notes`: those of the table and of what was left out here."""

    table: TraceTable
    columns: PlanColumns
    notes: tuple[Note, ...]

    @property
    def is_synthetic(self) -> bool:
        """No row carries content: the columns are all there is, no session needs to be built."""
        return not self.table.contents

    @property
    def duration_ns(self) -> int:
        """Due time of the last request since the first; 0 without timestamps."""
        at = self.columns.at_ns
        known = at[at >= 0]
        return int(known.max() - known.min()) if len(known) else 0

    def session_ids(self) -> list[str]:
        """(sessions,) the file's names; `line-<n>` for a session without one, n being its first line sent."""
        columns = self.columns
        first = np.flatnonzero(np.diff(columns.session, prepend=np.uint32(0xFFFF_FFFF)))
        rows = columns.row[first]
        names = self.table.session_names
        lines = self.table.line[rows].tolist()
        if not names:
            return [f"line-{n}" for n in lines]
        return [names.get(s) or f"line-{n}" for s, n in zip(self.table.session[rows].tolist(), lines, strict=True)]

    def sessions(self) -> Iterator[Session]:
        """In order of issue."""
        names = self.session_ids()
        starts = np.flatnonzero(np.diff(self.columns.session, prepend=np.uint32(0xFFFF_FFFF)))
        begin = 0
        while begin < len(names):
            # Whole sessions, as many as begin in the next piece of turns.
            end = int(np.searchsorted(starts, int(starts[begin]) + _PIECE))
            last = int(starts[end]) if end < len(starts) else len(self.columns.session)
            yield from self._build(names, slice(int(starts[begin]), last))
            begin = end

    def _build(self, names: list[str], turns: slice) -> list[Session]:
        """The collector is held back meanwhile: many objects are made and none becomes garbage, and its walks over all of
        them take as long as making them.
        """
        held = gc.isenabled()
        gc.disable()
        try:
            return self._make(names, turns)
        finally:
            if held:
                gc.enable()

    def _make(self, names: list[str], rows: slice) -> list[Session]:
        recorded = self.columns
        offsets = recorded.seg_offsets[rows.start : rows.stop + 1].astype(np.int64)
        parts = self._parts(slice(int(offsets[0]), int(offsets[-1])))
        offsets -= offsets[0]
        contents = self.table.contents
        out: list[Session] = []
        turns: list[Turn] = []
        current = int(recorded.session[rows.start])
        columns = (
            *(
                a[rows]
                for a in (
                    recorded.row,
                    recorded.session,
                    recorded.at_ns,
                    recorded.delay_ns,
                    recorded.isl,
                    recorded.osl,
                    recorded.fresh,
                )
            ),
            offsets[:-1],
            offsets[1:],
        )
        for row, session, at, delay, isl, osl, fresh, begin, end in zip(*(a.tolist() for a in columns), strict=True):
            if session != current:
                out.append(Session(names[current], tuple(turns)))
                turns = []
                current = session
            content = contents.get(row)
            turn = _NO_CONTENT if content is None else _of_content(content)
            turns.append(
                Turn(
                    messages=turn.messages
                    or ((Message(role="user", parts=tuple(parts[begin:end])),) if begin < end else ()),
                    payload=turn.payload,
                    isl=None if isl == UNKNOWN else isl,
                    osl=None if osl == UNKNOWN else osl,
                    at_ns=None if at == NO_TIME else at,
                    delay_ns=delay,
                    model=turn.model,
                    tools=turn.tools,
                    extra=turn.extra,
                    fresh=fresh,
                )
            )
        out.append(Session(names[current], tuple(turns)))
        return out

    def _parts(self, segments: slice) -> list[Part]:
        """(segments,) equal blocks are one object."""
        c = self.columns
        seeds, tokens, fresh = c.seg_seed[segments], c.seg_tokens[segments], c.seg_kind[segments] == 2
        _, first, which = np.unique(
            seeds ^ (tokens.astype(np.uint64) << np.uint64(32)), return_index=True, return_inverse=True
        )
        distinct = np.empty(len(first), object)
        distinct[:] = list(map(Synthetic, seeds[first].tolist(), tokens[first].tolist(), fresh[first].tolist()))
        return distinct[which].tolist()  # type: ignore[no-any-return]  # numpy types an object array's list as Any


_PIECE = 4096
"""Turns built together: bounds the objects alive when only one session at a time is wanted."""

_NO_CONTENT = Turn()


def _of_content(content: Content) -> Turn:
    """A turn with what the line carries, and no lengths or times."""
    if content.payload is not None:
        return Turn(payload={**content.payload, **content.extra})
    extra: Mapping[str, object] = content.extra
    if content.raw_messages:
        # `extra` overrides the body's own fields: the messages are sent as they stand in the line.
        extra = {"messages": list(content.raw_messages), **extra}
    messages = content.messages if content.text is None else (Message(role="user", parts=(content.text,)),)
    return Turn(messages=messages, model=content.model, tools=content.tools, extra=extra)


def block_seeds(hash_ids: IntArray, text_seed: int = 0) -> NDArray[np.uint64]:
    """Seed of the text of each block: a bijection of the 64-bit id (splitmix64), so different ids differ in seed.

    (blocks,) int64 → (blocks,) uint64; the same on every machine. `text_seed` picks another bijection.
    """
    z = hash_ids.view(np.uint64) + np.uint64((0x9E37_79B9_7F4A_7C15 * (2 * text_seed + 1)) & 0xFFFF_FFFF_FFFF_FFFF)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))


def prepare(table: TraceTable, options: TraceOptions, rng: np.random.Generator) -> Replay:
    """DatasetError if nothing is left to send. `rng` gives the text that is no hash block, and the sampled sessions."""
    order, times = _by_session(table)
    keep, notes = _select(table, options, order, times, rng)
    if not keep.any():
        why = "; ".join(n.text for n in notes)
        raise DatasetError(
            f"nothing of the trace `{table.path}` is left to send: {why}", "check the offsets and limits"
        )
    rows = order[keep]
    at, delay = _clock(table, options, rows)
    rows, session, moved = _by_due_time(table, rows, at)
    at, delay = at[moved], delay[moved]
    isl, osl = table.input_length[rows], table.output_length[rows].copy()
    asked = osl != UNKNOWN
    if options.max_osl is not None:
        if capped := int((asked & (osl > options.max_osl)).sum()):
            notes.append(
                counted(
                    "osl_capped",
                    capped,
                    f"output lengths capped at {options.max_osl:,} tokens: {{count}}",
                    max_osl=options.max_osl,
                )
            )
        osl = np.where(asked, np.minimum(osl, options.max_osl), osl)
    osl = np.maximum(osl, 1)
    offsets, kind, seeds, tokens = _segments(table, options, rows, isl, rng)
    columns = PlanColumns(
        row=rows,
        session=session,
        at_ns=at,
        delay_ns=delay,
        isl=isl,
        osl=osl,
        fresh=table.whole[rows] & _is_in_longer(session),
        seg_offsets=offsets,
        seg_kind=kind,
        seg_seed=seeds,
        seg_tokens=tokens,
    )
    return Replay(table, columns, (*table.notes, *notes))


def _is_in_longer(session: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """(turns,) the row's session has more than one turn; a single turn is whole in any case and needs no mark."""
    return np.asarray(np.bincount(session)[session] > 1)


def session_order(table: TraceTable) -> IntArray:
    """(rows,) rows grouped by session, in time order within (as in the file where times are missing or equal)."""
    return _by_session(table)[0]


def turn_times(table: TraceTable) -> IntArray:
    """(rows,) as `at_ns`, but a turn without a time has that of the turn before it; NO_TIME if none before has one."""
    order, times = _by_session(table)
    out = np.empty_like(times)
    out[order] = times
    return out


def _by_session(table: TraceTable) -> tuple[IntArray, IntArray]:
    """Rows grouped by session, in time order within; and each one's time, a missing one being that of the turn before."""
    order = np.argsort(table.session, kind="stable").astype(np.int64)
    if len(table.session) == table.num_sessions:
        return order, table.at_ns[order]

    def filled(order: IntArray) -> IntArray:
        at, session = table.at_ns[order], table.session[order]
        n = np.arange(len(order))
        start = np.diff(session, prepend=-1) != 0
        source = np.maximum.accumulate(np.where((at >= 0) | start, n, 0))
        return at[source]

    times = filled(order)
    order = order[np.lexsort((times, table.session[order]))]
    return order, filled(order)


def _select(
    table: TraceTable, options: TraceOptions, order: IntArray, times: IntArray, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], list[Note]]:
    """(rows,) bool in the order of `order`."""
    keep = np.ones(len(order), np.bool_)
    notes: list[Note] = []

    def leave_out(drop: NDArray[np.bool_], kind: str, message: str, **data: object) -> None:
        nonlocal keep
        if count := int((keep & drop).sum()):
            notes.append(counted(kind, count, message, **data))
            keep = keep & ~drop

    start, end = options.start_offset_ms, options.end_offset_ms
    if start is not None:
        leave_out(
            (times >= 0) & (times < round(start * 1e6)),
            "before_start",
            f"requests before {exact(start)} ms, left out: {{count}}",
        )
    if end is not None:
        leave_out(times > round(end * 1e6), "after_end", f"requests after {exact(end)} ms, left out: {{count}}")
    isl = table.input_length[order].astype(np.int64)
    if options.max_isl is not None:
        leave_out(
            (isl != UNKNOWN) & (isl > options.max_isl),
            "max_isl",
            f"requests of more than {options.max_isl:,} input tokens, left out: {{count}}",
            max_isl=options.max_isl,
        )
    if options.context_limit is not None:
        needed = context_needed(table, order, options.max_osl)
        leave_out(
            needed > options.context_limit,
            "context_limit",
            f"requests that do not fit a context of {options.context_limit:,} tokens, skipped: {{count}}",
            context_limit=options.context_limit,
        )
    if options.session_sample_ratio is not None and options.session_sample_ratio < 1:
        chosen = rng.random(table.num_sessions) < options.session_sample_ratio
        if not chosen.any():
            chosen[rng.integers(table.num_sessions)] = True
        leave_out(
            ~chosen[table.session[order]],
            "sampled",
            f"requests left out: {{count}}; sessions sampled: {int(chosen.sum()):,} of {table.num_sessions:,}",
        )
    return keep, notes


def context_needed(table: TraceTable, order: IntArray, max_osl: int | None = None) -> IntArray:
    """(rows of `order`,) tokens a row's context must hold: input + output, and for a turn that adds to a conversation the
    turns before it too. Unknown lengths count as 0. `order`: rows grouped by session, turns in order.
    """
    isl, osl = table.input_length[order].astype(np.int64), table.output_length[order].astype(np.int64)
    isl[isl == UNKNOWN] = 0
    osl[osl == UNKNOWN] = 0
    if max_osl is not None:
        osl = np.minimum(osl, max_osl)
    own = isl + osl
    total = np.cumsum(own)
    session = table.session[order]
    start = np.flatnonzero(np.diff(session, prepend=-1))
    before = np.repeat(total[start] - own[start], np.diff(np.append(start, len(order))))
    return np.where(table.whole[order], own, total - before)


def _clock(table: TraceTable, options: TraceOptions, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Due times and delays of the rows sent, both after cap and speedup."""
    at, delay = table.at_ns[rows].copy(), table.delay_ns[rows].copy()
    if options.ignore_timing:
        at[:], delay[:] = NO_TIME, 0
        return at, delay
    if options.delay_cap_s is not None:
        delay = np.minimum(delay, round(options.delay_cap_s * 1e9))
    timed = at >= 0
    known = at[timed]
    if len(known):
        start = options.start_offset_ms
        auto = options.auto_offset if options.auto_offset is not None else start is None
        known = known - (known.min() if auto else round((start or 0.0) * 1e6))
        if options.idle_gap_cap_s is not None:
            instants, where = np.unique(known, return_inverse=True)
            gaps = np.minimum(np.diff(instants), round(options.idle_gap_cap_s * 1e9))
            known = np.concatenate([instants[:1], instants[0] + np.cumsum(gaps)])[where]
        if options.speedup != 1:
            known = np.rint(known / options.speedup).astype(np.int64)
        at[timed] = known
    if options.speedup != 1:
        delay = np.rint(delay / options.speedup).astype(np.int64)
    return at, delay


def _by_due_time(table: TraceTable, rows: IntArray, at: IntArray) -> tuple[IntArray, NDArray[np.uint32], IntArray]:
    """Rows with whole sessions ordered by their first turn's due time (without one: at its place in the file)."""
    session = table.session[rows]
    start = np.flatnonzero(np.diff(session, prepend=-1))
    lengths = np.diff(np.append(start, len(rows)))
    first = at[start]
    if (first < 0).any():
        first = np.where(first < 0, 0, first)
    by_time = np.argsort(first, kind="stable")
    lengths = lengths[by_time]
    ends = np.cumsum(lengths)
    moved = np.repeat(start[by_time] - (ends - lengths), lengths) + np.arange(len(rows))
    return rows[moved], np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths), moved


def _segments(
    table: TraceTable, options: TraceOptions, rows: IntArray, isl: NDArray[np.uint32], rng: np.random.Generator
) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint32]]:
    """CSR of the synthetic parts: hash blocks, the last one perhaps partial, then fresh text up to the input length."""
    size = table.block_size
    length = isl.astype(np.int64)
    length[isl == UNKNOWN] = 0
    used = np.minimum(np.diff(table.hash_offsets)[rows], -(-length // size))
    rest = np.maximum(length - used * size, 0)
    counts = used + (rest > 0)
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    total = int(offsets[-1])
    seeds = np.empty(total, np.uint64)
    tokens = np.full(total, size, np.uint32)
    kind = np.full(total, 2 if options.loop else 1, np.uint8)
    num_blocks = int(used.sum())
    ends = np.cumsum(used)
    step = np.arange(num_blocks) - np.repeat(ends - used, used)
    seeds[np.repeat(offsets[:-1], used) + step] = block_seeds(
        table.hash_ids[np.repeat(table.hash_offsets[rows], used) + step], options.text_seed
    )
    partial = (used > 0) & (rest == 0)
    tokens[offsets[:-1][partial] + used[partial] - 1] = (length - (used - 1) * size)[partial]
    filled = rest > 0
    places = offsets[:-1][filled] + used[filled]
    seeds[places] = rng.integers(0, 1 << 64, len(places), np.uint64)
    tokens[places] = rest[filled]
    kind[places] = 2
    return offsets.astype(np.uint32), kind, seeds, tokens

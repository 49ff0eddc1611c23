"""Lanes: which trace each lane plays first, where in its recording it begins, and what has to be in the server's cache then."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError
from aiperf.traces.agents import AgentTable

__all__ = ["LaneStart", "StartOptions", "StreamStart", "draw_order", "first_plays", "start_instant_ms", "starts_of"]

_RANDOM_DRAWS = 1 << 16
"""Length of a random order of traces, which then repeats."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStart:
    """A stream under way when its lane begins. `row`: its next one. `primer`: the row before it. Offset and lead in ns."""

    session: int
    row: int
    offset_ns: int
    primer: int | None
    lead_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStart:
    """A lane's first play. `origin_ns`: the recorded instant it begins at."""

    lane: int
    root: int
    draw: int
    origin_ns: int
    streams: tuple[StreamStart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """Ratios are shares of a trace's recorded time, from its first to its last request. `idle_cap_ns`: bounds a primer's lead."""

    min_ratio: float = 0.0
    max_ratio: float = 0.0
    seed: int = 0
    idle_cap_ns: int | None = None
    has_times: bool = True


def draw_order(traces: int, sampling: Literal["sequential", "random", "shuffle"], seed: int) -> IntArray:
    """Numbers of traces in the order in which plays draw them; it repeats."""
    rng = np.random.default_rng([seed, 0x1A4E])
    if sampling == "random":
        return rng.integers(0, traces, max(_RANDOM_DRAWS, traces))
    return rng.permutation(traces) if sampling == "shuffle" else np.arange(traces)


def first_plays(order: IntArray, traces: int, lanes: int, *, wraps: bool) -> IntArray:
    """Traces of the lanes' first plays. DatasetError if there are more lanes than traces and they must not repeat."""
    if lanes > traces and not wraps:
        raise DatasetError(
            f"{lanes:,} lanes (--concurrency) need as many sessions; the data have {traces:,}",
            "`--loop` repeats sessions, `--cache-bust first_turn_prefix` keeps the repeats out of the prefix cache",
        )
    return order[np.arange(lanes) % len(order)]


def start_instant_ms(table: AgentTable, trace: int, lane: int, options: StartOptions) -> float:
    """t* of a lane, ms: uniform over the trace's span between the ratios, by a generator seeded with seed, trace and lane."""
    rows = np.flatnonzero(table.trace[table.session] == trace)
    t = table.t_ns[rows] / 1e6
    first, span = float(t.min()), float(t.max() - t.min())
    low, high = first + options.min_ratio * span, first + options.max_ratio * span
    if low >= high:
        return low
    return float(_rng(table, trace, lane, options).uniform(low, high))


def _rng(table: AgentTable, trace: int, lane: int, options: StartOptions) -> np.random.Generator:
    text = f"{options.seed}:{table.trace_ids[trace]}:{lane}"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def starts_of(
    table: AgentTable, plays: IntArray, options: StartOptions, lane_numbers: IntArray | None = None
) -> list[LaneStart]:
    """Where the lanes begin. `plays`: (lanes,) number of each lane's first trace."""
    first_row = table.first_rows()
    roots = table.roots()
    ends = np.append(roots[1:], table.num_streams)
    numbers = np.arange(len(plays)) if lane_numbers is None else lane_numbers
    out = []
    for draw, (lane, trace) in enumerate(zip(numbers.tolist(), plays.tolist(), strict=True)):
        streams = range(int(roots[trace]), int(ends[trace]))
        if options.has_times:
            out.append(_timed(table, first_row, streams, (trace, lane, draw), options))
        else:
            out.append(_untimed(table, first_row, streams, (trace, lane, draw), options))
    return out


def _timed(
    table: AgentTable, first_row: IntArray, streams: range, play: tuple[int, int, int], options: StartOptions
) -> LaneStart:
    trace, lane, draw = play
    origin = round(start_instant_ms(table, trace, lane, options) * 1e6)
    starts = []
    for stream in streams:
        first, end = int(first_row[stream]), int(first_row[stream + 1])
        row = first + int(np.searchsorted(table.t_ns[first:end], origin))
        if row == end:
            continue
        if stream != streams.start:
            has_begun = int(table.branch_start_ns[stream]) <= origin
            if not has_begun and int(table.t_ns[int(table.spawn_row[stream])]) >= origin:
                continue
        primer = row - 1 if row > first else None
        lead = 0
        if primer is not None:
            lead = origin - int(table.t_ns[primer])
            lead = lead if options.idle_cap_ns is None else min(lead, options.idle_cap_ns)
        offset = int(table.t_ns[row]) - origin
        starts.append(StreamStart(session=stream, row=row, offset_ns=offset, primer=primer, lead_ns=lead))
    return LaneStart(lane=lane, root=streams.start, draw=draw, origin_ns=origin, streams=tuple(starts))


def _untimed(
    table: AgentTable, first_row: IntArray, streams: range, play: tuple[int, int, int], options: StartOptions
) -> LaneStart:
    """Without times: a turn of the main agent, uniform between the ratios of its turns; the one before it is the primer."""
    trace, lane, draw = play
    root = streams.start
    first, end = int(first_row[root]), int(first_row[root + 1])
    count = end - first
    row, primer = first, None
    if count >= 2 and options.max_ratio > 0:
        low = min(int(options.min_ratio * count), count - 2)
        high = min(int(options.max_ratio * count), count - 2)
        turn = int(_rng(table, trace, lane, options).choice(np.arange(low, high + 1)))
        row, primer = first + turn + 1, first + turn
    start = StreamStart(session=root, row=row, offset_ns=0, primer=primer, lead_ns=0)
    return LaneStart(lane=lane, root=root, draw=draw, origin_ns=int(table.t_ns[row]), streams=(start,))

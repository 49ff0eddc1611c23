"""Requests that lost their place: a stream that pauses while the engine goes on for others was preempted.

No server says per request that it was preempted. What is seen from outside is a gap in the stream during which other streams got tokens of
several steps. A gap that all streams share (a long prompt is computed, the machine was busy) is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import Bools, Floats
from aiperf.studies.kv.streams import Streams

__all__ = ["Pauses", "find_pauses", "ticks_of", "usual_gap"]

_TICK_SHARE: Final = 0.3
"""Chunks closer than this share of the usual gap of a stream came out of the same step."""
_TORN: Final = 10
"""So many usual gaps apart, groups of chunks are never of the same step."""
_JITTER: Final = 3
"""Steps that a stream may miss, beyond the usual number between two of its chunks, by jitter of the network or the client."""


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """(pauses,) `row`: whose; `begin`, `end`: the chunks around it, ns; `held`: tokens that were in the cache before it: the prompt and
    the output so far, without the last token, which had not been computed yet.
    """

    row: Floats
    begin: Floats
    end: Floats
    held: Floats

    @property
    def count(self) -> int:
        return len(self.row)

    @property
    def seconds(self) -> Floats:
        return (self.end - self.begin) / 1e9

    def victims(self, num_requests: int) -> Bools:
        """(requests,) those with a pause."""
        out = np.zeros(num_requests, dtype=bool)
        out[self.row.astype(np.int64)] = True
        return out

    def without(self, held: Floats, at: Floats) -> Floats:
        """`Streams.held` less what paused requests do not hold meanwhile."""
        out = held.copy()
        for row, begin, end in zip(self.row.astype(np.int64), self.begin, self.end, strict=True):
            out[row, (begin < at) & (at < end)] = 0.0
        return out


_NONE: Final = Pauses(row=np.zeros(0), begin=np.zeros(0), end=np.zeros(0), held=np.zeros(0))


def usual_gap(s: Streams) -> float:
    """Median gap between two chunks of a stream, ns; NaN without any."""
    gaps = np.diff(s.times)[np.diff(s.row_of_chunk()) == 0]
    return float(np.median(gaps)) if len(gaps) else float("nan")


def ticks_of(streams: Streams) -> Floats:
    """(steps,) ns of the first chunk of each step, ascending: chunks of all streams that came together are of one step.

    The chunks of a step can be torn apart on the way. Groups are of the same step while no stream is in both: in
    the next step, those that run get a chunk again.
    """
    gap = usual_gap(streams)
    if np.isnan(gap):
        return np.zeros(0)
    order = np.argsort(streams.times, kind="stable")
    times = streams.times[order]
    is_first = np.zeros(len(streams.times), dtype=bool)
    is_first[streams.offsets[:-1][streams.num_chunks > 0]] = True
    before = np.where(is_first, -np.inf, np.concatenate(([-np.inf], streams.times[:-1])))[order]
    begins = np.flatnonzero(np.concatenate(([True], np.diff(times) > _TICK_SHARE * gap)))
    latest = np.maximum.reduceat(before, begins)  # of each group: when one of its streams had a chunk last
    steps = [float(times[0])]
    for at, last, number in zip(times[begins[1:]], latest[1:], begins[1:], strict=True):
        if last >= steps[-1] or at - times[number - 1] >= _TORN * gap:
            steps.append(float(at))
    return np.array(steps)


def find_pauses(streams: Streams, counted: float | None = None, engines: int = 1) -> Pauses:
    """`counted`: preemptions that the server counted: then as many pauses at most, the longest ones, down to a single missed step. Without
    its count, only pauses that no jitter explains; with several engines too, whose steps cannot be told apart for sure.
    """
    ticks = ticks_of(streams)
    rows = streams.row_of_chunk()
    same = np.diff(rows) == 0
    begin, end, row = streams.times[:-1][same], streams.times[1:][same], rows[:-1][same]
    if not len(begin):
        return _NONE
    # From the step of the first chunk to that of the second: 1 for a stream that gets a chunk of every step.
    steps = np.searchsorted(ticks, end, side="right") - np.searchsorted(ticks, begin, side="right")
    missed = steps - np.median(steps)
    # A chunk that was late on the way makes a long gap and a short one beside it: nothing was missed.
    less = np.minimum(missed, 0)
    together = np.diff(row) == 0
    missed[1:] += np.where(together, less[:-1], 0)
    missed[:-1] += np.where(together, less[1:], 0)
    is_sure = counted is not None and engines <= 1
    pauses = np.flatnonzero(missed > (0 if is_sure else _JITTER))
    if counted is not None:
        pauses = np.sort(pauses[np.argsort(-missed[pauses], kind="stable")][: round(counted)])
    number = (np.arange(len(streams.times)) - streams.offsets[rows])[:-1][same] + 1  # chunks until then
    held = streams.prompt[row] + streams.per_chunk[row] * number - 1
    return Pauses(row=row[pauses].astype(np.float64), begin=begin[pauses], end=end[pauses], held=held[pauses])

"""Where each request's time went: client send lag · network · server queue · prefill · decode · stalls.

The parts of a request add up to its latency from the scheduled send time, by construction:

    send lag    started − scheduled (0 in closed loop, where a request is due when it is sent)
    queue       the server's: from its arrival there to the first time it was scheduled
    prefill     the server's: from then to the first token
    queue and prefill   both as one, where the server does not tell them apart (Dynamo's frontend: its total time − its decode time)
    network     time to first token − queue − prefill: both ways through the network, the HTTP server, tokenizing, the client
    stalls      the longest gap between two chunks, if it is over --stall-threshold
    decode      last content − first content − stalls

`source` says where queue and prefill come from: of each request ("response", "headers", "spans"), or the mean the server's histograms
had at the time ("histogram"), which is right on average and for no single request. Without either the time before the first token is
one part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from aiperf.metrics import Bools, Floats, Ints
from aiperf.metrics.context import MetricContext
from aiperf.metrics.server import ServerView

__all__ = ["PARTS", "SOURCES", "Lifecycle", "find_lifecycle"]

Source = Literal["response", "headers", "spans", "histogram", "client"]
PARTS: Final = (
    "client send lag",
    "network",
    "network and queue",
    "server queue",
    "queue and prefill",
    "prefill",
    "before the first token",
    "decode",
    "stalls",
)
"""In the order in which they are stacked."""
SOURCES: Final[tuple[Source, ...]] = ("client", "response", "headers", "spans")
"""By the number in the column `server_source`."""


_MOST_ROWS: Final = 50_000
"""Of more requests every n-th is taken: means and shares need no more, and a dozen columns of millions are not held at once."""


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """`parts`: name → (requests,) ns, NaN for those that are not successful; a part that no request has is missing.

    `rows`: which rows of the run these are: all, or every n-th of more than 50,000. `total`: (requests,) ns, the sum of the parts.
    `source`: of queue and prefill. `too_long`: successful requests whose server says more than the client measured; their prefill, then
    their queue is cut to what the client saw. `worst_ns`: by how much, at most.
    """

    parts: Mapping[str, Floats] = field(repr=False)
    total: Floats = field(repr=False)
    rows: slice | Ints = field(default_factory=lambda: slice(None), repr=False)
    source: Source = "client"
    too_long: int = 0
    worst_ns: float = 0.0

    @property
    def has_server(self) -> bool:
        return self.source != "client"

    def means(self, wanted: Bools | None = None) -> dict[str, float]:
        """Part → mean over the requests (those of a mask over them), ns; empty if there is none."""
        use = np.isfinite(self.total) if wanted is None else wanted & np.isfinite(self.total)
        return {name: float(values[use].mean()) for name, values in self.parts.items()} if use.any() else {}


def find_lifecycle(
    context: MetricContext, view: ServerView | None, stall_ns: float, rows: Ints | None = None
) -> Lifecycle | None:
    """None if no successful request has a first token and an end. `stall_ns`: gaps above it are stalls (needs the pass over the chunks).
    `rows`: of these rows alone.
    """
    return _of_rows(
        context, view, stall_ns, slice(None, None, max(1, -(-context.num_rows // _MOST_ROWS))) if rows is None else rows
    )


def _of_rows(context: MetricContext, view: ServerView | None, stall_ns: float, rows: slice | Ints) -> Lifecycle | None:
    start, finish, scheduled = context.start[rows], context.finish[rows], context.scheduled[rows]
    first = context.ok_only(context.streamed_only(context.first_content))[rows]
    wait, after = first - start, finish - first
    known = np.isfinite(wait) & np.isfinite(after)
    if not known.any():
        return None
    lag = np.where(np.isfinite(scheduled), np.maximum(start - scheduled, 0.0), 0.0)
    stalls = np.zeros(len(wait))
    if context.chunks is not None:
        gaps = context.chunks.rows.longest_gap[rows]
        stalls = np.where(gaps > stall_ns, np.minimum(gaps, np.maximum(after, 0.0)), 0.0)
    told = _of_server(context, view, first, known, rows)
    parts: dict[str, Floats] = {"client send lag": lag}
    too_long, worst = 0, 0.0
    if told.source == "client":
        parts["before the first token"] = wait
    else:
        queue, both, prefill = told.queue, told.both, told.prefill
        excess = queue + both + prefill - wait
        if told.source == "histogram":
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = np.where(excess > 0, wait / (queue + prefill), 1.0)
            queue, prefill = queue * factor, prefill * factor
        else:
            beyond = known & (excess > 0)
            too_long, worst = int(np.count_nonzero(beyond)), float(excess[beyond].max()) if beyond.any() else 0.0
            cut = np.where(excess > 0, excess, 0.0)
            from_prefill = np.minimum(cut, prefill)
            from_both = np.minimum(cut - from_prefill, both)
            prefill, both, queue = prefill - from_prefill, both - from_both, queue - (cut - from_prefill - from_both)
        # llama.cpp tells its prefill and not its queue: what is left holds both.
        parts["network" if told.has_queue else "network and queue"] = wait - queue - both - prefill
        parts["server queue"], parts["queue and prefill"], parts["prefill"] = queue, both, prefill
    parts["decode"] = after - stalls
    parts["stalls"] = stalls
    shown: dict[str, Floats] = {
        name: np.where(known, parts[name], np.nan) for name in PARTS if name in parts and parts[name][known].any()
    }
    total = np.where(known, lag + wait + after, np.nan)
    return Lifecycle(parts=shown, total=total, rows=rows, source=told.source, too_long=too_long, worst_ns=worst)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What the server says: (requests,) ns, 0 where it says nothing. `both`: queue and prefill as one. `has_queue`: the queue is in it."""

    queue: Floats
    both: Floats
    prefill: Floats
    source: Source
    has_queue: bool


def _of_server(
    context: MetricContext, view: ServerView | None, first: Floats, known: Bools, rows: slice | Ints
) -> _Told:
    """Of each request where more than half of them have it, else from the histograms' means over time."""
    queue, prefill = context.column("server_queue_ns")[rows], context.column("server_prefill_ns")[rows]
    has_queue, has_prefill = np.isfinite(queue), np.isfinite(prefill)
    both = context.column("server_total_ns")[rows] - context.column("server_decode_ns")[rows]
    both = np.where(has_queue | has_prefill, np.nan, both)
    has_both = np.isfinite(both)
    either = (has_queue | has_both | has_prefill) & known
    if np.count_nonzero(either) * 2 > np.count_nonzero(known):
        which = np.nan_to_num(context.column("server_source")[rows][either])
        source = SOURCES[min(int(np.median(which)), len(SOURCES) - 1)]
        parts = (np.nan_to_num(queue), np.nan_to_num(both), np.nan_to_num(prefill))
        queue, both, prefill = parts
        return _Told(
            queue=queue, both=both, prefill=prefill, source=source, has_queue=bool((has_queue | has_both).any())
        )
    found = [None if view is None else _course(view, name, first) for name in ("queue_time", "prefill_time")]
    nothing = np.zeros(len(first))
    filled = [nothing if f is None else f for f in found]
    source = "client" if all(f is None for f in found) else "histogram"
    return _Told(queue=filled[0], both=nothing, prefill=filled[1], source=source, has_queue=found[0] is not None)


def _course(view: ServerView, name: str, at: Floats) -> Floats | None:
    """(requests,) ns: the mean the server had when each request got its first token."""
    course = view.course(name)
    if course is None:
        return None
    times = np.array(course.times_s)
    values = np.array([np.nan if v is None else v for v in course.values])
    there = np.isfinite(values)
    if not there.any():
        return None
    return np.asarray(np.interp(np.nan_to_num(at) / 1e9, times[there], values[there]) * 1e6)

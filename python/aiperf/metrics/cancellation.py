"""What cancelling on purpose did: to the cancelled requests, to their neighbours, to connections and to the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.metrics import Bools, Floats
from aiperf.metrics.context import MetricContext
from aiperf.metrics.stats import Stats, compute_stats, in_order

__all__ = ["Cancellation", "Neighbours", "Recovery", "find_recovery", "summarise_cancellation"]

_FEWEST: Final = 20
_FEWEST_SAMPLES: Final = 3
_OFTEN: Final = 0.5
_TAGS: Final = ("time_to_first_token", "inter_token_latency", "request_latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """A latency (mean, ms) of successful requests in flight at some cancellation against the other successful ones.

    `ratio`: during / apart; None when either group has fewer than 20 requests.
    """

    tag: str
    during: float | None
    apart: float | None
    num_during: int
    num_apart: int
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A level of the server (requests running, share of KV cache) after the last cancelled request.

    `before`: its mean before the first cancellation. `expected`: what the client's own requests in flight allow.
    `seconds`: until it returned, None if it never did within the samples. `above`: share of the samples from the first
    cancellation on that are over the level. Either says that the server keeps generating after a disconnect (`lingers`).
    """

    name: str
    before: float
    highest_excess: float
    seconds: float | None
    above: float = 0.0
    counts_requests: bool = True
    samples: int = 0

    @property
    def lingers(self) -> bool:
        """A gauge of requests is held against the client's own at each moment; another one only against its level."""
        often = self.counts_requests and self.samples >= _FEWEST_SAMPLES and self.above > _OFTEN
        return self.seconds is None or often


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """`delay_ms`: after the request body was sent to the cancellation. `before_first_token`: cancelled without any content.

    `reconnects`: new connections opened after the first cancellation. `errors_during`, `errors_apart`: failed requests in flight
    at a cancellation, and the others.
    """

    count: int
    delay_ms: Stats | None
    before_first_token: int
    neighbours: tuple[Neighbours, ...]
    reconnects: int
    errors_during: int
    errors_apart: int
    recovery: tuple[Recovery, ...] = ()


def in_flight_at(context: MetricContext, moments: Floats) -> Bools:
    """(rows,) requests that were open at one of the moments (ns, ascending)."""
    first = np.searchsorted(moments, context.start, side="left")
    last = np.searchsorted(moments, np.fmax(context.finish, context.column("end")), side="right")
    return np.asarray(last > first)


def summarise_cancellation(
    context: MetricContext, recovery: tuple[Recovery, ...] = (), *, asked: bool = False
) -> Cancellation | None:
    """None if nothing was cancelled on purpose, nor `asked` for."""
    on_purpose = context.error_kind == ErrorKind.CANCELLED
    if not on_purpose.any() and not asked:
        return None
    at = np.where(np.isnan(context.column("cancelled_at")), context.column("end"), context.column("cancelled_at"))
    moments = np.sort(at[on_purpose])
    moments = moments[~np.isnan(moments)]
    during = in_flight_at(context, moments)
    neighbours: list[Neighbours] = []
    for tag in _TAGS:
        values = context.value(tag) / 1e6
        near, far = values[during & np.isfinite(values)], values[~during & np.isfinite(values)]
        if len(near) + len(far) == 0:
            continue
        mean_during = float(near.mean()) if len(near) else None
        mean_apart = float(far.mean()) if len(far) else None
        enough = len(near) >= _FEWEST and len(far) >= _FEWEST and bool(mean_apart)
        neighbours.append(
            Neighbours(
                tag=tag,
                during=mean_during,
                apart=mean_apart,
                num_during=len(near),
                num_apart=len(far),
                ratio=mean_during / mean_apart if enough and mean_during is not None and mean_apart else None,
            )
        )
    opened = (context.column("reused") == 0) & (context.start > (moments[0] if len(moments) else np.inf))
    delay = (at - context.column("body_sent"))[on_purpose] / 1e6
    return Cancellation(
        count=int(np.count_nonzero(on_purpose)),
        delay_ms=compute_stats(delay),
        before_first_token=int(np.count_nonzero(np.isnan(context.first_content[on_purpose]))),
        neighbours=tuple(neighbours),
        reconnects=int(np.count_nonzero(opened)),
        errors_during=int(np.count_nonzero(context.failed & during)),
        errors_apart=int(np.count_nonzero(context.failed & ~during)),
        recovery=recovery,
    )


def find_recovery(
    context: MetricContext,
    name: str,
    times_ns: Floats,
    levels: Floats,
    *,
    counts_requests: bool,
    tolerance: float = 0.1,
) -> Recovery | None:
    """How a server's gauge (sampled at run times, ascending) went back after the cancellations.

    `counts_requests`: the gauge is requests running; then its excess over the client's own requests in flight shows work on
    replies nobody reads. Other gauges (KV use) are held against their level before the first cancellation.
    None without cancellations or samples around them.
    """
    on_purpose = context.error_kind == ErrorKind.CANCELLED
    if not on_purpose.any() or not len(times_ns):
        return None
    at = np.where(np.isnan(context.column("cancelled_at")), context.column("end"), context.column("cancelled_at"))[
        on_purpose
    ]
    at = at[~np.isnan(at)]
    if not len(at):
        return None
    first, last = float(at.min()), float(at.max())
    early = times_ns < first
    before = float(levels[early].mean()) if early.any() else 0.0
    if counts_requests:
        starts, ends = in_order(context.start), in_order(np.fmax(context.finish, context.column("end")))
        own = np.searchsorted(starts, times_ns, side="right") - np.searchsorted(ends, times_ns, side="right")
        excess = levels - own
        # What was there before any cancellation is others' work.
        allowed = 0.5 + max(float(excess[early].max(initial=0.0)), 0.0)
    else:
        excess = levels - before
        allowed = tolerance * max(before, float(levels.max(initial=0.0)) * tolerance)
    after = times_ns >= last
    if not after.any():
        return None
    back = np.flatnonzero(after & (excess <= allowed))
    seconds = float(times_ns[back[0]] - last) / 1e9 if len(back) else None
    since = excess[times_ns >= first]
    above = float(np.mean(since > allowed))
    return Recovery(
        name=name,
        before=before,
        highest_excess=float(since.max()),
        seconds=seconds,
        above=above,
        counts_requests=counts_requests,
        samples=len(since),
    )

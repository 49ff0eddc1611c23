"""`aiperf capacity`: what this machine can honestly drive, in at most 15 seconds and without a server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from aiperf.config.flag import Flag
from aiperf.json_text import json_text
from aiperf.number_text import exact

if TYPE_CHECKING:
    from aiperf.run.capacity import Capacity, Step

__all__ = ["as_json", "command", "render"]

_MOST_WORKERS = 256


def command(
    *,
    workers: Annotated[int | None, Flag(help="Worker threads; default: a quarter of the cores")] = None,
    as_json_text: Annotated[bool, Flag("--json", help="Print the metrics as JSON")] = False,
    quiet: Annotated[bool, Flag(help="Do not show the steps")] = False,
) -> int:
    """Maximum load this machine can generate without distorting results: streams × tokens/s, requests/s, and an open loop's rate."""
    from aiperf.errors import ConfigError, Problem
    from aiperf.run.capacity import find_capacity

    if workers is not None and not 0 < workers <= _MOST_WORKERS:
        raise ConfigError((Problem(f"`{workers}` is not a number of threads from 1 to {_MOST_WORKERS}", "--workers"),))

    def tell(line: str) -> None:
        if not quiet:
            print(f"  {line}", file=sys.stderr)

    found = find_capacity(workers, tell)
    print(json_text(as_json(found), indent=2) if as_json_text else render(found))
    return 0


def _limit(step: Step | None) -> str:
    return "not reached within the time of this test" if step is None else step.limit or ""


def render(capacity: Capacity) -> str:
    """The result, for people."""
    from aiperf.run.capacity import STREAM_TOKENS_PER_S as PACE

    threads = f"{capacity.workers} worker thread{'' if capacity.workers == 1 else 's'}, {capacity.cores} core{'' if capacity.cores == 1 else 's'}"
    lines = [f"This machine ({threads}, shared with the server of this test) can generate without distorting results:"]
    if capacity.streams is None:
        lines.append(f"  streams      not even the first load: {_limit(capacity.streams_limit)}")
    else:
        n = capacity.streams.run.load.streams
        lines.append(f"  streams      {n:,} × {exact(PACE)} tokens/s = {n * PACE:,.0f} tokens/s")
        lines.append(f"               limit: {_limit(capacity.streams_limit)}")
    lines.append(
        f"  requests     {capacity.requests.run.request_rate:,.0f} requests/s in a closed loop of {capacity.requests.run.load.streams}"
    )
    lines.append(
        f"               client CPU {capacity.requests.run.busiest_worker:.0%}, server CPU {capacity.requests.run.server_cpu:.0%} of a core"
    )
    if capacity.requests.limit is not None:
        lines.append(f"               limit: {capacity.requests.limit}")
    if capacity.rate is None:
        lines.append(f"  open loop    not even the first rate: {_limit(capacity.rate_limit)}")
    else:
        lines.append(
            f"  open loop    {capacity.rate.run.load.rate_per_s:,.0f} requests/s at a send lag p99 of at most 1 ms"
        )
        lines.append(f"               limit: {_limit(capacity.rate_limit)}")
    lines.append(
        f"Lower bounds: against a server on another machine the client has these cores for itself. {capacity.seconds:.0f} s."
    )
    return "\n".join(lines)


def as_json(capacity: Capacity) -> dict[str, object]:
    """The same for machines; null where not even the first load was honest."""
    from aiperf.run.capacity import STREAM_TOKENS_PER_S

    streams = None if capacity.streams is None else capacity.streams.run.load.streams
    return {
        "streams": streams,
        "tokens_per_s": None if streams is None else streams * STREAM_TOKENS_PER_S,
        "requests_per_s": capacity.requests.run.request_rate,
        "open_loop_requests_per_s": None if capacity.rate is None else capacity.rate.run.load.rate_per_s,
        "limits": {
            "streams": None if capacity.streams_limit is None else capacity.streams_limit.limit,
            "open_loop": None if capacity.rate_limit is None else capacity.rate_limit.limit,
        },
        "workers": capacity.workers,
        "cores": capacity.cores,
        "is_lower_bound": True,
    }

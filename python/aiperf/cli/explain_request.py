"""`aiperf explain-request RUN [ID | --slowest N]`: what single requests waited for, and what ran beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from aiperf.config.flag import Flag

if TYPE_CHECKING:
    from aiperf.metrics.context import MetricContext
    from aiperf.metrics.request_story import Segment, Story

__all__ = ["command", "render_story"]

_BAR = 56
_FIRST_OF_ID = 8


def command(
    run: Annotated[Path, Flag(help="Folder of a run")],
    request: Annotated[
        str | None,
        Flag(help="Number or id (or the first 8 digits of it) of a request, as in the files and on the page"),
    ] = None,
    /,
    *,
    slowest: Annotated[int, Flag(help="Explain the N slowest requests by request latency")] = 1,
    json: Annotated[bool, Flag(help="Print JSON instead of text")] = False,
) -> int:
    """Where the time of single requests went: client and server on one axis, in words and bars."""
    import numpy as np

    from aiperf.errors import ConfigError
    from aiperf.json_text import json_text, to_json_value
    from aiperf.metrics.compute import open_context, rows_of, scan_context
    from aiperf.metrics.request_story import Clock, tell
    from aiperf.metrics.summary import phase_mask
    from aiperf.run.run import Run

    if slowest < 1:
        raise ConfigError(f"`--slowest {slowest}` must be at least 1")
    opened = Run.open(run)
    options = opened.options
    context = open_context(
        rows_of(opened.columns, phase_mask(opened.columns, options.phases, "profiling")), options.metrics
    )
    scan_context(context, (), options.stall_ns)
    ids = context.columns.strings("request_id")
    if request is None:
        latency = np.nan_to_num(context.value("request_latency"), nan=-1.0)
        rows = [int(i) for i in np.argsort(-latency, kind="stable")[:slowest] if latency[i] >= 0]
        if not rows:
            raise ConfigError(
                f"no request of `{run}` succeeded: none has a latency", "name a request by its number or id"
            )
    else:
        rows = [_find(context, ids, request)]
    told = opened.json.server_clock_ns
    clock = None if told is None else Clock(*told)
    stories = [tell(context, row, ids[row] or "", options.view, options.stall_ns, clock) for row in rows]
    if json:
        print(json_text(to_json_value({"requests": [_as_json(s) for s in stories]}), indent=2))
    else:
        print("\n\n".join(render_story(s) for s in stories))
    return 0


def _find(context: MetricContext, ids: list[str | None], wanted: str) -> int:
    from aiperf.errors import ConfigError

    text = wanted.strip().lower()
    numbers = context.column("request")
    if text.isdigit() and len(text) < _FIRST_OF_ID:
        for row, number in enumerate(numbers.tolist()):
            if number == int(text):
                return row
    rows = [row for row, name in enumerate(ids) if name and (name == text or name.replace("-", "") == text)]
    if not rows and len(text) >= _FIRST_OF_ID:
        rows = [row for row, name in enumerate(ids) if name and name.startswith(text)]
    if len(rows) != 1:
        why = "no request" if not rows else f"{len(rows)} requests"
        raise ConfigError(
            f"{why} of this run has the number or id `{wanted}`",
            "numbers and ids are in `profile_export.jsonl` and on the page",
        )
    return rows[0]


def render_story(story: Story) -> str:
    """Plain text: a bar per segment, client above server, then the sentences."""
    head = f"Request {story.request} ({story.request_id}): {story.total_ms:,.1f} ms"
    lines = [head]
    span = max((x.end_ms for x in story.segments), default=0.0) - min((x.begin_ms for x in story.segments), default=0.0)
    first = min((x.begin_ms for x in story.segments), default=0.0)
    wide = max((len(x.name) for x in story.segments), default=0)
    for lane in ("client", "server"):
        inside = [x for x in story.segments if x.lane == lane]
        if inside:
            lines.append(f"  {lane}")
            lines += [f"    {x.name.ljust(wide)} {_bar(x, first, span)} {x.length_ms:>10,.1f} ms" for x in inside]
    if story.bound_ms is not None:
        how = "by its spans" if story.source == "spans" else "between what the client saw"
        lines.append(f"  the server's times are placed {how}, to ±{story.bound_ms:,.1f} ms")
    return "\n".join([*lines, *(f"  - {w}" for w in story.words)])


def _bar(x: Segment, first: float, span: float) -> str:
    if span <= 0:
        return " " * _BAR
    begin = round(_BAR * (x.begin_ms - first) / span)
    end = max(begin + 1, round(_BAR * (x.end_ms - first) / span))
    begin, end = min(begin, _BAR - 1), min(end, _BAR)
    return " " * begin + "█" * (end - begin) + " " * (_BAR - end)


def _as_json(story: Story) -> dict[str, object]:
    return {
        "request": story.request,
        "request_id": story.request_id,
        "total_ms": story.total_ms,
        "source": story.source,
        "server_bound_ms": story.bound_ms,
        "segments": [
            {"lane": x.lane, "name": x.name, "begin_ms": x.begin_ms, "end_ms": x.end_ms} for x in story.segments
        ],
        "words": list(story.words),
    }

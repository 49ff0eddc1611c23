"""Each request as a bar over time: waiting for the first token, then receiving; failed and cancelled ones in their own colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics import Floats, Ints
from aiperf.plots import PlotRun, Spec, rows_of_rank
from aiperf.plots.spec import colour_by, frame, quantitative, records, rounded

__all__ = ["draw"]

_MOST = 600
_NAMES = ("prefill", "decode", "whole response", "failed", "cancelled")
_COLOURS = ("$orange", "$blue", "$sky", "$vermillion", "$grey")


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """One run. Of more than 600 requests, those in a row that start in the middle of the run: the pattern of batches shows
    only between neighbours. Lanes: a request takes the lowest one that is free.
    """
    run = runs[0]
    if len(runs) > 1 or run.span is None:
        return None
    start, end = run.context.start, run.ends
    begins = np.where(np.isfinite(end), start, np.nan)
    total = int(np.count_nonzero(np.isfinite(begins)))
    if not total:
        return None
    first = max((total - _MOST) // 2, 0)
    known = rows_of_rank(begins, slice(first, first + _MOST))
    lane = free_lanes(start[known], end[known])
    begin, finish = run.seconds(start[known]), run.seconds(end[known])
    first_token = run.context.first_content[known]
    middle = np.where(np.isfinite(first_token), run.seconds(first_token), np.nan)
    ok, failed = run.context.ok[known], run.context.failed[known]
    rows: list[dict[str, object]] = []
    streamed = ok & np.isfinite(middle)
    for name, use, t0, t1 in (
        (_NAMES[0], streamed, begin, middle),
        (_NAMES[1], streamed, middle, finish),
        (_NAMES[2], ok & ~streamed, begin, finish),
        (_NAMES[3], failed, begin, finish),
        (_NAMES[4], ~ok & ~failed, begin, finish),
    ):
        rows += records(
            {
                "a": rounded(t0[use], 7),
                "b": rounded(t1[use], 7),
                "y": [n + 1 for n in lane[use].tolist()],
                "s": [name] * int(use.sum()),
                "r": known[use].tolist(),
                "d": rounded((t1 - t0)[use] * 1e3),
            }
        )
    body = _bars(rows, int(lane.max()) + 1)
    note = (
        f"{total:,} requests"
        if total <= _MOST
        else f"{_MOST:,} of {total:,} requests, in a row, from the middle of the run"
    )
    return frame("Requests over time", note, body, marks=len(rows))


def _bars(rows: list[dict[str, object]], lanes: int) -> Spec:
    used = [n for n in _NAMES if any(r["s"] == n for r in rows)]
    height = int(min(max(4 * lanes, 120), 420))
    return {
        "width": "$w1",
        "height": height,
        "data": {"values": rows},
        "mark": {"type": "bar", "height": {"band": 0.8}, "cornerRadius": 0},
        "encoding": {
            "x": quantitative("a", "time since the first request (s)", zero=False),
            "x2": {"field": "b"},
            "y": {
                "field": "y",
                "type": "ordinal",
                "title": "requests in flight",
                "sort": "descending",
                "axis": {"labelOverlap": "greedy", "minExtent": 46, "grid": False},
            },
            "color": colour_by(used, _NAMES, _COLOURS),
            "tooltip": [
                {"field": "r", "title": "row"},
                {"field": "s", "title": "part"},
                {"field": "a", "title": "from (s)", "format": ".3f"},
                {"field": "d", "title": "lasted (ms)", "format": ",.4~g"},
            ],
        },
    }


def free_lanes(start: Floats, end: Floats) -> Ints:
    """(rows,) the lowest lane that is free at each start (ascending)."""
    import heapq

    lanes = np.zeros(len(start), dtype=np.int64)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    used = 0
    for row, (begin, finish) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):  # at most 600 rows
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, used = used, used + 1
        lanes[row] = lane
        heapq.heappush(busy, (finish, lane))
    return lanes

"""Gaps between chunks (inter-chunk latency) by time and length: the rhythm of decoding, and who disturbed it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.plots import MAX_MARKS, PlotRun, Spec
from aiperf.plots.spec import frame, records, rounded

__all__ = ["draw"]


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """One run. Colour: the share of the gaps of that time; cells that hold no gap stay empty."""
    run = runs[0]
    if len(runs) > 1 or run.span is None or not run.chunks.heat.total:
        return None
    heat = run.chunks.heat
    counts, gap_edges = heat.counts, heat.gap_edges() / 1e6
    seconds = run.seconds(heat.time_edges)
    used = np.flatnonzero(counts.any(axis=0))
    lo, hi = int(used[0]), int(used[-1]) + 1
    counts, gap_edges = counts[:, lo:hi], gap_edges[lo : hi + 1]
    while np.count_nonzero(counts) > MAX_MARKS:
        # Two neighbouring lengths become one cell.
        if counts.shape[1] % 2:
            counts = np.pad(counts, ((0, 0), (0, 1)))
            gap_edges = np.append(gap_edges, gap_edges[-1] * gap_edges[-1] / gap_edges[-2])
        counts = counts.reshape(len(counts), -1, 2).sum(axis=2)
        gap_edges = gap_edges[::2]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 100
    window, length = np.nonzero(counts)
    rows = records(
        {
            "a": rounded(seconds[window]),
            "b": rounded(seconds[window + 1]),
            "lo": rounded(gap_edges[length]),
            "hi": rounded(gap_edges[length + 1]),
            "n": counts[window, length].tolist(),
            "p": rounded(share[window, length], 4),
        }
    )
    body = _cells(rows)
    note = f"{heat.total:,} gaps of successful requests, binned in {counts.shape[0]} × {counts.shape[1]} cells"
    return frame("Inter-chunk latency", note, body, marks=len(rows))


def _cells(rows: list[dict[str, object]]) -> Spec:
    return {
        "width": "$w1",
        "height": 240,
        "data": {"values": rows},
        "mark": {"type": "rect", "x2Offset": 0.6, "y2Offset": -0.6},
        "encoding": {
            "x": {
                "field": "a",
                "type": "quantitative",
                "title": "time since the first request (s)",
                "scale": {"nice": False, "zero": False},
            },
            "x2": {"field": "b"},
            "y": {
                "field": "lo",
                "type": "quantitative",
                "title": "gap between chunks (ms)",
                "scale": {"type": "log", "nice": False},
                "axis": {"minExtent": 46, "labelOverlap": True, "tickCount": 6, "format": ",~g", "grid": False},
            },
            "y2": {"field": "hi"},
            "color": {
                "field": "p",
                "type": "quantitative",
                "scale": {"type": "sqrt", "range": "$heat"},
                "legend": {
                    "title": "share of the gaps at that time (%)",
                    "gradientLength": 160,
                    "tickCount": 4,
                    "titleLimit": 260,
                },
            },
            "tooltip": [
                {"field": "a", "title": "from (s)", "format": ".3~f"},
                {"field": "lo", "title": "gap from (ms)", "format": ".3~g"},
                {"field": "hi", "title": "to (ms)", "format": ".3~g"},
                {"field": "n", "title": "gaps", "format": ","},
                {"field": "p", "title": "share (%)", "format": ".3~g"},
            ],
        },
    }

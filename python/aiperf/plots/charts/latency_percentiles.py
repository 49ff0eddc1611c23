"""Latency by percentile on an axis that opens the tail: p90, p99, p99.9 and p99.99 are equally far apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics import Floats
from aiperf.plots import MAX_MARKS, PlotRun, Spec
from aiperf.plots.spec import (
    LATENCIES,
    frame,
    quantitative,
    rank_axis,
    records,
    rounded,
    run_scale,
    short_name,
    thin_curve,
)

__all__ = ["draw", "tail_rank"]


def tail_rank(num: int) -> Floats:
    """(num,) −log10(1 − p) of ordered values, p = rank / (num − 1) as percentiles interpolate; the last, p100, has no
    place on this axis and is drawn half a step behind its neighbour.
    """
    rank = np.arange(num, dtype=np.float64)
    rank /= max(num - 1, 1)
    rank[-1] = 1 - 1 / (2 * max(num - 1, 1))
    np.subtract(1, rank, out=rank)
    np.log10(np.maximum(rank, 1e-12, out=rank), out=rank)
    return np.abs(rank, out=rank)


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """One panel per latency; drawn up to p99.99."""
    curves = [(run, tag) for tag in LATENCIES for run in runs if run.has_curve(tag)]
    if not curves:
        return None
    most = min((MAX_MARKS - 100) // len(curves), 300)
    panels: list[Spec] = []
    drawn = 0
    for tag in dict.fromkeys(c[1] for c in curves):
        rows: list[dict[str, object]] = []
        for run, _ in (c for c in curves if c[1] == tag):
            values = run.ordered(tag)
            rank = tail_rank(len(values))
            rank = rank[: np.searchsorted(rank, 4, side="right")]
            index = thin_curve(len(rank), most, rank)
            drawn += len(index)
            share = 100 * (1 - 10 ** -rank[index])
            rows += records(
                {
                    "x": rounded(rank[index]),
                    "v": rounded(values[index]),
                    "p": rounded(share, 7),
                    "run": [run.label] * len(index),
                }
            )
        panels.append(_panel(tag, rows, runs))
    total = sum(int(run.context.ok.sum()) for run in runs)
    note = f"{total:,} successful requests; curves of at most {most:,} points, evenly along the axis, up to p99.99"
    return frame("Latency by percentile", note, {"concat": panels, "columns": "$cols3", "spacing": 14}, marks=drawn)


def _panel(tag: str, rows: list[dict[str, object]], runs: Sequence[PlotRun]) -> Spec:
    return {
        "width": "$w3",
        "height": 220,
        "data": {"values": rows},
        "mark": {"type": "line", "tooltip": True},
        "encoding": {
            "x": rank_axis(),
            "y": quantitative("v", short_name(tag)),
            "color": {
                "field": "run",
                "type": "nominal",
                "scale": run_scale([r.label for r in runs], [r.load for r in runs]),
                "legend": None if len(runs) == 1 else {"orient": "top"},
            },
            "tooltip": [
                {"field": "run", "title": "run"},
                {"field": "p", "title": "percentile", "format": ".6~g"},
                {"field": "v", "title": short_name(tag), "format": ",.4~g"},
            ],
        },
    }

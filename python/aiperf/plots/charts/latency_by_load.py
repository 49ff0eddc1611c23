"""Latency against load over the runs of a sweep: where it bends."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.plots import PlotRun, Spec, by_load
from aiperf.plots.spec import LATENCIES, frame, quantitative, records, short_name, spans_a_decade

__all__ = ["draw"]

_STATS = ("p50", "p90", "p99")


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Two runs or more with a place on the same axis; p50, p90 and p99."""
    placed = by_load(runs)
    if not placed:
        return None
    loads = [r.load or 0.0 for r in placed]
    log = spans_a_decade(loads)
    panels: list[Spec] = []
    marks = 0
    for tag in LATENCIES:
        rows: list[dict[str, object]] = []
        for name in _STATS:
            values = [r.stat(tag, name) for r in placed]
            rows += [
                r
                for r in records({"x": loads, "y": values, "s": [name] * len(loads), "run": [p.label for p in placed]})
                if "y" in r
            ]
        if not rows:
            continue
        marks += 2 * len(rows)
        panels.append(_panel(tag, rows, placed[0].load_name, log=log))
    if not panels:
        return None
    note = f"{len(placed)} runs; median, p90 and p99 of each"
    return frame("Latency against load", note, {"concat": panels, "columns": "$cols3", "spacing": 14}, marks=marks)


def _panel(tag: str, rows: list[dict[str, object]], load_name: str, *, log: bool) -> Spec:
    return {
        "width": "$w3",
        "height": 200,
        "data": {"values": rows},
        "mark": {"type": "line", "point": {"size": 40}},
        "encoding": {
            "x": quantitative(
                "x",
                load_name.lower(),
                log=log,
                zero=False,
                values=sorted({float(str(r["x"])) for r in rows}),
                format="~s",
            ),
            "y": quantitative("y", short_name(tag)),
            "color": {
                "field": "s",
                "type": "nominal",
                "legend": {"orient": "top"},
                "scale": {"domain": list(_STATS), "range": ["$blue", "$orange", "$vermillion"]},
            },
            "tooltip": [
                {"field": "run", "title": "run"},
                {"field": "s", "title": "statistic"},
                {"field": "y", "title": short_name(tag), "format": ",.4~g"},
            ],
        },
    }

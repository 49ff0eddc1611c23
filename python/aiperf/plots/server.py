"""Pieces of the charts over time that show the server: a panel of courses, and the client's load beneath it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics.server import ServerSeries
from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import legend_scale, quantitative, records, rounded

__all__ = ["course_rows", "load_panel", "panel", "stacked"]


def course_rows(run: PlotRun, courses: Sequence[tuple[str, ServerSeries]]) -> list[dict[str, object]]:
    """Rows for a panel: (name in the legend, course), times since the first request."""
    rows: list[dict[str, object]] = []
    for name, course in courses:
        times = run.seconds(np.array(course.times_s) * 1e9)
        values = np.array([np.nan if v is None else v for v in course.values], dtype=np.float64)
        rows += records({"t": rounded(times), "v": rounded(values), "s": [name] * len(times)})
    return rows


def panel(
    rows: list[dict[str, object]],
    title: str,
    names: Sequence[str],
    colours: Sequence[str] | None = None,
    height: int = 110,
) -> Spec:
    """Lines over time, a colour per name; one name needs no legend."""
    color: Spec = {
        "field": "s",
        "type": "nominal",
        "scale": legend_scale(names, colours),
        "legend": {"orient": "top"} if len(names) > 1 else None,
    }
    return {
        "width": "$w1",
        "height": height,
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 1.6, "strokeJoin": "miter"},
        "encoding": {
            "x": quantitative("t", "", zero=False, labels=False, ticks=False),
            "y": quantitative("v", title, minExtent=46, tickCount=4),
            "color": color,
            "tooltip": [
                {"field": "t", "title": "at (s)", "format": ".4~g"},
                {"field": "s", "title": "series"},
                {"field": "v", "title": title, "format": ",.4~g"},
            ],
        },
    }


def load_panel(run: PlotRun) -> tuple[Spec, int]:
    """(panel, marks): requests in flight by the client's clock, with the axis of the time."""
    level = run.mean_in_flight()
    begin = run.seconds(run.edges)  # the last level twice: steps hold to the end of their window
    rows = records({"t": rounded(begin), "n": rounded(np.append(level, level[-1:]))})
    spec: Spec = {
        "width": "$w1",
        "height": 56,
        "data": {"values": rows},
        "mark": {
            "type": "area",
            "interpolate": "step-after",
            "color": "$faint",
            "line": {"color": "$grey", "strokeWidth": 1},
        },
        "encoding": {
            "x": quantitative("t", "time since the first request (s)", zero=False),
            "y": quantitative("n", "in flight", minExtent=46, tickCount=3),
        },
    }
    return spec, len(rows)


def stacked(run: PlotRun, panels: list[Spec]) -> tuple[Spec, int]:
    """(body, further marks): the panels above each other with the client's load beneath, on one axis of time."""
    below, marks = load_panel(run)
    body: Spec = {
        "vconcat": [*panels, below],
        "spacing": 8,
        "resolve": {"scale": {"x": "shared", "color": "independent"}},
    }
    return body, marks

"""Efficiency against experience: tokens/s per GPU against tokens/s per user, one point per run, the front drawn through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics import Bools, Floats
from aiperf.plots import PlotRun, Spec
from aiperf.plots._spec import frame, quantitative, records, rounded

__all__ = ["draw", "front_mask"]


def front_mask(x: Floats, y: Floats) -> Bools:
    """(points,) true where no other point is at least as good in both and better in one; larger is better."""
    worse = (
        (x[None, :] >= x[:, None])
        & (y[None, :] >= y[:, None])
        & ((x[None, :] > x[:, None]) | (y[None, :] > y[:, None]))
    )
    return np.asarray(~worse.any(axis=1))


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Two runs or more that have both figures. TPS/user: mean output_token_throughput_per_user; TPS/GPU by `num_gpus`."""
    points = [
        (run, user, total / max(run.num_gpus, 1))
        for run in runs
        if (user := run.stat("output_token_throughput_per_user")) is not None
        and (total := run.stat("output_token_throughput")) is not None
    ]
    if len(points) < 2:
        return None
    x, y = np.array([p[1] for p in points]), np.array([p[2] for p in points])
    front = front_mask(x, y)
    gpus = any(run.num_gpus > 1 for run, _, _ in points)
    rows = records(
        {
            "x": rounded(x), "y": rounded(y), "run": [p[0].label for p in points],
            "load": _labels([p[0] for p in points], x, y), "on": ["on the front" if f else "beaten by another" for f in front],
            "ttft": [p[0].stat("time_to_first_token") for p in points],
        }
    )  # fmt: skip
    order = np.argsort(x[front])
    line = records({"x": rounded(x[front][order]), "y": rounded(y[front][order])})
    axis_x = quantitative("x", "output tokens/s per user", tickCount=8)
    axis_y = quantitative("y", "output tokens/s per GPU" if gpus else "output tokens/s", minExtent=46)
    body: Spec = {
        "width": "$w1",
        "height": 320,
        "layer": [
            {
                "data": {"values": line},
                "mark": {"type": "line", "color": "$blue", "opacity": 0.5, "strokeWidth": 2},
                "encoding": {"x": axis_x, "y": axis_y},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "point", "size": 110, "opacity": 1},
                "encoding": {
                    "x": axis_x,
                    "y": axis_y,
                    "color": {
                        "field": "on", "type": "nominal", "legend": {"orient": "top"},
                        "scale": {"domain": ["on the front", "beaten by another"], "range": ["$blue", "$vermillion"]},
                    },
                    "tooltip": [
                        {"field": "run", "title": "run"}, {"field": "x", "title": "tokens/s per user", "format": ",.4~g"},
                        {"field": "y", "title": "tokens/s per GPU" if gpus else "tokens/s", "format": ",.5~g"},
                        {"field": "ttft", "title": "TTFT avg (ms)", "format": ",.4~g"},
                    ],
                },
            },
            {
                "data": {"values": [r for r in rows if "load" in r]},
                "mark": {"type": "text", "dy": -13, "color": "$ink", "fontSize": 11},
                "encoding": {"x": axis_x, "y": axis_y, "text": {"field": "load"}},
            },
        ],
    }  # fmt: skip
    names = {r.load_name.lower() for r, _, _ in points if r.load is not None}
    note = f"{len(points)} runs" + (f", labelled by {names.pop()}" if len(names) == 1 else "")
    return frame("Efficiency against experience", note, body, marks=2 * len(rows) + len(line))


def _labels(runs: Sequence[PlotRun], x: Floats, y: Floats) -> list[str | None]:
    """The load of each point; points that lie on each other share the first one's label: `32, 64`."""
    texts: list[list[str]] = []
    near = 0.02 * x.max(), 0.03 * y.max()
    for i, run in enumerate(runs):
        host = next(
            (j for j in range(i) if texts[j] and abs(x[i] - x[j]) < near[0] and abs(y[i] - y[j]) < near[1]), None
        )
        texts.append([])
        texts[i if host is None else host].append(_load_text(run))
    return [", ".join(t) or None for t in texts]


def _load_text(run: PlotRun) -> str:
    return run.label if run.load is None else f"{run.load:,g}"

"""TTFT and inter-token latency over the run, by start of the request, with the load beneath."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics import Floats
from aiperf.number_text import significant
from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import (
    count_text,
    frame,
    legend_scale,
    quantitative,
    records,
    rounded,
    run_scale,
    short_name,
)

__all__ = ["draw", "window_percentiles"]

_DOTS = 1_500
_TAGS = ("time_to_first_token", "inter_token_latency")


def window_percentiles(run: PlotRun, tag: str, percentiles: Sequence[float]) -> Floats:
    """(windows, percentiles) of the requests that started in each window; NaN where there are fewer than five."""
    where, values = run.window_of(run.context.start), run.values(tag)
    where[~np.isfinite(values)] = -1
    num = len(run.edges) - 1
    order = np.argsort(where, kind="stable")
    cuts = np.searchsorted(where[order], np.arange(num + 1))
    out = np.full((num, len(percentiles)), np.nan)
    for i in range(num):  # at most some hundred windows
        part = values[order[cuts[i] : cuts[i + 1]]]
        if len(part) >= 5:
            out[i] = np.percentile(part, percentiles)
    return out


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """One run: dots are requests, lines p50 and p95 per window. Several: p50 of each."""
    timed = [r for r in runs if r.span is not None]
    tags = [t for t in (*_TAGS, "request_latency") if any(np.isfinite(r.values(t)).any() for r in timed)]
    if not timed or not tags:
        return None
    tags = tags[:2]
    single = len(timed) == 1
    panels: list[Spec] = []
    marks = 0
    names = ["p50", "p95"] if single else [r.label for r in timed]
    bare = quantitative("t", "", zero=False, labels=False, ticks=False)
    scale = legend_scale(names, ["$blue", "$vermillion"]) if single else run_scale(names, [r.load for r in timed])
    for tag in tags:
        lines: list[dict[str, object]] = []
        for run in timed:
            middles = run.seconds((run.edges[1:] + run.edges[:-1]) / 2)
            found = window_percentiles(run, tag, (50, 95) if single else (50,))
            for j in range(found.shape[1]):
                series = names[j] if single else run.label
                lines += records({"t": rounded(middles), "v": rounded(found[:, j]), "s": [series] * len(middles)})
        marks += len(lines)
        layers: list[Spec] = []
        if single:
            dots = _dots(timed[0], tag)
            marks += len(dots)
            layers.append(_dot_layer(dots, tag, bare))
        if any("v" in row for row in lines):
            line: Spec = {
                "data": {"values": lines},
                "mark": {"type": "line", "interpolate": "linear"},
                "encoding": {
                    "x": bare,
                    "y": quantitative("v", short_name(tag), minExtent=46),
                    "color": {"field": "s", "type": "nominal", "scale": scale, "legend": {"orient": "top"}},
                },
            }
            layers.append(line)
        if layers:
            panels.append({"width": "$w1", "height": 150, "layer": layers})
    load, more = _load_panel(timed, scale, single=single)
    panels.append(load)
    rows = sum(int(r.context.ok.sum()) for r in timed)
    note = f"{_window_text(timed)}, by start of the request"
    if single:
        note = f"{count_text(min(rows, _DOTS), rows)}; lines: {note}"
    return frame(
        "Latency over time",
        note,
        {"vconcat": panels, "spacing": 8, "resolve": {"scale": {"x": "shared"}}},
        marks=marks + more,
    )


def _dot_layer(dots: list[dict[str, object]], tag: str, time_axis: Spec) -> Spec:
    """One dot a request."""
    return {
        "data": {"values": dots},
        "mark": {"type": "point", "size": 9, "opacity": 0.45, "color": "$grey"},
        "encoding": {
            "x": time_axis,
            "y": quantitative("v", short_name(tag), minExtent=46),
            "tooltip": [
                {"field": "t", "title": "started (s)", "format": ".3f"},
                {"field": "v", "title": short_name(tag), "format": ",.4~g"},
            ],
        },
    }


def _window_text(runs: Sequence[PlotRun]) -> str:
    widths = {significant((r.edges[1] - r.edges[0]) / 1e9, 3) for r in runs}
    return f"windows of {' / '.join(sorted(widths))} s"


def _dots(run: PlotRun, tag: str) -> list[dict[str, object]]:
    values = run.values(tag)
    rows = run.sample(_DOTS, np.isfinite(values))
    return records({"t": rounded(run.seconds(run.context.start[rows])), "v": rounded(values[rows])})


def _load_panel(runs: Sequence[PlotRun], scale: Spec, *, single: bool) -> tuple[Spec, int]:
    rows: list[dict[str, object]] = []
    for run in runs:
        level = run.mean_in_flight()
        begin = run.seconds(run.edges)  # the last level twice: steps hold to the end of their window
        rows += records(
            {"t": rounded(begin), "n": rounded(np.append(level, level[-1:])), "s": [run.label] * len(begin)}
        )
    mark: Spec = {
        "type": "area",
        "interpolate": "step-after",
        "color": "$faint",
        "line": {"color": "$grey", "strokeWidth": 1},
    }
    encoding: Spec = {
        "x": quantitative("t", "time since the first request (s)", zero=False),
        "y": quantitative("n", "in flight", minExtent=46, tickCount=3),
    }
    if not single:
        mark = {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5}
        encoding["color"] = {"field": "s", "type": "nominal", "scale": scale, "legend": {"orient": "top"}}
    return {"width": "$w1", "height": 64, "data": {"values": rows}, "mark": mark, "encoding": encoding}, len(rows)

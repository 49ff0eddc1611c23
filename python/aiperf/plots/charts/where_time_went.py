"""Where the time went: client send lag · network · server queue · prefill · decode · stalls, per time window and per percentile of latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from aiperf.metrics.lifecycle import PARTS, Lifecycle, find_lifecycle
from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import frame, legend_scale, quantitative

__all__ = ["draw"]

_COLOURS: Final = {
    "client send lag": "$grey",
    "network": "$sky",
    "network and queue": "$sky",
    "server queue": "$vermillion",
    "queue and prefill": "$vermillion",
    "prefill": "$orange",
    "before the first token": "$orange",
    "decode": "$green",
    "stalls": "$purple",
}
_BANDS: Final = (
    (0, 50, "p0–p50"),
    (50, 75, "p50–p75"),
    (75, 90, "p75–p90"),
    (90, 99, "p90–p99"),
    (99, 100, "p99–p100"),
)
_MOST_WINDOWS: Final = 60
_SOURCES: Final = {
    "histogram": "queue and prefill: mean of the server's histograms at the time",
    "response": "queue and prefill: per request, from the response",
    "headers": "queue and prefill: per request, from the response's headers",
    "spans": "queue and prefill: per request, from the server's spans",
    "client": "the server reports no queue or prefill time",
}


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Of one run with streamed responses."""
    if len(runs) != 1 or runs[0].span is None:
        return None
    run = runs[0]
    run.chunks  # noqa: B018 - stalls rest on them
    lifecycle = find_lifecycle(run.context, run.summary.server, run.summary.stall_ns)
    if lifecycle is None:
        return None
    windows, bands = _windows(run, lifecycle), _bands(lifecycle)
    if not windows:
        return None
    names = [p for p in PARTS if p in lifecycle.parts]
    panels = [_over_time(windows, names)]
    if bands:
        panels.append(_by_band(bands, names))
    every = (lifecycle.rows.step or 1) if isinstance(lifecycle.rows, slice) else 1
    part = "" if every == 1 else f"every {every}th request; "
    note = f"{part}mean per request, from the scheduled send time to the last token; {_SOURCES[lifecycle.source]}"
    body: Spec = {"vconcat": panels, "spacing": 14, "resolve": {"scale": {"color": "shared"}}}
    return frame("Where the time went", note, body, marks=len(windows) + len(bands))


def _windows(run: PlotRun, lifecycle: Lifecycle) -> list[dict[str, object]]:
    edges = run.edges
    step = max(1, int(np.ceil((len(edges) - 1) / _MOST_WINDOWS)))
    edges = np.unique(np.append(edges[::step], edges[-1]))
    place = np.searchsorted(edges, run.context.start[lifecycle.rows], side="right") - 1
    begin = run.seconds(edges)
    rows: list[dict[str, object]] = []
    for i in range(len(edges) - 1):  # at most some sixty
        below = 0.0
        for name, value in lifecycle.means(place == i).items():
            at, height = {"t": round(float(begin[i]), 4), "u": round(float(begin[i + 1]), 4)}, _ms(value)
            rows.append({**at, "v": height, "y": _ms(below), "z": _ms(below + value), "s": name})
            below += value
    return rows


def _bands(lifecycle: Lifecycle) -> list[dict[str, object]]:
    known = np.isfinite(lifecycle.total)
    cuts = np.percentile(lifecycle.total[known], [b[0] for b in _BANDS] + [100])
    rows: list[dict[str, object]] = []
    for i, (_, high, title) in enumerate(_BANDS):
        inside = known & (lifecycle.total >= cuts[i])
        inside &= (lifecycle.total <= cuts[i + 1]) if high == 100 else (lifecycle.total < cuts[i + 1])
        if inside.any():
            means = lifecycle.means(inside)
            rows += [{"b": title, "v": _ms(v), "s": name, "o": PARTS.index(name)} for name, v in means.items()]
    return rows


def _ms(value_ns: float) -> float:
    return float(f"{value_ns / 1e6:.5g}")


def _color(names: Sequence[str]) -> Spec:
    scale = legend_scale(names, [_COLOURS[n] for n in names])
    return {"field": "s", "type": "nominal", "scale": scale, "legend": {"orient": "top", "columns": 3}}


_TOOLTIP: Final = [{"field": "s", "title": "part"}, {"field": "v", "title": "mean (ms)", "format": ",.4~g"}]


def _over_time(rows: list[dict[str, object]], names: Sequence[str]) -> Spec:
    return {
        "width": "$w1",
        "height": 170,
        "data": {"values": rows},
        "mark": {"type": "rect"},
        "encoding": {
            "x": quantitative("t", "started, since the first request (s)", zero=False),
            "x2": {"field": "u"},
            "y": quantitative("y", "mean (ms per request)", minExtent=46),
            "y2": {"field": "z"},
            "color": _color(names),
            "tooltip": [*_TOOLTIP, {"field": "t", "title": "from (s)", "format": ".4~g"}],
        },
    }


def _by_band(rows: list[dict[str, object]], names: Sequence[str]) -> Spec:
    return {
        "width": "$w1",
        "height": {"step": 24},
        "data": {"values": rows},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "b", "type": "nominal", "title": "percentile of latency", "sort": [b[2] for b in _BANDS]},
            "x": {**quantitative("v", "mean (ms per request)"), "stack": "zero"},
            "color": _color(names),
            "order": {"field": "o", "type": "quantitative"},
            "tooltip": [*_TOOLTIP, {"field": "b", "title": "percentile of latency"}],
        },
    }

"""Share of requests that were at least this fast: TTFT, inter-token latency and request latency; several runs overlaid."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.plots import MAX_MARKS, PlotRun, Spec
from aiperf.plots.spec import LATENCIES, frame, quantitative, records, rounded, run_scale, short_name, thin_curve

__all__ = ["draw"]


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """One panel per latency with an axis of its own; each curve has as many points as the marks allow, evenly spread."""
    curves = [(run, tag) for tag in LATENCIES for run in runs if run.has_curve(tag)]
    if not curves:
        return None
    most = min((MAX_MARKS - 100) // len(curves), 400)
    panels: list[Spec] = []
    drawn = 0
    thinned = False
    for tag in dict.fromkeys(c[1] for c in curves):
        rows: list[dict[str, object]] = []
        for run, _ in (c for c in curves if c[1] == tag):
            values = run.ordered(tag)
            index = thin_curve(len(values), most)
            thinned |= len(index) < len(values)
            drawn += len(index)
            share = (index + 1) / len(values) * 100
            rows += records({"v": rounded(values[index]), "p": rounded(share), "run": [run.label] * len(index)})
        layer: Spec = {
            "width": "$w3",
            "height": 220,
            "data": {"values": rows},
            "mark": {"type": "line", "interpolate": "step-after", "tooltip": True},
            "encoding": {
                "x": quantitative("v", short_name(tag), log=_spreads(rows)),
                "y": quantitative("p", "requests (%)"),
                "color": {
                    "field": "run",
                    "type": "nominal",
                    "scale": run_scale([r.label for r in runs], [r.load for r in runs]),
                    "legend": None if len(runs) == 1 else {"orient": "top"},
                },
                "tooltip": [
                    {"field": "run", "title": "run"},
                    {"field": "v", "title": short_name(tag), "format": ",.4~g"},
                    {"field": "p", "title": "requests at or below (%)", "format": ".4~g"},
                ],
            },
        }
        panels.append(layer)
    total = sum(int(run.context.ok.sum()) for run in runs)
    note = f"{total:,} successful requests" + (f"; curves of at most {most:,} points" if thinned else "")
    body: Spec = {"concat": panels, "columns": "$cols3", "spacing": 14}
    return frame("Latency distribution (ECDF)", note, body, marks=drawn)


def _spreads(rows: list[dict[str, object]]) -> bool:
    """Values over more than a factor of 30 are drawn on a logarithmic axis."""
    values = [v for r in rows if isinstance(v := r.get("v"), float)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 30

"""Small multiples over a sweep: the figures one decides by, each against the load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiperf.plots import PlotRun, Spec, by_load
from aiperf.plots.spec import frame, quantitative, records, spans_a_decade

__all__ = ["draw"]

_FIGURES: Final = (
    ("output_token_throughput", "output tokens/s", ""),
    ("request_throughput", "requests/s", ""),
    ("output_token_throughput_per_user", "tokens/s per user", ""),
    ("good_request_fraction", "good requests", ".0%"),
    ("request_error_rate", "failed requests (%)", ""),
    ("effective_concurrency", "requests in flight", ""),
)


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Two runs or more with a place on the same axis."""
    placed = by_load(runs)
    if not placed:
        return None
    loads = [r.load or 0.0 for r in placed]
    log = spans_a_decade(loads)
    panels: list[Spec] = []
    marks = 0
    for tag, title, shown in _FIGURES:
        values = [r.stat(tag) for r in placed]
        if all(v is None for v in values) or (tag == "request_error_rate" and not any(values)):
            continue
        rows = [r for r in records({"x": loads, "y": values, "run": [p.label for p in placed]}) if "y" in r]
        marks += 2 * len(rows)
        panels.append(
            {
                "width": "$w3",
                "height": 140,
                "data": {"values": rows},
                "mark": {"type": "line", "point": {"size": 40}, "color": "$blue"},
                "encoding": {
                    "x": quantitative(
                        "x", placed[0].load_name.lower(), log=log, zero=False, values=sorted(set(loads)), format="~s"
                    ),
                    "y": quantitative("y", title, format=shown) if shown else quantitative("y", title),
                    "tooltip": [
                        {"field": "run", "title": "run"},
                        {"field": "y", "title": title, "format": ".2%" if shown else ",.5~g"},
                    ],
                },
            }
        )
    if not panels:
        return None
    note = f"{len(placed)} runs over {placed[0].load_name.lower()}"
    return frame("Over the sweep", note, {"concat": panels, "columns": "$cols3", "spacing": 14}, marks=marks)

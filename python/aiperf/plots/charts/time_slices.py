"""The slices of `--slice-duration`: latency and tokens per second in each, the load beneath; slices that missed the goals marked."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.metrics.slices import Slice
from aiperf.number_text import exact
from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import frame, quantitative, records, rounded, short_name

__all__ = ["draw"]

_MOST = 400


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Only for one run that has slices: a bar from p50 to p90 and a tick at the mean, per slice."""
    run = runs[0]
    slices = run.summary.slices
    if len(runs) > 1 or len(slices) < 2:
        return None
    kept = slices[:_MOST]
    origin = slices[0].begin_ns
    begin = [(s.begin_ns - origin) / 1e9 for s in kept]
    end = [(s.end_ns - origin) / 1e9 for s in kept]
    state = [
        "excluded" if s.index in run.summary.excluded else "goals missed" if s.misses else "as wanted" for s in kept
    ]
    panels: list[Spec] = []
    for tag in ("time_to_first_token", "inter_token_latency", "request_latency"):
        if any(s.stat(tag) is not None for s in kept) and len(panels) < 2:
            rows = _columns(kept, tag, begin, end, state)
            panels.append(_latency_panel(tag, rows, goals=bool(run.tiers)))
    load = records(
        {
            "t0": rounded(begin),
            "t1": rounded(end),
            "n": [s.sent for s in kept],
            "i": [s.index for s in kept],
            "tps": rounded([s.stat("output_token_throughput") or float("nan") for s in kept]),
        }
    )
    if any("tps" in row for row in load):
        panels.append(_bars(load, "tps", "tokens/s", "$green", height=90))
    panels.append(_bars(load, "n", "started", "$grey", height=60, title="time since the first request (s)"))
    width = run.summary.slice_s or 0.0
    more = f"; the first {_MOST} of {len(slices):,}" if len(slices) > _MOST else ""
    note = f"{len(slices):,} slices of {exact(width)} s{more}; bars p50 to p90 of the requests that ended in it, ticks their mean"
    body: Spec = {"vconcat": panels, "spacing": 8, "resolve": {"scale": {"x": "shared"}}}
    return frame("Time slices", note, body, marks=len(kept) * (2 * len(panels)))


def _columns(
    slices: Sequence[Slice], tag: str, begin: Sequence[float], end: Sequence[float], state: Sequence[str]
) -> list[dict[str, object]]:
    def stat(name: str) -> list[float | None]:
        return [None if (v := s.stat(tag, name)) is None else float(f"{v:.5g}") for s in slices]

    return records(
        {
            "i": [s.index for s in slices],
            "t0": rounded(begin),
            "t1": rounded(end),
            "avg": stat("avg"),
            "p50": stat("p50"),
            "p90": stat("p90"),
            "state": state,
            "n": [s.ended for s in slices],
        }
    )


def _latency_panel(tag: str, rows: list[dict[str, object]], *, goals: bool) -> Spec:
    known = {"as wanted": "$blue", "goals missed": "$orange", "excluded": "$grey"}
    used = [n for n in known if any(r["state"] == n for r in rows)]
    colours: Spec = {"domain": used, "range": [known[n] for n in used]}
    colour: Spec = {"value": "$blue"}
    if goals:
        colour = {"field": "state", "type": "nominal", "scale": colours, "legend": {"orient": "top"}}
    shared: Spec = {
        "x": quantitative("t0", "", zero=False, labels=False, ticks=False),
        "x2": {"field": "t1"},
        "color": colour,
        "tooltip": [
            {"field": "i", "title": "slice"},
            {"field": "n", "title": "requests"},
            *({"field": k, "title": f"{k}, {short_name(tag)}", "format": ",.4~g"} for k in ("avg", "p50", "p90")),
        ],
    }
    return {
        "width": "$w1",
        "height": 120,
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "rect", "opacity": 0.45, "xOffset": 1, "x2Offset": -1, "cornerRadius": 2},
                "encoding": {**shared, "y": quantitative("p50", short_name(tag), minExtent=46), "y2": {"field": "p90"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {**shared, "y": {"field": "avg", "type": "quantitative"}},
            },
        ],
    }


def _bars(rows: list[dict[str, object]], field: str, name: str, colour: str, *, height: int, title: str = "") -> Spec:
    axis = {} if title else {"labels": False, "ticks": False}
    return {
        "width": "$w1",
        "height": height,
        "data": {"values": rows},
        "mark": {"type": "rect", "color": colour, "opacity": 0.6, "xOffset": 1, "x2Offset": -1},
        "encoding": {
            "x": quantitative("t0", title, zero=False, **axis),
            "x2": {"field": "t1"},
            "y": quantitative(field, name, minExtent=46, tickCount=3),
            "y2": {"datum": 0},
            "tooltip": [{"field": "i", "title": "slice"}, {"field": field, "title": name, "format": ",.4~g"}],
        },
    }

"""Output tokens, finished requests and good requests per second over the run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics import Bools, Floats
from aiperf.number_text import significant
from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import frame, legend_scale, quantitative, records, rounded, run_scale

__all__ = ["draw"]


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Tokens where they arrived, requests where they ended; with goals, goodput as an area under the request rate."""
    timed = [r for r in runs if r.span is not None]
    if not timed:
        return None
    single = len(timed) == 1
    panels: list[Spec] = []
    marks = 0
    scale = run_scale([r.label for r in timed], [r.load for r in timed])
    tokens: list[dict[str, object]] = []
    for run in timed:
        per_second = _tokens_per_second(run)
        if per_second is not None:
            tokens += _series(run, per_second, run.label)
    if tokens:
        marks += len(tokens)
        panels.append(_panel(tokens, "output tokens/s", scale, single=single, colour="$blue", height=150))
    rates: list[dict[str, object]] = []
    for run in timed:
        rates += _series(run, _per_second(run, run.context.ok), "all successful" if single else run.label)
        if single and run.good is not None:
            rates += _series(run, _per_second(run, run.good), "good (goodput)")
    marks += len(rates)
    names = [r.label for r in timed] if not single else ["all successful", "good (goodput)"][: 1 + bool(timed[0].tiers)]
    request_scale = legend_scale(names, ["$grey", "$green"][: len(names)]) if single else scale
    panels.append(
        {
            **_panel(rates, "requests/s", request_scale, single=False, colour="$green", height=110),
        }
    )
    color = panels[-1]["encoding"]
    if isinstance(color, dict):
        color["x"] = quantitative("t", "time since the first request (s)", zero=False)
        if single and len(names) == 1:
            color["color"] = {"value": "$green"}
    if not single and tokens:
        _hide_legend(panels[-1])
    body: Spec = {"vconcat": panels, "spacing": 8, "resolve": {"scale": {"x": "shared", "color": "independent"}}}
    widths = " / ".join(sorted({significant((r.edges[1] - r.edges[0]) / 1e9, 3) for r in timed}))
    goal = "; good: meets every objective" if single and timed[0].tiers else ""
    return frame("Throughput over time", f"windows of {widths} s{goal}", body, marks=marks)


def _hide_legend(panel: Spec) -> None:
    encoding = panel["encoding"]
    if isinstance(encoding, dict) and isinstance(encoding.get("color"), dict):
        encoding["color"] = {**encoding["color"], "legend": None}


def _tokens_per_second(run: PlotRun) -> Floats | None:
    """None where nobody counted tokens. Replies without chunk stamps: at their end."""
    osl = run.context.value("output_sequence_length")
    if not np.isfinite(osl).any():
        return None
    whole = run.context.ok & ~(run.context.num_content_chunks > 0) & np.isfinite(osl)
    counts = run.chunks.tokens.counts + run.total_in_windows(run.ends, whole, osl)
    return np.asarray(counts / (np.diff(run.edges) / 1e9))


def _per_second(run: PlotRun, mask: Bools) -> Floats:
    return np.asarray(run.total_in_windows(run.ends, mask) / (np.diff(run.edges) / 1e9))


def _series(run: PlotRun, values: Floats, name: str) -> list[dict[str, object]]:
    begin = run.seconds(run.edges)
    # The last value twice: steps hold to the end of their window.
    return records({"t": rounded(begin), "v": rounded(np.append(values, values[-1:])), "s": [name] * len(begin)})


def _panel(rows: list[dict[str, object]], title: str, scale: Spec, *, single: bool, colour: str, height: int) -> Spec:
    color: Spec = {"value": colour}
    if not single:
        color = {"field": "s", "type": "nominal", "scale": scale, "legend": {"orient": "top"}}
    return {
        "width": "$w1",
        "height": height,
        "data": {"values": rows},
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.6, "strokeJoin": "miter"},
        "encoding": {
            "x": quantitative("t", "", zero=False, labels=False, ticks=False),
            "y": quantitative("v", title, minExtent=46),
            "color": color,
            "tooltip": [
                {"field": "t", "title": "from (s)", "format": ".4~g"},
                {"field": "s", "title": "series"},
                {"field": "v", "title": title, "format": ",.4~g"},
            ],
        },
    }

"""Efficiency against experience: tokens/s per GPU against tokens/s per user, one point per load, the front drawn through.

`draw_front` draws any two metrics, `tag` or `tag:stat`; `…_per_gpu` divides by the GPUs. Bars: 95 % intervals, over the repeats of a
point, or within its run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import METRICS, Bools, Floats, load_all
from aiperf.number_text import significant
from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import frame, quantitative, records, rounded

__all__ = ["DEFAULT_X", "DEFAULT_Y", "draw", "draw_front", "front_mask"]

DEFAULT_X: Final = "output_token_throughput_per_user"
DEFAULT_Y: Final = "output_token_throughput_per_gpu"
_PER_GPU: Final = "_per_gpu"
_Figure = tuple[float, tuple[float, float]]
"""A value and its interval, which is the value itself where it is not known."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """A figure as an axis. `tag`, `stat`: of the summary; `is_per_gpu`: divided by the GPUs."""

    name: str
    tag: str
    stat: str
    is_per_gpu: bool

    @property
    def is_larger_better(self) -> bool:
        return self.tag in METRICS and METRICS[self.tag].larger_is_better

    def title(self, *, has_gpus: bool) -> str:
        per_gpu = " per GPU" if self.is_per_gpu and has_gpus else ""
        if self.name == DEFAULT_X:
            return "output tokens/s per user"
        if self.tag == "output_token_throughput":
            return f"output tokens/s{per_gpu}"
        found = METRICS.get(self.tag)
        words = self.tag if found is None else f"{found.header} ({found.unit.shown})"
        return words + ("" if self.stat == "avg" else f", {self.stat}") + per_gpu

    def figure(self, run: PlotRun) -> _Figure | None:
        value = run.stat(self.tag, self.stat)
        if value is None:
            return None
        per = float(max(run.num_gpus, 1)) if self.is_per_gpu else 1.0
        low, high = run.intervals.get((self.tag, self.stat), (value, value))
        return value / per, (low / per, high / per)


def _axis(name: str) -> _Axis:
    load_all()
    tag, _, stat = name.partition(":")
    is_per_gpu = tag.endswith(_PER_GPU) and tag not in METRICS
    return _Axis(name, tag.removesuffix(_PER_GPU) if is_per_gpu else tag, stat or "avg", is_per_gpu)


def front_mask(first: Floats, second: Floats) -> Bools:
    """(points,) true where no other point is at least as good in both and better in one; larger is better."""
    worse = (
        (first[None, :] >= first[:, None])
        & (second[None, :] >= second[:, None])
        & ((first[None, :] > first[:, None]) | (second[None, :] > second[:, None]))
    )
    return np.asarray(~worse.any(axis=1))


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Two runs or more that have both figures. TPS/user: mean output_token_throughput_per_user; TPS/GPU by `num_gpus`."""
    return draw_front(runs)


def draw_front(runs: Sequence[PlotRun], x_figure: str = DEFAULT_X, y_figure: str = DEFAULT_Y) -> Spec | None:
    """The same of any two figures; None where fewer than two runs have both."""
    axes = _axis(x_figure), _axis(y_figure)
    placed = [(run, *figures) for run in runs if (figures := _figures(run, axes)) is not None]
    if len(placed) < 2:
        return None
    points = [run for run, _, _ in placed]
    at = [np.array([f[0] for f in column]) for column in ([a for _, a, _ in placed], [b for _, _, b in placed])]
    ends = [np.array([f[1] for f in column]) for column in ([a for _, a, _ in placed], [b for _, _, b in placed])]
    signed = [v if axis.is_larger_better else -v for v, axis in zip(at, axes, strict=True)]
    front = front_mask(*signed)
    titles = [axis.title(has_gpus=any(r.num_gpus > 1 for r in points)) for axis in axes]
    rows = records(
        {
            "x": rounded(at[0]),
            "y": rounded(at[1]),
            "run": [r.label for r in points],
            "load": _labels(points, *at),
            "on": ["on the Pareto front" if f else "dominated" for f in front],
            "ttft": [r.stat("time_to_first_token") for r in points],
            **{f"{n}{i}": rounded(e[:, i - 1]) for n, e in zip("xy", ends, strict=True) for i in (1, 2)},
        }
    )
    bars = [r for r in rows if r["x1"] != r["x2"] or r["y1"] != r["y2"]]
    order = np.argsort(at[0][front])
    line = records({"x": rounded(at[0][front][order]), "y": rounded(at[1][front][order])})
    body = _body(rows, bars, line, titles)
    note = f"{len(points)} " + (f"points, means over {_repeats(points)} runs" if _repeats(points) else "runs")
    names = {r.load_name.lower() for r in points if r.load is not None}
    note += f", labelled by {names.pop()}" if len(names) == 1 else ""
    note += "; bars: 95% intervals" + (" over the runs" if _repeats(points) else " within each run") if bars else ""
    is_default = (x_figure, y_figure) == (DEFAULT_X, DEFAULT_Y)
    title = "Efficiency against experience" if is_default else f"{titles[1]} against {titles[0]}"
    return frame(title[0].upper() + title[1:], note, body, marks=2 * len(rows) + 2 * len(bars) + len(line))


def _figures(run: PlotRun, axes: tuple[_Axis, _Axis]) -> tuple[_Figure, _Figure] | None:
    x, y = axes[0].figure(run), axes[1].figure(run)
    return None if x is None or y is None else (x, y)


def _repeats(points: Sequence[PlotRun]) -> str:
    """`3`, `2 to 3`; empty where there is one run a point."""
    counts = sorted({r.repeats for r in points})
    return "" if counts == [1] else "–".join(str(c) for c in dict.fromkeys((counts[0], counts[-1])))


def _body(
    rows: Sequence[dict[str, object]],
    bars: Sequence[dict[str, object]],
    line: Sequence[dict[str, object]],
    titles: Sequence[str],
) -> Spec:
    axis_x = quantitative("x", titles[0], tickCount=8)
    axis_y = quantitative("y", titles[1], minExtent=46)
    colour: Spec = {
        "field": "on",
        "type": "nominal",
        "legend": {"orient": "top"},
        "scale": {"domain": ["on the Pareto front", "dominated"], "range": ["$blue", "$vermillion"]},
    }
    rule: Spec = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.55}
    whiskers: list[Spec] = [
        {
            "data": {"values": bars},
            "mark": rule,
            "encoding": {"x": {**axis_x, "field": "x1"}, "x2": {"field": "x2"}, "y": axis_y, "color": colour},
        },
        {
            "data": {"values": bars},
            "mark": rule,
            "encoding": {"x": axis_x, "y": {**axis_y, "field": "y1"}, "y2": {"field": "y2"}, "color": colour},
        },
    ]
    tooltip: list[Spec] = [{"field": "run", "title": "run"}]
    for name, title in zip("xy", titles, strict=True):
        tooltip.append({"field": name, "title": title, "format": ",.5~g"})
        if bars:
            tooltip += [{"field": f"{name}{i}", "title": end, "format": ",.5~g"} for i, end in ((1, "from"), (2, "to"))]
    tooltip.append({"field": "ttft", "title": "TTFT avg (ms)", "format": ",.4~g"})
    return {
        "width": "$w1",
        "height": 320,
        "layer": [
            {
                "data": {"values": line},
                "mark": {"type": "line", "color": "$blue", "opacity": 0.5, "strokeWidth": 2},
                "encoding": {"x": axis_x, "y": axis_y},
            },
            *(whiskers if bars else ()),
            {
                "data": {"values": rows},
                "mark": {"type": "point", "size": 110, "opacity": 1},
                "encoding": {"x": axis_x, "y": axis_y, "color": colour, "tooltip": tooltip},
            },
            {
                "data": {"values": [r for r in rows if "load" in r]},
                "mark": {"type": "text", "dy": -13, "color": "$ink", "fontSize": 11},
                "encoding": {"x": axis_x, "y": axis_y, "text": {"field": "load"}},
            },
        ],
    }


def _labels(runs: Sequence[PlotRun], along_x: Floats, along_y: Floats) -> list[str | None]:
    """The load of each point; points that lie on each other share the first one's label: `32, 64`."""
    texts: list[list[str]] = []
    near = 0.02 * along_x.max(), 0.03 * along_y.max()
    for index, run in enumerate(runs):
        host = next(
            (
                j
                for j in range(index)
                if texts[j]
                and abs(along_x[index] - along_x[j]) < near[0]
                and abs(along_y[index] - along_y[j]) < near[1]
            ),
            None,
        )
        texts.append([])
        texts[index if host is None else host].append(_load_text(run))
    return [", ".join(t) or None for t in texts]


def _load_text(run: PlotRun) -> str:
    return run.label if run.load is None else significant(run.load, 6)

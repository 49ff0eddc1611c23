"""Small charts that studies draw: lines with points over one axis, with rules at stated places, and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiperf.plots import Spec
from aiperf.plots.spec import frame, legend_scale, quantitative

__all__ = ["bar_panel", "chart", "line_panel", "rows_of_line"]

_COLOURS: Final = ("$blue", "$orange", "$green", "$purple", "$sky", "$vermillion")


def rows_of_line(name: str, xs: Sequence[float | None], ys: Sequence[float | None]) -> list[dict[str, object]]:
    """One row per point that has both; `name`: of the line."""
    return [{"x": x, "y": y, "s": name} for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]


def line_panel(
    rows: Sequence[Mapping[str, object]],
    x_title: str,
    y_title: str,
    *,
    width: str = "$w1",
    height: int = 220,
    log: bool = False,
    points_only: frozenset[str] = frozenset(),
    dashed: frozenset[str] = frozenset(),
    rules: Sequence[tuple[float, str]] = (),
    levels: Sequence[tuple[float, str]] = (),
    points: bool = True,
) -> Spec:
    """`rows`: of `rows_of_line`. `points_only`: lines drawn as points; `dashed`: without points, over the others; `points`: lines
    with their points marked. `rules`: (place on x, words); `levels`: (height on y, words).
    """
    names = list(dict.fromkeys(str(r["s"]) for r in rows))
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
    colour: Spec = {"value": colours[0]}
    if len(names) > 1:
        legend = {"orient": "top", "title": None}
        colour = {"field": "s", "type": "nominal", "legend": legend, "scale": legend_scale(names, colours)}
    encoding: Spec = {
        "x": quantitative("x", x_title, log=log, zero=False, format="~s"),
        "y": quantitative("y", y_title),
        "color": colour,
        "tooltip": [
            {"field": "s", "title": "what"},
            {"field": "x", "title": x_title, "format": ",.5~g"},
            {"field": "y", "title": y_title, "format": ",.4~g"},
        ],
    }
    lines = [r for r in rows if str(r["s"]) not in points_only | dashed]
    dashes = [r for r in rows if str(r["s"]) in dashed]
    dots = [r for r in rows if str(r["s"]) in points_only]
    layers: list[Spec] = []
    if lines:
        mark: Spec = {"type": "line", "point": {"size": 36} if points else False}
        layers.append({"data": {"values": lines}, "mark": mark, "encoding": encoding})
    if dashes:
        dash: Spec = {"type": "line", "strokeDash": [5, 4]}
        layers.append({"data": {"values": dashes}, "mark": dash, "encoding": encoding})
    if dots:
        dot: Spec = {"type": "point", "filled": True, "size": 40, "opacity": 0.6}
        layers.append({"data": {"values": dots}, "mark": dot, "encoding": encoding})
    for channel, marks in (("x", rules), ("y", levels)):
        for i, (place, words) in enumerate(marks):
            layers += _rule(channel, place, words, i)
    return {"width": width, "height": height, "layer": layers}


def _rule(channel: str, place: float, words: str, line: int) -> list[Spec]:
    """`line`: the words of several rules stand below each other."""
    data = {"values": [{"v": place, "t": words}]}
    at: Spec = {channel: {"field": "v", "type": "quantitative"}}
    text: Spec = {"type": "text", "align": "left", "dx": 4, "color": "$grey", "fontSize": 11}
    text |= {"y": 8 + 14 * line} if channel == "x" else {"x": 4, "dy": -6}
    rule: Spec = {"data": data, "mark": {"type": "rule", "strokeDash": [4, 4], "color": "$grey"}, "encoding": at}
    return [rule, {"data": data, "mark": text, "encoding": {**at, "text": {"field": "t"}}}]


def bar_panel(
    rows: Sequence[Mapping[str, object]], x_title: str, y_title: str, *, width: str = "$w1", height: int = 200
) -> Spec:
    """Rows with `x` (a word), `y` and `s` (which bar of the group)."""
    names = list(dict.fromkeys(str(r["s"]) for r in rows))
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
    return {
        "width": width,
        "height": height,
        "data": {"values": list(rows)},
        "mark": {"type": "bar"},
        "encoding": {
            "x": {"field": "x", "type": "nominal", "title": x_title, "sort": None, "axis": {"labelAngle": 0}},
            "xOffset": {"field": "s", "sort": None},
            "y": quantitative("y", y_title),
            "color": {
                "field": "s",
                "type": "nominal",
                "sort": None,
                "legend": {"orient": "top", "title": None},
                "scale": legend_scale(names, colours),
            },
            "tooltip": [
                {"field": "x", "title": x_title},
                {"field": "s", "title": "what"},
                {"field": "y", "title": y_title, "format": ",.4~g"},
            ],
        },
    }


def chart(title: str, note: str, panels: Sequence[Spec], rows: int) -> Spec:
    """One panel as it is, several side by side. `rows`: marks in all."""
    if len(panels) == 1:
        return frame(title, note, panels[0], marks=rows)
    columns = "$cols2" if len(panels) == 2 else "$cols3"
    apart = {"scale": {"color": "independent"}, "legend": {"color": "independent"}}
    body: Spec = {"concat": list(panels), "columns": columns, "spacing": 14, "resolve": apart}
    return frame(title, note, body, marks=rows)

"""Specs → PNG and SVG by vl-convert (no browser), and what an HTML page needs to draw them itself.

`resolve` replaces the tokens of `aiperf.plots.spec` by a theme's colours and widths; the page's script does the same with
`THEMES` in the browser, where the width is known and the theme may change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, Literal

from aiperf.plots import Spec

__all__ = ["THEMES", "Theme", "render_png", "render_svg", "resolve", "themes_json"]

Theme = Literal["light", "dark"]
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
_WIDTH: Final = 960
"""Of a PNG or SVG, in px; a PNG has twice as many."""

# Okabe & Ito (2008), safe for the common colour blindnesses; the dark theme's are lighter, in the same hues.
_COLOURS: Final[dict[Theme, dict[str, str]]] = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1c2024",
        "soft": "#5b6470",
        "grid": "#e6e9ed",
        "grey": "#98a1ab",
        "faint": "#dde2e8",
        "blue": "#0072B2",
        "vermillion": "#D55E00",
        "green": "#009E73",
        "purple": "#B4568C",
        "orange": "#E69F00",
        "sky": "#56B4E9",
    },
    "dark": {
        "paper": "#14171a",
        "ink": "#e8eaec",
        "soft": "#a3acb6",
        "grid": "#2a3036",
        "grey": "#7d8791",
        "faint": "#323a42",
        "blue": "#56B4E9",
        "vermillion": "#FF8A4C",
        "green": "#2FC79A",
        "purple": "#E39BC5",
        "orange": "#F2B544",
        "sky": "#9BD5F6",
    },
}
_HEAT: Final[dict[Theme, list[str]]] = {
    "light": ["#e9f2f8", "#a5cfe8", "#4b9bcb", "#0072B2", "#00314d"],
    "dark": ["#1b2a35", "#1f5578", "#2f86b7", "#7cc4ec", "#f6f2d2"],
}
_SERIES: Final = ("blue", "vermillion", "green", "purple", "orange", "sky", "ink", "grey")


def _config(theme: Theme) -> dict[str, object]:
    colours = _COLOURS[theme]
    text = {"labelColor": colours["soft"], "titleColor": colours["soft"], "labelFontSize": 11, "titleFontSize": 11}
    return {
        "font": _FONT,
        "background": colours["paper"],
        "padding": 4,
        "view": {"stroke": None},
        "range": {"category": [colours[n] for n in _SERIES], "heatmap": _HEAT[theme], "ramp": _HEAT[theme]},
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "gridColor": colours["grid"],
            "domain": False,
            "ticks": False,
            "labelPadding": 6,
            "titlePadding": 8,
        },
        "axisX": {
            "grid": False,
            "domain": True,
            "domainColor": colours["grey"],
            "ticks": True,
            "tickColor": colours["grey"],
            "tickSize": 4,
        },
        "axisY": {"titleAnchor": "middle"},
        "legend": {**text, "orient": "top", "title": None, "symbolStrokeWidth": 3, "labelLimit": 260, "offset": 6},
        "header": {
            "labelColor": colours["ink"],
            "labelFontSize": 12,
            "labelFontWeight": 600,
            "title": None,
            "labelAnchor": "start",
        },
        "title": {
            "anchor": "start",
            "color": colours["ink"],
            "fontSize": 16,
            "fontWeight": 600,
            "subtitleColor": colours["soft"],
            "subtitleFontSize": 12,
            "subtitlePadding": 4,
            "offset": 12,
            "frame": "group",
        },
        "text": {"color": colours["ink"]},
        "rule": {"color": colours["grey"]},
        "line": {"strokeWidth": 2, "strokeJoin": "round", "strokeCap": "round"},
        "area": {"line": False},
        "point": {"filled": True},
    }


THEMES: Final[dict[Theme, dict[str, object]]] = {
    theme: {
        "config": _config(theme),
        "tokens": {
            **_COLOURS[theme],
            "series": [_COLOURS[theme][n] for n in _SERIES],
            "heat": _HEAT[theme],
            "ramp": {"name": "plasma", "extent": [0.0, 0.85] if theme == "light" else [0.3, 1.0]},
        },
    }
    for theme in ("light", "dark")
}


def themes_json() -> str:
    """Both themes, for the page's script."""
    return json.dumps(THEMES, separators=(",", ":"))


def layout_tokens(width: int) -> dict[str, object]:
    """Widths of 1, 2 or 3 plots side by side in `width` px, axes included; fewer per row where it is narrow."""
    two = 2 if width >= 620 else 1
    three = 3 if width >= 860 else two

    def each(num: int) -> int:
        return max((width - 14 * (num - 1)) // num - (86 if num == 1 else 58), 120)

    return {"w1": each(1), "w2": each(two), "w3": each(three), "cols2": two, "cols3": three}


def resolve(spec: Spec, theme: Theme = "light", width: int = _WIDTH) -> Spec:
    """The spec as Vega-Lite takes it: tokens replaced, the theme's configuration added."""
    given = THEMES[theme]["tokens"]
    tokens = {**given, **layout_tokens(width)} if isinstance(given, Mapping) else {}

    def walk(value: object) -> object:
        if isinstance(value, str):
            return tokens[value[1:]] if value.startswith("$") and value[1:] in tokens else value
        if isinstance(value, dict):
            return {k: walk(v) for k, v in value.items()}
        if isinstance(value, list):
            return (
                value if value and isinstance(value[0], dict) and "$" not in str(value[0]) else [walk(v) for v in value]
            )
        return value

    out = {k: walk(v) for k, v in spec.items()}
    return {**out, "config": THEMES[theme]["config"]}


def render_svg(spec: Spec, theme: Theme = "light") -> bytes:
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(resolve(spec, theme), allowed_base_urls=[])
    return svg.encode()


def render_png(spec: Spec, theme: Theme = "light", scale: float = 2.0, svg: bytes | None = None) -> bytes:
    """`svg`: what `render_svg` made of the spec, if it is at hand: drawing it again takes most of the time."""
    import vl_convert

    drawn = render_svg(spec, theme) if svg is None else svg
    png: bytes = vl_convert.svg_to_png(drawn.decode(), scale=scale)
    return png

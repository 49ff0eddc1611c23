"""Pieces of specs: the frame with title and note, axes with units, and thinning.

Tokens in specs, replaced by `aiperf.plots.render.resolve`: `"$blue"` … a colour of the theme; `"$series"` the categorical
colours, `"$heat"` the sequential ones; `"$w1"`, `"$w2"`, `"$w3"` the width of one of n plots side by side; `"$cols2"`, `"$cols3"`
how many fit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from aiperf.metrics import METRICS, Floats, Ints
from aiperf.number_text import significant

__all__ = [
    "SHORT",
    "colour_by",
    "count_text",
    "frame",
    "legend_scale",
    "number",
    "quantitative",
    "rank_axis",
    "records",
    "rounded",
    "run_scale",
    "short_name",
    "spans_a_decade",
    "thin_curve",
]

Spec = dict[str, object]
SHORT: Final[dict[str, str]] = {
    "time_to_first_token": "TTFT",
    "inter_token_latency": "ITL",
    "inter_chunk_latency": "ICL",
    "request_latency": "Latency",
    "input_sequence_length": "ISL",
    "output_sequence_length": "OSL",
}
"""The field's short words for tags."""
LATENCIES: Final = ("time_to_first_token", "inter_token_latency", "request_latency")


def short_name(tag: str) -> str:
    """`TTFT (ms)`: short word and unit."""
    return f"{SHORT.get(tag) or METRICS[tag].header} ({METRICS[tag].unit.shown})"


def number(value: float) -> str:
    """Four figures at most: 12,345 · 345 · 12.3 · 1.23."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else significant(value, 3)


def count_text(shown: int, total: int, what: str = "requests") -> str:
    """`1,000 requests`, or that a sample is drawn."""
    if shown >= total:
        return f"{total:,} {what}"
    return f"{shown:,} of {total:,} {what}, drawn at random"


def rounded(values: Floats | Sequence[float], digits: int = 5) -> list[float | None]:
    """Plain numbers of `digits` figures, None where not finite: a tenth of the bytes of full precision."""
    plain = np.asarray(values, dtype=np.float64).tolist()
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in plain]


def records(columns: Mapping[str, Sequence[object]]) -> list[dict[str, object]]:
    """Columns of equal length → rows, as Vega-Lite takes them; None is left out."""
    names = tuple(columns)
    return [
        {n: v for n, v in zip(names, row, strict=True) if v is not None} for row in zip(*columns.values(), strict=True)
    ]


def thin_curve(num: int, most: int, ranks: Floats | None = None) -> Ints:
    """Indices of at most `most` of `num` points of a curve, both ends among them; `ranks` (num,) monotone: evenly in it."""
    if num <= most:
        return np.arange(num)
    if ranks is None:
        return np.unique(np.linspace(0, num - 1, most).round().astype(np.int64))
    wanted = np.linspace(ranks[0], ranks[-1], most)
    return np.unique(np.clip(np.searchsorted(ranks, wanted), 0, num - 1))


def quantitative(field: str, title: str, *, log: bool = False, zero: bool = True, **axis: object) -> Spec:
    """An encoding with its axis; logarithmic ones have no zero and few labels."""
    channel: Spec = {"field": field, "type": "quantitative", "title": title}
    if log:
        channel["scale"] = {"type": "log", "nice": False}
        axis = {"labelOverlap": True, "tickCount": 6, **axis}
    else:
        channel["scale"] = {"zero": zero, "nice": True} if zero else {"zero": False, "nice": False}
    if axis:
        channel["axis"] = dict(axis)
    return channel


def rank_axis(field: str = "x", title: str = "Percentile") -> Spec:
    """Percentiles on −log10(1 − p): p0 at 0, p90 at 1, p99 at 2, p99.9 at 3, p99.99 at 4."""
    values = [0.30103, 0.60206, 1.0, 1.30103, 2.0, 3.0, 4.0]
    labels = "datum.value < 0.5 ? 'p50' : datum.value < 0.8 ? 'p75' : datum.value < 1.2 ? 'p90' : datum.value < 1.5 ? 'p95' : datum.value < 2.5 ? 'p99' : datum.value < 3.5 ? 'p99.9' : 'p99.99'"
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"nice": False, "zero": False},
        "axis": {"values": values, "labelExpr": labels, "labelOverlap": "greedy", "labelSeparation": 5},
    }


def legend_scale(domain: Sequence[str], colours: Sequence[str] | None = None) -> Spec:
    """A colour scale over names, in this order; `colours`: tokens, None for the theme's series."""
    return {"domain": list(domain), "range": list(colours) if colours is not None else "$series"}


def colour_by(used: Sequence[str], names: Sequence[str], colours: Sequence[str]) -> Spec:
    """The encoding of the field `s` as a colour, with a legend on top: each of `names` has its own, whichever are used."""
    scale = legend_scale(used, [colours[names.index(n)] for n in used])
    return {"field": "s", "type": "nominal", "scale": scale, "legend": {"orient": "top"}}


def spans_a_decade(values: Sequence[float]) -> bool:
    """Whether an axis over them is better logarithmic: all above 0, the largest ten times the smallest or more."""
    return min(values) > 0 and max(values) / min(values) >= 10


def run_scale(names: Sequence[str], loads: Sequence[float | None]) -> Spec:
    """A colour per run: along a ramp where the runs are ordered by load and more than four, else apart from each other."""
    ordered = len(names) > 4 and all(a is not None and b is not None and a < b for a, b in itertools.pairwise(loads))
    return {"domain": list(names), "scheme": "$ramp"} if ordered else legend_scale(names)


def frame(title: str, note: str, body: Spec, *, marks: int, alt: str | None = None) -> Spec:
    """A whole spec. `note`: what is drawn, and what was binned or sampled. `marks`: how many marks it has at most."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {"text": title, "subtitle": note},
        "description": alt or f"{title}. {note}",
        "usermeta": {"marks": int(marks)},
        **body,
    }

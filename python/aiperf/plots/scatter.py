"""TTFT against something that may explain it: a sample of dots, and the median per bin."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aiperf.metrics import Floats
from aiperf.metrics.blocks import blocks
from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import frame, quantitative, records, rounded, run_scale, short_name

__all__ = ["draw_against"]

_DOTS = 2_400
_BINS = 24
_FEWEST = 8
"""Requests in a bin for a median."""


def draw_against(
    runs: Sequence[PlotRun],
    field: Sequence[Floats],
    *,
    title: str,
    axis: str,
    unit: str,
    integer: bool,
    may_log: bool = True,
) -> Spec | None:
    """`field[i]`: (rows,) of run i, on the x axis. None if it does not vary in any run, or nothing has a TTFT."""
    dots: list[dict[str, object]] = []
    lines: list[dict[str, object]] = []
    total = 0
    bounds = [_range(f) for f in field]
    low, high = min((b[0] for b in bounds), default=math.inf), max((b[1] for b in bounds), default=-math.inf)
    if not low < high:
        return None
    log = may_log and low > 0 and high / low > 50
    for run, values in zip(runs, field, strict=True):
        ttft = run.values("time_to_first_token")
        use = np.isfinite(values) & np.isfinite(ttft)
        total += int(use.sum())
        if not use.any():
            continue
        rows = run.sample(_DOTS // len(runs), use)
        dots += records({"x": rounded(values[rows]), "y": rounded(ttft[rows]), "run": [run.label] * len(rows)})
        at, middle = binned_median(values[use], ttft[use], log=bool(log))
        lines += records({"x": rounded(at), "y": rounded(middle), "run": [run.label] * len(at)})
    if not dots:
        return None
    single = len(runs) == 1
    scale = run_scale([r.label for r in runs], [r.load for r in runs])
    colour: Spec = {"field": "run", "type": "nominal", "scale": scale, "legend": None if single else {"orient": "top"}}
    format_ = {"format": ",d" if integer else "~g"}
    shared_x = quantitative("x", axis, log=bool(log), zero=False, **format_)
    body: Spec = {
        "width": "$w1",
        "height": 240,
        "layer": [
            {
                "data": {"values": dots},
                "mark": {"type": "point", "size": 12, "opacity": 0.4, **({"color": "$grey"} if single else {})},
                "encoding": {
                    "x": shared_x,
                    "y": quantitative("y", short_name("time_to_first_token"), minExtent=46),
                    **({} if single else {"color": colour}),
                    "tooltip": [
                        {"field": "x", "title": axis, "format": ",.4~g"},
                        {"field": "y", "title": "TTFT (ms)", "format": ",.4~g"},
                    ],
                },
            },
            {
                "data": {"values": lines},
                "mark": {
                    "type": "line",
                    "point": {"size": 30, **({"color": "$vermillion"} if single else {})},
                    **({"color": "$vermillion"} if single else {}),
                },
                "encoding": {
                    "x": shared_x,
                    "y": quantitative("y", short_name("time_to_first_token"), minExtent=46),
                    **({} if single else {"color": colour}),
                },
            },
        ],
    }
    some = f"{len(dots):,} of {total:,} requests, drawn at random" if len(dots) < total else f"{total:,} requests"
    note = f"{some}; line: median per bin of {unit} with at least {_FEWEST} requests"
    return frame(title, note, body, marks=len(dots) + 2 * len(lines))


def _range(values: Floats) -> tuple[float, float]:
    """(∞, −∞) without finite values."""
    finite = np.isfinite(values)
    return float(np.min(values, where=finite, initial=np.inf)), float(np.max(values, where=finite, initial=-np.inf))


def binned_median(positions: Floats, values: Floats, *, log: bool) -> tuple[Floats, Floats]:
    """(medians of `positions`, medians of `values`) over at most 24 bins of equal width (or factor), those with enough values."""
    v = np.log(positions) if log else positions
    low, high = float(v.min()), float(v.max())
    place = np.empty(len(v), dtype=np.int8)
    for rows in blocks(len(v)):
        place[rows] = np.minimum(((v[rows] - low) / max(high - low, 1e-12) * _BINS).astype(np.int64), _BINS - 1)
    order = np.argsort(place, kind="stable")
    cuts = np.searchsorted(place[order], np.arange(1, _BINS))
    medians = [
        (float(np.median(positions[part])), float(np.median(values[part])))
        for part in np.split(order, cuts)
        if len(part) >= _FEWEST
    ]
    return np.array([a for a, _ in medians]), np.array([b for _, b in medians])

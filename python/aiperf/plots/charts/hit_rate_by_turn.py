"""Agentic replay: the share of the prompt that a prefix cache served, by turn, beside what the recordings promise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics import Floats
from aiperf.metrics.agentic import planned_hits
from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import colour_by, frame, quantitative, records, rounded

__all__ = ["draw"]

_MOST_TURNS = 200
_NAMES = ("recordings (unbounded cache)", "server")
_COLOURS = ("$sky", "$blue")


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """One run, its first 200 turns; the server's line only where it reports cached tokens."""
    run = runs[0]
    if len(runs) > 1 or not run.num_rows or run.options.agents is None:
        return None
    context = run.context
    turn, prompt = context.column("turn"), context.column("isl")
    turns = np.unique(turn[context.ok & np.isfinite(turn)])
    shown = turns[:_MOST_TURNS]
    lines = ((planned_hits(context), prompt), (context.column("usage_cached"), context.column("usage_prompt")))
    points: list[tuple[float, float, str]] = []
    for name, (hit, whole) in zip(_NAMES, lines, strict=True):
        points += [
            (float(t), share, name)
            for t in shown
            if (share := _share(hit, whole, context.ok & (turn == t))) is not None
        ]
    if not points:
        return None
    rows = records(
        {
            "x": [int(p[0]) for p in points],
            "y": rounded(np.array([p[1] for p in points]), 4),
            "s": [p[2] for p in points],
        }
    )
    used = [n for n in _NAMES if any(p[2] == n for p in points)]
    percent: Spec = {**quantitative("y", "prompt tokens in the cache (%)"), "scale": {"domain": [0, 100]}}
    body: Spec = {
        "width": "$w1",
        "height": 240,
        "data": {"values": rows},
        "mark": {"type": "line", "point": len(shown) <= 40},
        "encoding": {
            "x": quantitative("x", "turn", zero=False),
            "y": percent,
            "color": colour_by(used, _NAMES, _COLOURS),
            "tooltip": [
                {"field": "x", "title": "turn"},
                {"field": "y", "title": "in the cache (%)", "format": ".2f"},
                {"field": "s", "title": "by"},
            ],
        },
    }
    note = f"{len(turns):,} turns" if len(shown) == len(turns) else f"the first {len(shown)} of {len(turns):,} turns"
    return frame("Prefix-cache hit rate by turn", note, body, marks=len(rows))


def _share(hit: Floats, whole: Floats, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float | None:
    known = mask & np.isfinite(hit) & np.isfinite(whole)
    total = float(whole[known].sum())
    return 100 * float(hit[known].sum()) / total if total else None

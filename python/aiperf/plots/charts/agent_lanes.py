"""Agentic replay: a row for each session that was played, its requests as bars over time, sub-agents in their own colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.plots import PlotRun, Spec
from aiperf.plots.spec import colour_by, frame, quantitative, records, rounded

__all__ = ["draw"]

_MOST_PLAYS = 40
_NAMES = ("main agent", "other agent", "sub-agent")
_COLOURS = ("$blue", "$sky", "$orange")


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """One run, its first 40 plays. A gap is think time, or a turn that waits for its sub-agents."""
    run = runs[0]
    facts = run.options.agents
    if len(runs) > 1 or run.span is None or facts is None:
        return None
    start, end = run.context.start, run.ends
    session, play = run.context.column("session"), run.context.column("session_num")
    known = np.isfinite(start) & np.isfinite(end)
    if not known.any():
        return None
    plays = np.unique(play[known])
    known &= play <= plays[:_MOST_PLAYS][-1]
    stream = session[known].astype(np.int64)
    names = [
        f"{int(p) + 1} {facts.trace_ids[t]}" for p, t in zip(play[known], facts.trace[stream].tolist(), strict=True)
    ]
    rows = records(
        {
            "a": rounded(run.seconds(start[known]), 7),
            "b": rounded(run.seconds(end[known]), 7),
            "y": names,
            "s": [_NAMES[k] for k in facts.kind[stream].tolist()],
            "t": run.context.column("turn")[known].astype(np.int64).tolist(),
        }
    )
    used = [n for n in _NAMES if any(r["s"] == n for r in rows)]
    shown = min(len(plays), _MOST_PLAYS)
    body: Spec = {
        "width": "$w1",
        "height": int(min(max(14 * shown, 100), 480)),
        "data": {"values": rows},
        "mark": {"type": "bar", "height": {"band": 0.7}, "cornerRadius": 0, "opacity": 0.8},
        "encoding": {
            "x": quantitative("a", "time since the first request (s)", zero=False),
            "x2": {"field": "b"},
            "y": {
                "field": "y",
                "type": "ordinal",
                "title": "session",
                "sort": None,
                "axis": {"labelOverlap": "greedy", "minExtent": 46, "labelLimit": 120, "grid": False},
            },
            "color": colour_by(used, _NAMES, _COLOURS),
            "tooltip": [
                {"field": "y", "title": "session"},
                {"field": "s", "title": "agent"},
                {"field": "t", "title": "turn"},
                {"field": "a", "title": "from (s)", "format": ".3f"},
            ],
        },
    }
    note = f"{len(plays):,} sessions" if shown == len(plays) else f"the first {shown} of {len(plays):,} sessions"
    return frame("Sessions over time", note, body, marks=len(rows))

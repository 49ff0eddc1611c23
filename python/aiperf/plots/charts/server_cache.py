"""The server's KV cache over time: use, prefix hit rate, preemptions, over the client's load."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.plots import PlotRun, Spec
from aiperf.plots.server import course_rows, panel, stacked
from aiperf.plots.spec import frame

__all__ = ["draw"]

_SHARES = (("KV cache in use", "kv_cache_usage", "$purple"), ("prefix hit rate", "prefix_hit_rate", "$green"))


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Of one run whose server reports its cache."""
    if len(runs) != 1 or runs[0].summary.server is None or runs[0].span is None:
        return None
    run, view = runs[0], runs[0].summary.server
    found = [(name, course, colour) for name, tag, colour in _SHARES if (course := view.course(tag)) is not None]
    if not found:
        return None
    rows = course_rows(run, [(name, course) for name, course, _ in found])
    panels = [panel(rows, "%", [f[0] for f in found], [f[2] for f in found], 130)]
    preempted = view.course("preemptions")
    if preempted is not None and any(preempted.values):
        more_rows = course_rows(run, [("preemptions", preempted)])
        rows = [*rows, *more_rows]
        panels.append(panel(more_rows, "preemptions/s", ["preemptions"], ["$vermillion"], 70))
    body, more = stacked(run, panels)
    note = "hit rate: tokens found ÷ tokens looked up between two scrapes"
    return frame("KV cache over time", note, body, marks=len(rows) + more)

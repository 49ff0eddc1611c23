"""Requests running and waiting in the server, and its prefill and decode throughput, over the client's load."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.plots import PlotRun, Spec
from aiperf.plots.server import course_rows, panel, stacked
from aiperf.plots.spec import frame

__all__ = ["draw"]

_LEVELS = (("waiting", "requests_waiting", "$vermillion"), ("running", "requests_running", "$blue"))
_RATES = (("prefill", "prefill_throughput", "$orange"), ("decode", "decode_throughput", "$green"))


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Of one run whose server was scraped."""
    if len(runs) != 1 or runs[0].summary.server is None or runs[0].span is None:
        return None
    run, view = runs[0], runs[0].summary.server
    panels: list[Spec] = []
    marks = 0
    for wanted, title, height in ((_LEVELS, "in the server (requests)", 130), (_RATES, "tokens/s", 110)):
        found = [(name, course, colour) for name, tag, colour in wanted if (course := view.course(tag)) is not None]
        if found:
            rows = course_rows(run, [(name, course) for name, course, _ in found])
            marks += len(rows)
            panels.append(panel(rows, title, [f[0] for f in found], [f[2] for f in found], height))
    if not panels:
        return None
    body, more = stacked(run, panels)
    note = "as the server reported it at each scrape; prefill: prompt tokens computed, without those found in the cache"
    return frame("Server load over time", note, body, marks=marks + more)

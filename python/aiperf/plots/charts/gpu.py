"""GPUs over time: utilization, memory, power, clock, a line per GPU, over the client's load."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.plots import PlotRun, Spec
from aiperf.plots.server import course_rows, panel, stacked
from aiperf.plots.spec import frame

__all__ = ["draw"]

_PANELS = (
    ("gpu_utilization", "utilization (%)"),
    ("gpu_memory_used", "memory (GB)"),
    ("gpu_power", "power (W)"),
    ("gpu_clock", "clock (MHz)"),
)


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """Of one run with GPU telemetry."""
    if len(runs) != 1 or runs[0].summary.server is None or runs[0].span is None:
        return None
    run, view = runs[0], runs[0].summary.server
    panels: list[Spec] = []
    marks = 0
    for tag, title in _PANELS:
        courses = view.courses(tag)
        if courses:
            rows = course_rows(run, [(c.label, c) for c in courses])
            marks += len(rows)
            one = panel(rows, title, [c.label for c in courses], height=84)
            if panels and isinstance(one["encoding"], dict) and isinstance(one["encoding"]["color"], dict):
                one["encoding"]["color"]["legend"] = None
            panels.append(one)
    if not panels:
        return None
    body, more = stacked(run, panels)
    return frame("GPUs over time", "as the exporter reported it at each scrape", body, marks=marks + more)

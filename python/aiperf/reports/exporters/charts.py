"""`plots/`: the charts of a run as SVG and PNG (--auto-plot)."""

from __future__ import annotations

from collections.abc import Mapping

from aiperf.plots import draw_all
from aiperf.plots.render import render_png, render_svg
from aiperf.reports import Exporter, ReportedRun
from aiperf.reports.page.view import plot_run

__all__ = ["EXPORTER"]


def _of_run(run: ReportedRun) -> Mapping[str, bytes]:
    out: dict[str, bytes] = {}
    for name, spec in draw_all([plot_run(run)]).items():
        out[f"{name}.svg"] = svg = render_svg(spec)
        out[f"{name}.png"] = render_png(spec, svg=svg)
    return out


EXPORTER = Exporter(
    what="charts",
    path=lambda run: run.files.charts,
    render=_of_run,
    is_wanted=lambda config: config.output.auto_plot,
    order=1100,
    is_late=True,
)

"""`report.html`: the page of a run, in one file (not with --no-report)."""

from __future__ import annotations

from aiperf.reports import Exporter, ReportedRun
from aiperf.reports.page import render_page
from aiperf.reports.page.view import plot_run

__all__ = ["EXPORTER"]


def _of_run(run: ReportedRun) -> bytes:
    return render_page(plot_run(run))


EXPORTER = Exporter(
    what="page",
    path=lambda run: run.files.page,
    render=_of_run,
    is_wanted=lambda config: config.output.report,
    order=1200,
    is_late=True,
)

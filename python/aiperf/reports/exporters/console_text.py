"""`profile_export_console.txt`: the screen at the end of the run, as text."""

from __future__ import annotations

from aiperf.reports import Exporter
from aiperf.reports.render.console import options_of, render_console

__all__ = ["EXPORTER"]

EXPORTER = Exporter(
    what="screen",
    path=lambda run: run.files.console,
    render=lambda run: render_console(run.summary(), options_of(run)),
    order=1000,
    is_listed=False,
)

"""`--markdown FILE`: a summary for a pull request."""

from __future__ import annotations

from aiperf.reports import Exporter
from aiperf.reports.render.markdown import render_markdown

__all__ = ["EXPORTER"]

EXPORTER = Exporter(
    what="markdown",
    path=lambda run: run.config.output.markdown or run.dir / "summary.md",
    render=lambda run: render_markdown(run.summary()),
    is_wanted=lambda config: config.output.markdown is not None,
    order=60,
)

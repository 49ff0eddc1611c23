"""`.aiperf_results_ready.json`: AIPerf's mark that all files of a run are there, for what waits for them. The last one to be written."""

from __future__ import annotations

from aiperf.json_text import json_text
from aiperf.reports import Exporter, ReportedRun

__all__ = ["EXPORTER"]


def _render(run: ReportedRun) -> str:
    """`partial`: a file could not be written."""
    is_partial = any(note.kind == "file_failed" for note in run.notes)
    return json_text({"ready": True, "was_cancelled": run.was_interrupted, "partial": is_partial}) + "\n"


EXPORTER = Exporter(
    what="mark of the results",
    path=lambda run: run.dir / ".aiperf_results_ready.json",
    render=_render,
    order=1000,
    is_late=True,
    is_listed=False,
)

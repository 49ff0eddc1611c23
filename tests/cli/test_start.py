"""What the first request waits for."""

from __future__ import annotations

import json
import subprocess
import sys

AFTER_THE_LOAD = (
    "aiperf.metrics.summary",
    "aiperf.reports.page",
    "aiperf.reports.render",
    "aiperf.plots",
    "rich",
    "jinja2",
)
"""Half of all modules: only a finished run needs them."""


def test_what_evaluates_a_run_is_not_imported_before_its_load() -> None:
    """One eager import anywhere below brings hundreds of modules back, a third of the time until the first request."""
    code = "import json, sys, aiperf.run.profile, aiperf.run.monitoring; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)
    assert [m for m in found if m in AFTER_THE_LOAD or m.startswith(tuple(f"{name}." for name in AFTER_THE_LOAD))] == []

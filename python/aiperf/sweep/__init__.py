"""Several runs in one command: points of a sweep, repeats, searches, interleaved A/B; and the table over runs made one by one.

`profile_study(config)` does what the options ask for; `load_runs(paths)` and `build_table(points)` work on any run directories.
"""

from __future__ import annotations

from aiperf.sweep.pareto import Pareto, pareto_front
from aiperf.sweep.points import RunPoint, load_points, load_runs
from aiperf.sweep.roles import Roles, assign_roles
from aiperf.sweep.search import ProbeOutcome, Range, SearchOptions, SearchResult, maximise, search
from aiperf.sweep.study import Study, profile_study
from aiperf.sweep.table import SweepTable, build_table

__all__ = [
    "Pareto",
    "ProbeOutcome",
    "Range",
    "Roles",
    "RunPoint",
    "SearchOptions",
    "SearchResult",
    "Study",
    "SweepTable",
    "assign_roles",
    "build_table",
    "load_points",
    "load_runs",
    "maximise",
    "pareto_front",
    "profile_study",
    "search",
]

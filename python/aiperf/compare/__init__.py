"""Two runs or more against each other: same workload? which figures differ, by how much, and is it more than chance?

`load_sides` reads results of this tool and of others (`readers/`), `compare_sides` compares them, `render` shows it.
"""

from __future__ import annotations

from aiperf.compare.comparison import Comparison, compare_runs, compare_sides
from aiperf.compare.data import Card, Definition, RunData, build_card
from aiperf.compare.difference import HEADLINE, Difference
from aiperf.compare.gate import FailOn, GateVerdict, check_fail_on, parse_fail_on
from aiperf.compare.readers import load_run, load_runs, load_sides

__all__ = [
    "HEADLINE",
    "Card",
    "Comparison",
    "Definition",
    "Difference",
    "FailOn",
    "GateVerdict",
    "RunData",
    "build_card",
    "check_fail_on",
    "compare_runs",
    "compare_sides",
    "load_run",
    "load_runs",
    "load_sides",
    "parse_fail_on",
]

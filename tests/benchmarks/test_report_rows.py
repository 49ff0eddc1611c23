"""The benchmark of reports makes a run that `aiperf report` reads, whatever becomes of the run's files."""

from __future__ import annotations

import pytest
from benchmarks.report import measure


@pytest.mark.slow
def test_a_report_is_measured() -> None:
    row = measure(200, 5, 60, 1000, 1)
    assert row.met
    assert 0 < row.cpu_s < 60

"""Tests that compare times of two real processes get up to two more tries: shared machines pause for tens of milliseconds.

Only whole-system tests (`tests/e2e`, `tests/accuracy`, `tests/docs`, `tests/benchmarks`); everything else fails the first time. A rerun is reported (`R`), so
that a test which needs them often is seen.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_WHOLE_SYSTEM = ("e2e", "accuracy", "docs", "benchmarks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = Path(str(config.rootpath)) / "tests"
    for item in items:
        if any(item.path.is_relative_to(tests / name) for name in _WHOLE_SYSTEM):
            item.add_marker(pytest.mark.flaky(reruns=2))

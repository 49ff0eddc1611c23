"""What is kept of columns, and of what is computed from them."""

from __future__ import annotations

import numpy as np
import pytest

from aiperf.metrics.context import MetricContext, MetricOptions
from aiperf.records import Columns
from aiperf.records import cache as module

BYTES = 80
"""Of a column of ten rows."""


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Columns read so far; there is room for three of them."""
    monkeypatch.setattr(module, "KEPT_BYTES", 3 * BYTES)
    return []


def columns_of(loads: list[str]) -> Columns:
    def load(name: str) -> np.ndarray:
        loads.append(name)
        return np.arange(10.0)

    return Columns(num_rows=10, load=load, strings=lambda _: [], batches=lambda: iter(()))


def test_columns_not_asked_for_lately_are_read_again(loads: list[str]) -> None:
    """Guards against a report of millions of rows that holds every column."""
    columns = columns_of(loads)
    for name in ("sent", "end", "isl", "sent", "status", "sent", "end"):
        columns.scalar(name)
    assert loads == ["sent", "end", "isl", "status", "end"]


def test_what_is_asked_for_often_stays(loads: list[str]) -> None:
    """Guards against metrics, each looked at once, that push out the start of a request, which most of them need."""
    columns = columns_of(loads)
    for name in ("sent", "sent", "a", "b", "c", "d", "e", "sent"):
        columns.scalar(name)
    assert loads.count("sent") == 1


def test_all_of_a_small_run_stays() -> None:
    loads: list[str] = []
    columns = columns_of(loads)
    for _ in range(2):
        for i in range(100):
            columns.scalar(str(i))
    assert len(loads) == 100


def test_values_are_the_same_whether_kept_or_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` is not kept at all here: it is computed whenever it is asked for."""
    scalars = {
        "sent": np.array([1.0, 2.0, np.nan]),
        "started": np.array([0.5, np.nan, 3.0]),
        "reused": np.array([0.0, 0.0, 1.0]),
    }
    context = MetricContext(Columns.from_arrays(scalars), MetricOptions())
    assert context.start is context.start
    first = context.start.tolist()
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    context.keeper.clear()
    assert context.start is not context.start
    assert context.start.tolist() == first == [0.5, 2.0, 3.0]

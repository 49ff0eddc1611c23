"""`timeslices` of the server's metrics: what was counted in each window, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aiperf.telemetry.prometheus.export import ExportHeader, render_json
from aiperf.telemetry.prometheus.exposition import MetricSeries, Part
from aiperf.telemetry.prometheus.readings import Readings
from aiperf.telemetry.prometheus.slices import windows

_NS_PER_S = 1_000_000_000


def series(metric: str, kind: str, part: Part = "value", le: str | None = None) -> MetricSeries:
    return MetricSeries(metric=metric, kind=kind, help="", labels=(), part=part, le=le)


def rendered(slice_s: float | None = 1.0, *, ends_load: bool = False) -> dict[str, dict[str, object]]:
    """Readings each half second from 10 s to 12.5 s; the phase is 10 s to 12.25 s."""
    values = np.array(
        [
            # counter, gauge, count, sum, le 1, le +Inf
            [100, 1, 0, 0.0, 0, 0],
            [110, 3, 2, 1.0, 2, 2],
            [120, 5, 2, 1.0, 2, 2],
            [5, np.nan, 2, 1.0, 2, 2],
            [15, np.nan, 2, 1.0, 2, 2],
            [25, 9, 6, 9.0, 3, 6],
        ],
        dtype=np.float64,
    )
    readings = Readings(
        url="http://h:1/metrics",
        is_own=True,
        series=(
            series("served", "counter"),
            series("waiting", "gauge"),
            series("queue", "histogram", "count"),
            series("queue", "histogram", "sum"),
            series("queue", "histogram", "bucket", "1"),
            series("queue", "histogram", "bucket", "+Inf"),
        ),
        times_ns=np.arange(6, dtype=np.int64) * (_NS_PER_S // 2) + 10 * _NS_PER_S,
        latencies_ns=np.zeros(6, dtype=np.int64),
        values=values,
    )
    facts = ExportHeader(
        start_ns=10 * _NS_PER_S,
        end_ns=12 * _NS_PER_S + _NS_PER_S // 4,
        aiperf_version="0",
        benchmark_id="b",
        slice_s=slice_s,
        ends_load=ends_load,
    )
    found = json.loads(render_json([readings], facts))["metrics"]
    return {name: entry["series"][0] for name, entry in found.items()}


def test_the_last_window_ends_with_the_phase() -> None:
    assert [(w.start_ns, w.end_ns, w.is_complete) for w in windows(0, 5, 2e-9)] == [
        (0, 2, True),
        (2, 4, True),
        (4, 5, False),
    ]
    assert [w.is_complete for w in windows(0, 4, 2e-9)] == [True, True]
    assert windows(0, 4, None) == []


def test_a_counter_restarts_and_an_edge_between_two_readings_takes_its_share() -> None:
    served = rendered()["served"]
    assert served["timeslices"] == [
        {"start_ns": 10 * _NS_PER_S, "end_ns": 11 * _NS_PER_S, "total": 20.0, "rate": 20.0},
        {"start_ns": 11 * _NS_PER_S, "end_ns": 12 * _NS_PER_S, "total": 15.0, "rate": 15.0},
        {
            "start_ns": 12 * _NS_PER_S,
            "end_ns": 12 * _NS_PER_S + _NS_PER_S // 4,
            "is_complete": False,
            "total": 5.0,
            "rate": 20.0,
        },
    ]
    stats = served["stats"]
    assert isinstance(stats, dict)
    assert (stats["rate_avg"], stats["rate_min"], stats["rate_max"], stats["rate_std"]) == (17.5, 15.0, 20.0, 2.5)


def test_gauges_are_the_readings_inside_and_absent_is_not_zero() -> None:
    assert rendered()["waiting"]["timeslices"] == [
        {"start_ns": 10 * _NS_PER_S, "end_ns": 11 * _NS_PER_S, "avg": 2.0, "min": 1.0, "max": 3.0},
        {"start_ns": 11 * _NS_PER_S, "end_ns": 12 * _NS_PER_S, "avg": 5.0, "min": 5.0, "max": 5.0},
    ]


def test_histograms_have_what_was_counted() -> None:
    slices = rendered()["queue"]["timeslices"]
    assert isinstance(slices, list)
    first, last = slices
    assert first == {
        "start_ns": 10 * _NS_PER_S,
        "end_ns": 11 * _NS_PER_S,
        "count": 2,
        "sum": 1.0,
        "avg": 0.5,
        "buckets": {"1": 2, "+Inf": 2},
    }
    assert (last["count"], last["sum"], last["is_complete"]) == (2, pytest.approx(4.0), False)


def test_without_slices_there_are_none() -> None:
    for entry in rendered(None).values():
        assert "timeslices" not in entry
        stats = entry["stats"]
        assert isinstance(stats, dict)
        assert "rate_avg" not in stats


def test_slices_of_a_phase_that_ends_the_load_add_up_to_the_total() -> None:
    """What was counted after it, too: servers count a moment later than they answer."""
    for name, key in (("served", "total"), ("queue", "count")):
        found = rendered(ends_load=True)[name]
        slices, stats = found["timeslices"], found["stats"]
        assert isinstance(slices, list)
        assert isinstance(stats, dict)
        assert sum(s[key] for s in slices) == stats[key]

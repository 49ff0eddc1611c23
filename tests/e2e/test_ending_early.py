"""`--until` ends a run when a figure is sure, `--abort-on-fail` when a goal is lost; both are watched beside the load."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds, summary_of

from aiperf.config.conditions import parse_condition
from aiperf.config.resolve import config_from
from aiperf.errors import ConfigError, ErrorKind, ExitCode
from aiperf.metrics.compute import open_context
from aiperf.metrics.context import MetricOptions
from aiperf.records import Columns
from aiperf.run.early_stop import lost_assertion, most_requests


@pytest.mark.slow
def test_a_run_ends_when_the_figure_is_sure(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=30, itl_ms=1, ttft_jitter=0.5)
    run = sim.run(concurrency=16, request_count=None, benchmark_duration=40, until="time_to_first_token:avg:±5%")
    assert run.exit_code == ExitCode.OK
    interval = next(i for i in run.summary().intervals if (i.tag, i.stat) == ("time_to_first_token", "avg"))
    assert interval.relative_half_width is not None
    assert interval.relative_half_width <= 0.05
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= 30.0 + 0.5
    assert interval.high >= 30.0
    summary = summary_of(run)
    assert summary["benchmark_duration"]["avg"] < 20
    assert summary["was_cancelled"] is False
    assert "target precision reached" in summary["incomplete_reason"]
    # Those in flight at the end were answered: nothing is lost of what had been sent.
    assert set(kinds(run)) == {ErrorKind.OK}
    assert "ended_early" in {n.kind for n in run.notes}


@pytest.mark.slow
def test_the_bound_comes_first_when_the_figure_stays_unsure(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5, ttft_jitter=0.9)
    run = sim.run(concurrency=4, request_count=60, until="time_to_first_token:p99:±0.1%")
    assert kinds(run) == {ErrorKind.OK: 60}
    assert "not_sure" in {n.kind for n in run.notes}
    assert summary_of(run)["is_complete"] is True


def test_without_a_bound_there_is_one() -> None:
    config = config_from(model="m", url="localhost:1", streaming=True, until="time_to_first_token:p99:±5%", check=False)
    assert config.load.request_count is None
    assert config.load.benchmark_duration == 600


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ("inter_chunk_latency:p99:±5%", "has no interval"),
        ("request_throughput:p50:±5%", "has no interval for `p50`"),
        ("goodput:±5%", "needs objectives"),
    ],
)
def test_figures_without_an_interval_are_refused_before_the_load(
    serve: Callable[..., Sim], until: str, words: str
) -> None:
    sim = serve()
    with pytest.raises(ConfigError, match=words):
        sim.run(until=until)
    assert sim.stats()["requests"] == 0


@pytest.mark.slow
def test_the_run_is_aborted_when_the_error_rate_cannot_hold(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=20, itl_ms=2, faults=[{"kind": "status", "status": 500, "every": 20}])
    run = sim.run(concurrency=4, request_count=3000, abort_on_fail=True, **{"assert": ["error_rate < 0.2%"]})
    assert run.exit_code == ExitCode.THRESHOLD_MISSED
    found = kinds(run)
    assert found[ErrorKind.HTTP_STATUS] > 6
    assert sum(found.values()) < 2000
    assert "can no longer be met" in summary_of(run)["incomplete_reason"]
    outcome = json.loads((run.dir / "run.json").read_text(encoding="utf-8"))["outcome"]
    assert outcome["stopped_by_watch"] is True
    assert next(c for c in run.summary().checks if c.name == "planned").verdict == "holds"


@pytest.mark.slow
def test_watching_costs_the_load_nothing(serve: Callable[..., Sim]) -> None:
    """The same closed loop with and without: as many requests, to a tenth."""
    sim = serve(ttft_ms=4)
    rates = []
    for until in (None, "time_to_first_token:p99:±0.01%"):
        run = sim.run(concurrency=4, request_count=None, benchmark_duration=3, until=until)
        rates.append(summary_of(run)["request_throughput"]["avg"])
    assert rates[1] > 0.85 * rates[0]


def rows(ttft_ms: list[float], failed: int = 0) -> Columns:
    """Finished requests: successful ones with these TTFTs, then failed ones."""
    count = len(ttft_ms) + failed
    nan = [np.nan] * failed
    first = np.array([*ttft_ms, *nan]) * 1e6
    return Columns.from_arrays(
        {
            "sent": np.zeros(count),
            "started": np.zeros(count),
            "reused": np.ones(count),
            "first_content": first,
            "last_content": first,
            "end": np.ones(count) * 1e9,
            "error_kind": np.array([0.0] * len(ttft_ms) + [4.0] * failed),
        }
    )


@pytest.mark.parametrize(
    ("condition", "values", "failed", "most", "is_lost"),
    [
        # 10 of 1,000 failed are 1 %: no longer under it; 9 still are.
        ("error_rate < 1%", [1.0] * 5, 10, 1000, True),
        ("error_rate < 1%", [1.0] * 5, 9, 1000, False),
        ("error_rate <= 1%", [1.0] * 5, 10, 1000, False),
        ("error_rate < 1%", [1.0] * 5, 10, None, False),
        ("error_request_count <= 0", [1.0], 1, None, True),
        # The 99th percentile of 100 lies between the 99th and 100th value: two above it lose it.
        ("time_to_first_token:p99 < 50ms", [60.0, 60.0], 0, 100, True),
        ("time_to_first_token:p99 < 50ms", [60.0], 0, 100, False),
        ("time_to_first_token:p50 < 50ms", [60.0] * 50, 0, 100, False),
        ("time_to_first_token:p50 < 50ms", [60.0] * 51, 0, 100, True),
        ("time_to_first_token:p10 > 50ms", [40.0] * 10, 0, 100, False),
        ("time_to_first_token:p10 > 50ms", [40.0] * 11, 0, 100, True),
        ("time_to_first_token:max < 50ms", [1.0, 51.0], 0, None, True),
        ("time_to_first_token:min > 50ms", [49.0], 0, None, True),
        # 100 requests of 0 to come: an average of 10 needs a sum of 1,000.
        ("time_to_first_token < 10ms", [500.0, 500.0], 0, 100, True),
        ("time_to_first_token < 10ms", [500.0, 499.0], 0, 100, False),
        ("certificate = trustworthy", [1.0], 0, 100, False),
    ],
)
def test_a_goal_is_lost_only_when_nothing_to_come_can_save_it(
    condition: str, values: list[float], failed: int, most: int | None, is_lost: bool
) -> None:
    r = open_context(rows(values, failed), MetricOptions())
    assert (lost_assertion(r, [parse_condition(condition)], most) is not None) == is_lost


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        ({"request_count": 50}, 50),
        ({"request_rate": 10.0, "benchmark_duration": 5.0, "arrival_pattern": "constant"}, 51),
        ({"concurrency": 4, "benchmark_duration": 5.0}, None),
    ],
)
def test_what_bounds_the_number_of_requests(flags: dict[str, object], most: int | None) -> None:
    assert most_requests(config_from({"model": "m", "url": "localhost:1", **flags}, check=False)) == most


def test_a_watch_that_fails_does_not_end_the_run(serve: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch) -> None:
    from aiperf.run import early_stop

    def broken(*_: object) -> Columns:
        raise OSError("no space left on device")

    monkeypatch.setattr(early_stop, "INTERVAL_S", 0.05)
    monkeypatch.setattr(early_stop, "open_run", broken)
    begin = time.monotonic()
    run = serve(ttft_ms=50).run(concurrency=2, request_count=10, until="time_to_first_token:±5%")
    assert time.monotonic() - begin < 20
    assert kinds(run) == {ErrorKind.OK: 10}
    assert any("no space left" in n.text for n in run.notes)

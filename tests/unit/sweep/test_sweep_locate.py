"""Where a waiting time meets its limit, on queues that follow the law exactly."""

from __future__ import annotations

import numpy as np
import pytest

from aiperf.config.conditions import parse_condition
from aiperf.sweeps.crossing import locate, locate_first
from aiperf.sweeps.judge import Sample
from aiperf.sweeps.search import Crossing

RATE = 50.0
"""Requests/s that the server completes."""
PLACES = 40
TTFT = parse_condition("time_to_first_token:p95<400ms")


def sample(value: float, *, spread: float = 0.0, shift: float = 0.0, seed: int = 0, is_settled: bool = True) -> Sample:
    """200 requests that wait (value − places) / X, ± `spread` ms, plus `shift`: p95 is 400 ms at 60 in flight without these."""
    noise = np.random.default_rng(seed).uniform(-spread, spread, 200)
    waits = np.maximum((value - PLACES) / RATE * 1e3 + noise + shift, 5.0)
    latency = value / RATE
    start = np.arange(200) / RATE
    values = {
        "time_to_first_token": waits,
        "request_latency": np.full(200, 1e3 * latency),
        "inter_token_latency": np.full(200, 8.0),
    }
    return Sample(
        values=values,
        start_s=start,
        end_s=start + latency,
        ok=np.ones(200, dtype=np.bool_),
        is_settled=is_settled,
        full_latency_s=latency,
    )


def at(*values: float, **more: float) -> list[tuple[float, Sample]]:
    return [(v, sample(v, seed=i, **more)) for i, v in enumerate(values)]  # type: ignore[arg-type]


def located(runs: list[tuple[float, Sample]], text: str = str(TTFT)) -> Crossing:
    crossing = locate(runs, parse_condition(text))
    assert crossing is not None
    return crossing


def test_runs_around_the_limit_give_it_exactly_where_waits_follow_the_law() -> None:
    crossing = located(at(57, 62, 59))
    assert crossing.value == pytest.approx(60, abs=1e-6)
    assert crossing.runs == 3
    assert located(at(57, 62, 59), "time_to_first_token:avg<400ms").value == pytest.approx(60, abs=1e-6)


def test_limit_of_a_percentile_is_that_of_the_requests_who_wait_longest() -> None:
    """Uniform ± 100 ms: p95 is 90 ms above the middle, which is 4.5 requests in flight."""
    assert located(at(54, 56, 55, spread=100.0)).value == pytest.approx(55.5, abs=0.5)


def test_scatter_between_runs_is_the_error() -> None:
    runs = [(58.0, sample(58.0, shift=-120)), (60.0, sample(60.0, shift=120)), (62.0, sample(62.0, shift=-120))]
    crossing = located(runs)
    assert crossing.half > 5
    assert abs(crossing.value - 60) < crossing.half
    assert located(at(57, 62, 59)).half < 1


def test_runs_that_do_not_queue_say_nothing() -> None:
    assert locate(at(20, 30, 41), TTFT) is None
    crossing = located([*at(30), *at(61, 62)])
    assert crossing.runs == 2
    assert crossing.value == pytest.approx(60, abs=0.5)


def test_far_and_rough_runs_are_only_pointers() -> None:
    far = located(at(90))
    assert (far.runs, far.half) == (0, np.inf)
    assert far.value == pytest.approx(60, abs=1e-6)
    rough = located([(v, sample(v, is_settled=False)) for v in (58, 61)])
    assert (rough.runs, rough.half) == (0, np.inf)
    assert rough.value == pytest.approx(60, abs=1e-6)


def test_of_several_conditions_the_first_to_be_missed_counts() -> None:
    runs = at(50, 52, 51)
    stricter = parse_condition("time_to_first_token:p95<220ms")
    crossing = locate_first(runs, [TTFT, stricter])
    assert crossing is not None
    assert crossing.value == pytest.approx(51, abs=0.1)


@pytest.mark.parametrize(
    ("itl", "is_located"), [("inter_token_latency:avg<10ms", True), ("inter_token_latency:avg<7ms", False)]
)
def test_nothing_is_located_where_another_condition_may_be_missed_before(itl: str, is_located: bool) -> None:
    crossing = locate_first(at(57, 62, 59), [TTFT, parse_condition(itl)])
    assert (crossing is not None) == is_located

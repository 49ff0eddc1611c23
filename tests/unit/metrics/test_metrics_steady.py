"""Warm-up, steady part and drift on simulated runs with a known truth; a flat server gives no finding."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import pytest

from aiperf.metrics.compute import open_context
from aiperf.metrics.context import MetricOptions
from aiperf.metrics.steady import Steady, find_steady
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import SummaryOptions
from aiperf.records import Columns


def simulate(
    seed: int, level: Callable[[float], float] = lambda _: 1.0, *, seconds: float = 60.0, slots: int = 24
) -> Columns:
    """A closed loop on a virtual clock: TTFT 100 ms and 10 ms a token, times `level(t)`, with noise of each request's own and
    noise that all share for about a second.
    """
    rng = np.random.default_rng(seed)
    free = [0.0] * slots
    rows: list[tuple[float, float, float]] = []
    shared = last = 0.0
    while free[0] < seconds:
        sent = heapq.heappop(free)
        keep = np.exp(-(sent - last))
        shared, last = shared * keep + 0.05 * np.sqrt(1 - keep * keep) * rng.normal(), sent
        now = level(sent) * np.exp(shared)
        first = sent + 0.1 * now * np.exp(0.3 * rng.normal() - 0.045)
        end = first + 0.01 * 49 * now * np.exp(0.1 * rng.normal())
        rows.append((sent, first, end))
        heapq.heappush(free, end)
    sent_ns, first_ns, end_ns = (np.array(column) * 1e9 for column in zip(*rows, strict=True))
    count = len(sent_ns)
    return Columns.from_arrays(
        {
            "scheduled": sent_ns,
            "started": sent_ns,
            "sent": sent_ns,
            "reused": np.ones(count),
            "first_content": first_ns,
            "last_content": end_ns,
            "end": end_ns,
            "error_kind": np.zeros(count),
            "counted_output": np.full(count, 50),
            "isl": np.full(count, 100),
            "num_content_chunks": np.zeros(count),
        }
    )


def parts(columns: Columns) -> Steady:
    found = find_steady(open_context(columns, MetricOptions()))
    assert found is not None
    return found


@pytest.mark.slow
def test_a_flat_server_gives_a_finding_in_at_most_one_of_fifty_runs() -> None:
    assert sum(bool(parts(simulate(seed)).changes) for seed in range(50)) <= 1


@pytest.mark.parametrize("seed", range(4))
def test_slow_start_steady_part_and_degradation_are_found(seed: int) -> None:
    """Slow for 10 s, steady for 30 s, then 2 % worse each second; slices of 5 s."""
    steady = parts(simulate(seed, lambda t: 2.0 if t < 10 else 1.0 if t < 40 else 1 + (t - 40) / 30))
    assert steady.warmup_end_ns / 1e9 == pytest.approx(10, abs=5)
    assert steady.drift_start_ns is not None
    assert steady.drift_start_ns / 1e9 == pytest.approx(40, abs=5)
    assert steady.steady_end_ns == steady.drift_start_ns
    assert steady.drain_start_ns <= 60e9 < steady.end_ns


@pytest.mark.parametrize("seed", range(3))
def test_a_warm_up_that_decays(seed: int) -> None:
    found = parts(simulate(seed, lambda t: 1 + float(np.exp(-t / 4))))
    assert 4 < found.warmup_end_ns / 1e9 < 16
    assert not found.has_drift


def test_small_changes_are_no_finding() -> None:
    """5 % is below the least effect, however sure."""
    assert parts(simulate(1, lambda t: 1.05 if t < 20 else 1.0, slots=64)).changes == ()


def test_short_runs_say_why_nothing_was_searched() -> None:
    found = parts(simulate(0, seconds=2.0, slots=4))
    assert found.changes == ()
    assert found.reason is not None


def test_the_steady_part_can_be_the_headline() -> None:
    columns = simulate(0, lambda t: 3.0 if t < 10 else 1.0)
    whole = summarise(columns)
    steady = summarise(columns, SummaryOptions(steady_state=True))
    assert not whole.steady_is_headline
    assert any(n.kind == "warmup" for n in whole.notices)
    assert steady.steady_is_headline
    assert steady.stat("time_to_first_token") == pytest.approx(105, rel=0.1)
    assert (whole.stat("time_to_first_token") or 0) > 1.05 * (steady.stat("time_to_first_token") or 0)
    # Both views are there in both.
    assert whole.steady_part is not None
    assert whole.steady_part.stat("time_to_first_token") == steady.stat("time_to_first_token")
    assert steady.whole["time_to_first_token"].stats == whole.metrics["time_to_first_token"].stats
    assert steady.duration_s == pytest.approx(50, abs=3)

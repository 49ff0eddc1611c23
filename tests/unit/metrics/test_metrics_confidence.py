"""Stated intervals cover the truth: nominal 95 %, found 90 to 99 % under autocorrelation."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from tests.unit.metrics.metric_rows import Goals, columns_of, stream

from aiperf.metrics.compute import open_context
from aiperf.metrics.confidence import (
    estimate,
    estimate_all,
    mean_interval,
    percentile_interval,
    t_quantile,
)
from aiperf.metrics.context import MetricOptions
from aiperf.metrics.goodput import build_tiers
from aiperf.metrics.rates import count_interval, rate_interval
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import SummaryOptions

RUNS = 300


def ar1(rng: np.random.Generator, phi: float, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Stationary AR(1) with standard normal margins."""
    noise = rng.normal(size=count) * math.sqrt(1 - phi * phi)
    out = np.empty(count)
    out[0] = rng.normal()
    for i in range(1, count):
        out[i] = phi * out[i - 1] + noise[i]
    return out


def service_times(rng: np.random.Generator, phi: float, n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Lognormal service times whose logarithm is AR(1): mean exp(1/8)·100, skewed as latencies are."""
    values: np.ndarray[tuple[int], np.dtype[np.float64]] = 100 * np.exp(0.5 * ar1(rng, phi, n))
    return values


def covered(low: float | None, high: float | None, truth: float) -> bool:
    return (low is None or low <= truth) and (high is None or truth <= high)


@pytest.mark.slow
@pytest.mark.parametrize(("phi", "count"), [(0.0, 500), (0.5, 1000), (0.8, 2000), (0.9, 4000)])
def test_means_are_covered(phi: float, count: int) -> None:
    rng = np.random.default_rng(11)
    truth = 100 * math.exp(0.125)
    hits = 0
    for _ in range(RUNS):
        _, low, high, _ = mean_interval(service_times(rng, phi, count))
        hits += covered(low, high, truth)
    assert 0.90 <= hits / RUNS <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0])
@pytest.mark.parametrize(("phi", "count"), [(0.0, 1000), (0.8, 3000)])
def test_percentiles_are_covered(phi: float, count: int, percentile: float) -> None:
    rng = np.random.default_rng(13)
    truth = 100 * math.exp(0.5 * NormalDist().inv_cdf(percentile / 100))
    hits = 0
    for _ in range(RUNS):
        _, low, high, _ = percentile_interval(service_times(rng, phi, count), percentile)
        hits += covered(low, high, truth)
    assert 0.90 <= hits / RUNS <= 0.995


Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Requests = tuple[Floats, Floats]
"""Start and end of each request, s."""


def closed_loop(rng: np.random.Generator, slots: int, until: float, latencies: Callable[[], Floats]) -> Requests:
    """Each slot sends its next request when the one before has ended, until the load ends; `latencies` of one slot."""
    begins, ends = [], []
    for _ in range(slots):
        drawn = latencies()
        starts = np.concatenate([[0.0], np.cumsum(drawn)])[:-1]
        kept = starts < until
        begins.append(starts[kept])
        ends.append((starts + drawn)[kept])
    return np.concatenate(begins), np.concatenate(ends)


def waves(rng: np.random.Generator, until: float, deviation: float) -> Requests:
    """50 slots that start together and end together: each wave takes 2 s, more or less, for all."""
    together = 2 * (1 + deviation * rng.normal(size=200))
    return closed_loop(rng, 50, until, lambda: np.maximum(together * (1 + deviation / 10 * rng.normal(size=200)), 0.01))


def drifting(rng: np.random.Generator, until: float, deviation: float) -> Requests:
    """50 slots that start together and lose step with each other."""
    return closed_loop(rng, 50, until, lambda: np.maximum(2 * (1 + deviation * rng.normal(size=200)), 0.05))


def poisson(rng: np.random.Generator, until: float, rate: float, latency: float) -> Requests:
    begins = np.sort(rng.uniform(0, until, rng.poisson(rate * until)))
    return begins, begins + rng.exponential(latency, len(begins))


def queue(rng: np.random.Generator, until: float, rate: float) -> Requests:
    """Poisson arrivals at one server of 50 requests per second."""
    begins = np.sort(rng.uniform(0, until, rng.poisson(rate * until)))
    service = np.cumsum(rng.exponential(1 / 50, len(begins)))
    before = np.concatenate([[0.0], service[:-1]])
    return begins, service + np.maximum.accumulate(begins - before)


def until_now(requests: Requests, now: float) -> Requests:
    """What a run that still goes on has seen: requests that have ended."""
    begins, ends = requests
    return begins[ends <= now], ends[ends <= now]


RATES: dict[str, tuple[Callable[[np.random.Generator], Requests], float]] = {
    "waves, 24 s": (lambda rng: waves(rng, 24, 0.05), 25),
    "waves, 60 s": (lambda rng: waves(rng, 60, 0.05), 25),
    "strict waves, 24 s": (lambda rng: waves(rng, 24, 0.01), 25),
    "uneven waves, 60 s": (lambda rng: waves(rng, 60, 0.2), 25),
    "waves, still going on": (lambda rng: until_now(waves(rng, 60, 0.05), 40.7), 25),
    "drifting, 20 s": (lambda rng: drifting(rng, 20, 0.1), 25),
    "drifting, 60 s": (lambda rng: drifting(rng, 60, 0.4), 25),
    "drifting, still going on": (lambda rng: until_now(drifting(rng, 60, 0.2), 40.7), 25),
    "exponential, 30 s": (lambda rng: closed_loop(rng, 16, 30, lambda: rng.exponential(0.5, 400)), 32),
    "correlated service, 26 s": (
        lambda rng: closed_loop(rng, 8, 26, lambda: service_times(rng, 0.5, 400) / 1000),
        8 / (0.1 * math.exp(0.125)),
    ),
    "poisson, short latency": (lambda rng: poisson(rng, 20, 50, 0.2), 50),
    "poisson, long latency": (lambda rng: poisson(rng, 60, 50, 2.0), 50),
    "queue": (lambda rng: queue(rng, 60, 35), 35),
}


@pytest.mark.slow
@pytest.mark.parametrize("load", RATES)
def test_rates_are_covered(load: str) -> None:
    """Whatever the rhythm of the requests: the interval holds the rate that a longer run approaches."""
    run, truth = RATES[load]
    rng = np.random.default_rng(17)
    hits = intervals = 0
    for _ in range(RUNS):
        begins, ends = run(rng)
        rate = len(begins) / float(ends.max() - begins.min())
        low, high, _ = rate_interval(begins * 1e9, ends * 1e9, np.ones(len(begins)), rate)
        intervals += low is not None
        hits += low is not None and covered(low, high, truth)
    assert intervals > 0.9 * RUNS
    assert 0.90 <= hits / intervals <= 0.995


def test_waves_do_not_widen_the_interval_and_counts_alone_would() -> None:
    """A 24 s run of a steady server was printed with ± 54 %."""
    begins, ends = waves(np.random.default_rng(3), 24, 0.02)
    rate = len(begins) / float(ends.max())
    low, high, _ = rate_interval(begins * 1e9, ends * 1e9, np.ones(len(begins)), rate)
    assert low is not None
    assert high is not None
    assert (high - low) / 2 < 0.08 * rate
    low, high, _ = count_interval(ends * 1e9, np.ones(len(ends)), rate)
    assert low is not None
    assert high is not None
    assert (high - low) / 2 > 0.25 * rate


def test_a_run_of_few_latencies_has_no_interval() -> None:
    begins, ends = waves(np.random.default_rng(3), 11, 0.02)
    assert rate_interval(begins * 1e9, ends * 1e9, np.ones(len(begins)), 25.0)[:2] == (None, None)
    assert rate_interval(np.zeros(100), np.full(100, 2e9), np.ones(100), 50.0)[:2] == (None, None)


def test_equal_waves_are_certain() -> None:
    begins = np.repeat(np.arange(20.0), 8) * 1e9
    low, high, _ = rate_interval(begins, begins + 1e9, np.ones(160), 8.0)
    assert low == pytest.approx(8.0)
    assert high == pytest.approx(8.0)


def test_correlation_costs_information() -> None:
    rng = np.random.default_rng(1)
    independent = mean_interval(ar1(rng, 0.0, 4000) + 10)
    correlated = mean_interval(ar1(rng, 0.9, 4000) + 10)
    assert independent[3] == pytest.approx(4000, rel=0.2)
    assert correlated[3] == pytest.approx(4000 / 19, rel=0.5)


def test_too_few_values_have_no_interval() -> None:
    assert mean_interval(np.arange(5.0))[1:3] == (None, None)
    assert percentile_interval(np.arange(200.0), 99.9)[2] is None


def test_constant_values_are_certain() -> None:
    mean, low, high, effective = mean_interval(np.full(100, 7.0))
    assert (mean, low, high, effective) == (7.0, 7.0, 7.0, 100.0)


def test_quantiles_of_students_t() -> None:
    """Tables: t(0.975; 5) = 2.571, t(0.975; 30) = 2.042, t(0.995; 10) = 3.169."""
    assert t_quantile(0.975, 5) == pytest.approx(2.571, rel=0.005)
    assert t_quantile(0.975, 30) == pytest.approx(2.042, rel=0.001)
    assert t_quantile(0.995, 10) == pytest.approx(3.169, rel=0.002)


def test_headline_figures_have_intervals_around_them() -> None:
    rng = np.random.default_rng(4)
    rows = [stream(20 * i, 20 * i + float(t), 20 * i + float(t) + 30) for i, t in enumerate(rng.lognormal(3, 0.3, 200))]
    tiers = build_tiers([Goals((("time_to_first_token", 20.0),))])
    summary = summarise(columns_of(rows), SummaryOptions(tiers=tiers))
    by_figure = {(i.tag, i.stat): i for i in summary.intervals}
    assert {t for t, _ in by_figure} == {
        "time_to_first_token",
        "inter_token_latency",
        "request_latency",
        "request_throughput",
        "output_token_throughput",
        "goodput",
        "good_request_fraction",
    }
    for (tag, stat), interval in by_figure.items():
        assert interval.value == pytest.approx(summary.stat(tag, stat)), (tag, stat)
        assert interval.low is None or interval.low <= interval.value
        assert interval.high is None or interval.high >= interval.value


def test_one_figure_can_be_asked_for() -> None:
    """What `--until` asks while the run goes on."""
    rows = [stream(20 * i, 20 * i + 10 + i % 7, 20 * i + 40) for i in range(200)]
    context = open_context(columns_of(rows), MetricOptions())
    interval = estimate(context, "time_to_first_token", "p90")
    assert interval is not None
    assert interval.relative_half_width is not None
    assert interval.relative_half_width < 0.2
    assert estimate(context, "benchmark_duration") is None
    assert estimate(context, "goodput") is None
    assert len(estimate_all(context)) > 8

"""The search against servers whose capacity is known, on a virtual clock."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.sweep.engine_model import draw_engine, engine_capacity
from tests.unit.sweep.queue_model import Server, serve
from tests.unit.sweep.virtual_probe import VirtualProbe, at_rate, closed, engine, noisy, true_capacity, true_rate

from aiperf.config.conditions import parse_condition
from aiperf.sweeps.judge import judge
from aiperf.sweeps.search import ProbeOutcome, Range, SearchOptions, SearchResult, maximise, search

GRID_REQUESTS = 11 * 1000
"""The grid 1, 2, 4 … 1024 with the demo's 1,000 requests a point."""


def found_by(probe: VirtualProbe) -> SearchResult:
    found = search(probe, Range(1, 1024), locate=probe.locate)
    assert found.requests == probe.spent
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_search_finds_an_engines_capacity_within_five_percent_for_two_fifths_of_the_grid(seed: int) -> None:
    """20 engines drawn at random; the truth is a scan over the same model. docs/guide/sweeps.md has the figures of 100 others."""
    drawn = draw_engine(seed)
    found = found_by(VirtualProbe(serve=engine(drawn), seed=seed))
    assert found.status == "found"
    assert found.estimate == pytest.approx(engine_capacity(drawn), rel=0.05)
    assert found.requests / GRID_REQUESTS <= 0.40


@pytest.mark.slow
def test_search_finds_the_capacity_of_servers_whose_steps_vary_with_memory() -> None:
    """20 servers of another model: between engines the noise is uniform, here a slow step is followed by slow ones."""
    costs, errors = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        server = Server(
            slots=int(rng.integers(8, 256)), step_ms=float(rng.uniform(5, 15)), prefill_ms=float(rng.uniform(1, 4))
        )
        found = found_by(VirtualProbe(serve=closed(server), seed=seed))
        assert found.status == "found", seed
        assert found.estimate is not None
        errors.append(abs(found.estimate / true_capacity(server) - 1))
        costs.append(found.requests / GRID_REQUESTS)
    assert max(errors) <= 0.05
    assert max(costs) <= 0.40


@pytest.mark.slow
def test_noisy_server_is_unresolved_or_right_but_not_wrong() -> None:
    """Each run's steps are 40 % faster or slower: what is found must hold the truth, and some must say that they do not know."""
    server = Server()
    true = true_capacity(server)
    states = []
    for seed in range(8):
        noise = noisy(lambda factor: closed(replace(server, step_ms=server.step_ms * factor)), 0.4)
        result = found_by(VirtualProbe(serve=noise, seed=seed))
        states.append(result.status)
        assert result.low is not None
        assert result.high is not None
        assert result.low * 0.95 <= true <= result.high * 1.05
        assert ("unresolved" in result.text) == (result.status == "unresolved")
    assert set(states) == {"found", "unresolved"}


@pytest.mark.slow
def test_noisy_engine_is_unresolved_or_right_but_not_wrong() -> None:
    """Each run is on average 40 % faster or slower. Right lies between what the engine bears at its usual pace and what it bears over all
    its paces: those who wait longest then wait in its slow runs.
    """
    usual = draw_engine(7)
    share = 0.4
    paces = [usual.slower(math.exp(share * z)) for z in np.random.default_rng(1).normal(size=40)]
    at_its_pace, over_all = engine_capacity(usual), engine_capacity(*paces)
    assert over_all < 0.95 * at_its_pace
    states = []
    for seed in range(12):
        result = found_by(VirtualProbe(serve=noisy(lambda factor: engine(usual.slower(factor)), share), seed=seed))
        states.append(result.status)
        assert result.low is not None
        assert result.high is not None
        assert result.low * 0.95 <= at_its_pace
        assert result.high * 1.05 >= over_all
        assert ("unresolved" in result.text) == (result.status == "unresolved")
    assert set(states) == {"found", "unresolved"}


@pytest.mark.slow
@pytest.mark.parametrize("slo", ["time_to_first_token:p95<400ms", "good_request_fraction>=95%"])
def test_rate_search_stops_below_the_rate_at_which_the_queue_grows(slo: str) -> None:
    server = Server()
    true = true_rate(server)
    for seed in range(3):
        probe = VirtualProbe(serve=at_rate(server), seed=seed, slo=(slo,), is_open=True)
        found = search(probe, Range(1, 512, is_whole=False), locate=probe.locate)
        assert found.status == "found"
        assert found.estimate == pytest.approx(true, rel=0.10)


@pytest.mark.slow
def test_goodput_search_stays_where_requests_are_still_good() -> None:
    """Goodput peaks near the highest concurrency whose requests keep the limit; beyond it hardly one is good."""
    server = Server()
    probe = VirtualProbe(serve=closed(server), seed=3)

    def ask(value: float, calls: int) -> ProbeOutcome:
        spent = probe(value, calls + 1).requests
        pooled = probe.asked[value]
        goodput = judge(pooled, parse_condition("goodput >= 1"))
        assert goodput.value is not None
        return ProbeOutcome(verdict="pass", requests=spent, objective=goodput.value)

    result = maximise(ask, Range(1, 512))
    saturated = serve(server, 20_000, 1, concurrency=80)
    assert result.objective == pytest.approx(20_000 / saturated.end.max() * 1e3, rel=0.12), (
        "the best of several noisy ones looks a little better than it is"
    )
    assert result.value is not None
    assert 50 <= result.value <= 1.1 * true_capacity(server)


def exact(limit: float, cost: int = 10) -> object:
    def probe(value: float, calls: int) -> ProbeOutcome:
        return ProbeOutcome(
            verdict="pass" if value <= limit else "fail", requests=cost, margin=math.log(limit / value) + 1e-9
        )

    return probe


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 31, 32, 33, 100, 500, 1023])
def test_search_without_noise_ends_at_neighbours_or_within_the_tolerance(limit: int) -> None:
    result = search(exact(limit), Range(1, 1024))  # type: ignore[arg-type]
    assert result.status == "found"
    assert result.low is not None
    assert result.high is not None
    assert result.low <= limit < result.high
    assert result.high - result.low <= 1 or result.high / result.low <= 1.05**2 + 1e-6
    assert result.requests == 10 * sum(p.calls for p in result.probes)
    assert sum(p.calls for p in result.probes) <= 18


def test_search_says_so_when_everything_passes_or_nothing_does() -> None:
    top = search(exact(10_000), Range(1, 64))  # type: ignore[arg-type]
    assert (top.status, top.value, top.high) == ("all pass", 64, None)
    none = search(exact(0.5), Range(1, 64))  # type: ignore[arg-type]
    assert (none.status, none.value, none.high) == ("none pass", None, 1)
    assert "none" in none.text


def test_unresolved_value_is_prolonged_and_then_left_in_the_grey() -> None:
    """A server that cannot be told from its limit between 40 and 60, however long it is watched."""
    calls: dict[float, int] = {}

    def probe(value: float, number: int) -> ProbeOutcome:
        calls[value] = number + 1
        verdict = "unresolved" if 40 <= value <= 60 else "pass" if value < 40 else "fail"
        return ProbeOutcome(verdict=verdict, requests=10)  # type: ignore[arg-type]

    result = search(probe, Range(1, 1024))
    assert result.status == "unresolved"
    assert result.low is not None
    assert result.high is not None
    assert 36 <= result.low < 40
    assert 60 < result.high <= 66
    assert max(calls.values()) == SearchOptions().patience + 1
    assert "unresolved" in result.text


def test_search_ends_when_its_runs_are_used_up() -> None:
    found = search(exact(777), Range(1, 100_000), SearchOptions(tolerance=0.0001, max_probes=8))  # type: ignore[arg-type]
    assert found.status == "exhausted"
    assert len(found.probes) == 8


def test_goodput_is_maximised_where_it_peaks() -> None:
    """Goodput rises with the load and falls beyond 90."""

    def probe(value: float, calls: int) -> ProbeOutcome:
        goodput = value if value <= 90 else max(0.0, 90 - 3 * (value - 90))
        return ProbeOutcome(verdict="pass", requests=10, objective=goodput, objective_se=0.5)

    found = maximise(probe, Range(1, 512))
    assert found.value == pytest.approx(90, rel=0.06)
    assert found.objective == found.value
    assert f"at {found.value:g}" in found.text
    assert found.requests == 10 * sum(p.calls for p in found.probes)


def rough_is_wrong(limit: float, wrong: float) -> object:
    """A rough run at `wrong` fails, though only just: the server was not yet as full as it would be."""

    def probe(value: float, effort: int) -> ProbeOutcome:
        passes = value <= limit and (effort > 0 or value != wrong)
        return ProbeOutcome(
            verdict="pass" if passes else "fail", requests=10, margin=math.log(limit / value) if passes else -0.1
        )

    return probe


@pytest.mark.parametrize("wrong", [1, 8, 64, 128])
def test_a_rough_run_that_fails_by_little_is_no_end_of_the_search(wrong: float) -> None:
    found = search(rough_is_wrong(300, wrong), Range(1, 1024))  # type: ignore[arg-type]
    assert found.status == "found"
    assert found.low is not None
    assert found.low >= 285

"""What every live view shows, from snapshots alone: now and so far, errors, SLOs, assertions, the client's fitness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.live.snapshots import NS_PER_S, Load, snapshot, spread

from aiperf.config.conditions import parse_condition, parse_tier
from aiperf.config.model import Config
from aiperf.live.frame import view_frame
from aiperf.live.model import LiveModel
from aiperf.live.spread import Distribution
from aiperf.live.view import View
from aiperf.live.words import state_words
from aiperf.outcome import GeneratorState, Spread
from aiperf.ui.dashboard.panels import generators_page


def config(goodput: str = "", asserts: tuple[str, ...] = (), slo: Mapping[str, object] | None = None) -> Config:
    tiers = (parse_tier(goodput),) if goodput else ()
    return Config.model_validate(
        {"slo": {"goodput": tiers, "asserts": tuple(map(parse_condition, asserts)), **(slo or {})}}
    )


def distribution(values_ms: list[float]) -> Distribution:
    found = spread(values_ms)
    return Distribution.of(None if found is None else Spread.model_validate(found))


# --- histograms -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_within_a_percent(values: list[float], share: float) -> None:
    exact = float(np.percentile(values, 100 * share, method="inverted_cdf"))
    found = distribution(values).percentiles_ms(share)
    assert found is not None
    assert found[0] == pytest.approx(exact, rel=0.01, abs=0.0011)


@given(st.lists(st.floats(0.01, 1e4), max_size=50), st.lists(st.floats(0.01, 1e4), max_size=50))
def test_what_came_since_is_the_difference(before: list[float], after: list[float]) -> None:
    since = distribution(before + after).since(distribution(before))
    alone = distribution(after)
    kept = since.counts > 0
    assert (since.upper_us[kept] == alone.upper_us).all()
    assert (since.counts[kept] == alone.counts).all()
    assert since.sum_ms == pytest.approx(alone.sum_ms, abs=1e-3)


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=200), st.integers(3, 40))
def test_bars_lose_nobody(values: list[float], number: int) -> None:
    edges, counts = distribution(values).bars(number)
    assert (len(edges), len(counts)) == (number + 1, number)
    assert counts.sum() == len(values)
    assert (np.diff(edges) > 0).all()


def test_nothing_has_no_percentiles() -> None:
    nothing = Distribution.of(None)
    assert nothing.percentiles_ms(0.5) is None
    assert nothing.mean_ms is None
    assert len(nothing.bars(5)[0]) == 0


# --- now and so far ---------------------------------------------------------------------------------------------------------


def test_now_is_the_last_ten_seconds() -> None:
    model, load = LiveModel(), Load()
    for second in range(1, 31):
        load.ok(10 if second <= 20 else 40, values_ms={"time_to_first_token": 50.0 if second <= 20 else 200.0})
        view = model.read(load.at(second))
    assert view.now.seconds == 10
    assert view.now.requests_per_s == 40
    assert view.now.flow == 400
    assert view.now.ttft == pytest.approx((200, 200, 200), rel=0.01)
    assert view.so_far.requests_per_s == 600 / 30
    assert view.so_far.ttft == pytest.approx((200, 200, 200), rel=0.01)
    assert [m.requests_per_s for m in view.moments] == [10.0] * 20 + [40.0] * 10


def test_warm_up_is_not_in_what_is_measured() -> None:
    model, warmup = LiveModel(), Load(is_measured=False, phase_index=0)
    warmup.ok(100, values_ms={"time_to_first_token": 900.0})
    assert model.read(warmup.at(5)).so_far.ttft == pytest.approx((900, 900, 900), rel=0.01)
    measured = Load(is_measured=True, phase_index=1, phase_start_ns=5 * NS_PER_S)
    view = model.read(measured.at(5.25))
    assert view.now.ttft is None
    assert view.moments == ()
    measured.ok(20, values_ms={"time_to_first_token": 10.0})
    view = model.read(measured.at(7))
    assert view.so_far.requests_per_s == 10
    assert view.now.ttft == pytest.approx((10, 10, 10), rel=0.01)


def test_nothing_yet_is_absent_not_zero() -> None:
    view = LiveModel().read(snapshot(0.25))
    for figures in (view.now, view.so_far):
        assert (figures.requests_per_s, figures.flow, figures.ttft, figures.itl, figures.error_share) == (None,) * 5
    assert state_words(view) == []


def test_a_server_without_usage_is_shown_by_its_chunks() -> None:
    model, load = LiveModel(), Load()
    model.read(load.at(0))
    load.ok(10, tokens=0)
    view = model.read(load.at(2))
    assert (view.so_far.flow, view.so_far.flow_unit) == (50.0, "chunks")


def test_hours_are_no_more_than_minutes() -> None:
    model, load = LiveModel(), Load()
    for second in range(0, 4000, 2):
        load.ok(1, values_ms={"request_latency": 5.0})
        view = model.read(load.at(second))
    assert len(view.moments) == 600


# --- errors, SLOs, assertions -----------------------------------------------------------------------------------------------


def test_errors_by_kind_with_the_latest_message() -> None:
    model, load = LiveModel(), Load()
    load.fail(3, 4, 503, "overloaded\n  try later", 8.0)
    load.fail(5, 3, None, "no complete response within 5 s", 9.0)
    view = model.read(load.at(10))
    assert [(e.name, e.count, e.message, e.ago_s) for e in view.errors] == [
        ("timed out", 5, "no complete response within 5 s", 1.0),
        ("HTTP 503", 3, "overloaded try later", 2.0),
    ]
    assert view.so_far.error_share == 1.0
    assert state_words(view) == ["5 × timed out", "3 × HTTP 503"]


def test_a_message_cannot_command_the_terminal() -> None:
    model, load = LiveModel(), Load()
    load.fail(1, 4, 500, "\x1b]0;title\x07 no\x9b2J \x00\u202eroom", 1)
    (line,) = model.read(load.at(2)).errors
    assert line.message.isprintable()
    assert line.message == "]0;title no 2J room"


def test_goodput_so_far() -> None:
    model, load = LiveModel(config(goodput="time_to_first_token:100")), Load()
    load.ok(80, good=[60], values_ms={"time_to_first_token": 50.0})
    load.fail(20, 4, 500, "no", 1)
    (tier,) = model.read(load.at(10)).tiers
    assert (tier.name, tier.good, tier.share, tier.per_s) == ("slo", 60, 0.6, 6.0)


def test_an_slo_that_is_known_only_at_the_end_is_absent() -> None:
    model, load = LiveModel(config(goodput="output_sequence_length:100")), Load()
    load.ok(80)
    (tier,) = model.read(load.at(10)).tiers
    assert (tier.good, tier.share, tier.per_s) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "actual", "holds", "margin"),
    [
        ("time_to_first_token:p99 < 400ms", "199.17 ms", True, 0.502),
        ("time_to_first_token:avg < 0.1s", "200.00 ms", False, -1.0),
        ("inter_token_latency:p50 <= 6", "4.99 ms", True, 0.167),
        ("request_throughput > 5", "8.00 requests/sec", True, 0.6),
        ("output_token_throughput >= 100", "80.00 tokens/sec", False, -0.2),
        ("error_rate < 10%", "20.00%", False, -1.0),
        ("request_count >= 80", "80.00 requests", True, 0.0),
        ("goodput > 3", "4.00 requests/sec", True, 1 / 3),
        ("good_request_fraction >= 50%", "40.00%", False, -0.2),
        ("certificate = trustworthy", "trustworthy", True, None),
        ("request_latency:std < 4", "–", None, None),
        ("inter_chunk_latency:p99 < 4", "–", None, None),
    ],
)
def test_assertions_with_their_margin(text: str, actual: str, holds: bool | None, margin: float | None) -> None:
    model, load = LiveModel(config(goodput="time_to_first_token:300", asserts=(text,))), Load()
    load.ok(
        80, good=[40], values_ms={"time_to_first_token": 200.0, "inter_token_latency": 5.0, "request_latency": 300.0}
    )
    load.fail(20, 4, 500, "no", 1)
    (line,) = model.read(load.at(10)).asserts
    assert line.holds is holds
    assert line.actual.split()[-1] == actual.rsplit(maxsplit=1)[-1]
    if holds is not None and actual[0].isdigit():
        assert float(line.actual.split()[0].rstrip("%")) == pytest.approx(
            float(actual.split(maxsplit=1)[0].rstrip("%")), rel=0.01
        )
    assert line.margin == (None if margin is None else pytest.approx(margin, abs=0.01))


@pytest.mark.parametrize("slo", [{"steady_state": True}, {"exclude_slices": (0,)}])
def test_assertions_on_a_part_of_the_run_wait_for_its_end(slo: dict[str, object]) -> None:
    model, load = LiveModel(config(asserts=("request_count > 1",), slo=slo)), Load()
    load.ok(5)
    assert model.read(load.at(10)).asserts[0].holds is None


# --- the client -------------------------------------------------------------------------------------------------------------


def read_two(load: Load, cpu_s: float, wait_s: float) -> View:
    model = LiveModel()
    model.read(load.at(0, worker_cpu_ns=[0, 0], worker_wait_ns=[0, 0]))
    busy = [round(0.1 * NS_PER_S), round(cpu_s * NS_PER_S)]
    return model.read(load.at(10, worker_cpu_ns=busy, worker_wait_ns=[0, round(wait_s * NS_PER_S)]))


@pytest.mark.parametrize(
    ("values", "cpu_s", "wait_s", "verdict", "reason"),
    [
        ({}, 1.0, 0.0, "trustworthy", None),
        ({"send_lag": 30.0}, 1.0, 0.0, "client-limited", "send lag"),
        ({"receive_lag": 9.0}, 1.0, 0.0, "client-limited", "receive lag"),
        ({}, 8.0, 0.0, "degraded", "80% of a CPU core"),
        ({}, 9.5, 0.0, "client-limited", "95% of a CPU core"),
        ({}, 1.0, 2.0, "degraded", "not scheduled 20%"),
    ],
)
def test_the_certificate_so_far(
    values: dict[str, float], cpu_s: float, wait_s: float, verdict: str, reason: str | None
) -> None:
    load = Load()
    load.ok(100, values_ms={"request_latency": 100.0, "inter_token_latency": 2.0, **values})
    fitness = read_two(load, cpu_s, wait_s).fitness
    assert fitness.verdict == verdict
    if reason is None:
        assert fitness.reasons == ()
    else:
        assert reason in fitness.reasons[0]
    assert (fitness.cpu, fitness.wait) == (cpu_s / 10, wait_s / 10)


def test_the_third_line_names_errors_and_verdict() -> None:
    load = Load()
    load.ok(100, values_ms={"request_latency": 100.0, "send_lag": 30.0})
    load.fail(2, 4, 500, "no", 1)
    assert state_words(read_two(load, 1.0, 0.0)) == [
        "2 × HTTP 500",
        "measurement quality so far: client-limited (half of the requests were sent more than 30.0 ms late (median send lag))",
    ]


def test_generators_of_a_shared_load_are_shown_with_what_is_known_of_each() -> None:
    told = [
        GeneratorState(
            name="g0", state="running", rate=12.34, in_flight=5, done=40, failed=2, send_lag_p99_ms=1.26, cpu=0.5
        ),
        GeneratorState(name="g1", state="lost", rate=9.0),
    ]
    view = LiveModel(None).read(snapshot(1).model_copy(update={"generators": tuple(told)}))
    head, first, second = (line.plain.split() for line in generators_page(view, 100))
    assert head[:5] == ["generator", "state", "in", "flight", "done"]
    assert first == ["g0", "running", "5", "40", "2", "12.3", "1.3", "ms", "50%", "0"]
    assert second == ["g1", "lost", "0", "0", "0", "9.0", "–", "0%", "0"]
    page: Any = view_frame(view)["generators"]
    assert (page[0]["done"], page[0]["failed"], page[1]["state"]) == (40, 2, "lost")

"""Claims of `compare` against servers whose difference is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.compare.comparison_runs import run_of
from tests.unit.sweep.queue_model import Server

from aiperf.compare.bootstrap import block_length, estimate_mean, estimate_percentile, t_tail
from aiperf.compare.comparison import compare_groups, compare_runs
from aiperf.compare.difference import CompareOptions, Difference, adjust

SERVER = Server()
SLOWER = replace(SERVER, step_ms=SERVER.step_ms * 1.05, per_request_ms=SERVER.per_request_ms * 1.05)
PAIRS = 20


def verdicts(a: Server, b: Server) -> list[set[str]]:
    """The figures called different, for each pair of runs."""
    out = []
    for seed in range(PAIRS):
        found = compare_runs([run_of(a, seed), run_of(b, 1000 + seed, name="b")])
        (pair,) = found.pairs
        assert pair.relation.kind == "alike"
        assert {d.verdict for d in pair.differences} <= {"better", "worse", "same", "unknown"}
        out.append({f"{d.tag}:{d.stat}" for d in pair.differences if d.is_significant})
    return out


def test_same_server_twice_shows_no_significant_difference() -> None:
    """Requests of a run are alike, which a test for independent values takes for a difference."""
    assert sum(not found for found in verdicts(SERVER, SERVER)) >= 18


def test_server_five_percent_slower_in_itl_is_found() -> None:
    assert sum("inter_token_latency:avg" in found for found in verdicts(SERVER, SLOWER)) >= 18


def test_slow_server_is_a_regression_and_the_other_way_round_an_improvement() -> None:
    a, b = run_of(SERVER, 1), run_of(SLOWER, 2, name="b")
    (there,), (back,) = compare_runs([a, b]).pairs, compare_runs([b, a]).pairs
    worse = {d.tag for d in there.regressions}
    assert worse == {"inter_token_latency"}, "latencies vary with the reply lengths: 5 % is not visible in them"
    assert worse == {d.tag for d in back.improvements}
    itl = next(d for d in there.differences if d.tag == "inter_token_latency" and d.stat == "avg")
    assert itl.low is not None
    assert itl.high is not None
    assert itl.change is not None
    assert itl.low < 0.05 < itl.high
    assert itl.low < itl.change < itl.high


def test_interleaved_blocks_find_five_percent_although_the_server_drifts() -> None:
    """Drift hits both sides of an A/B run alike; between separate runs it looks like a difference."""
    drift = np.linspace(1.0, 1.3, 8)
    slow = [replace(SERVER, step_ms=SERVER.step_ms * f, per_request_ms=SERVER.per_request_ms * f) for f in drift]
    before = [run_of(s, i, count=300) for i, s in enumerate(slow)]
    after = [
        run_of(
            replace(s, step_ms=s.step_ms * 1.05, per_request_ms=s.per_request_ms * 1.05), 50 + i, count=300, name="b"
        )
        for i, s in enumerate(slow)
    ]
    paired = compare_groups(before, after, paired=True)
    itl = next(d for d in paired.differences if d.tag == "inter_token_latency" and d.stat == "avg")
    assert itl.verdict == "worse"
    assert itl.change == pytest.approx(0.05, abs=0.015)
    apart = compare_groups(before, after)
    loose = next(d for d in apart.differences if d.tag == "inter_token_latency" and d.stat == "avg")
    assert loose.verdict == "same"


def test_repeats_count_what_changes_from_run_to_run() -> None:
    """Three runs of a server that differ by 10 % between runs: single pairs mislead, the repeats do not."""
    factors = (1.0, 1.1, 0.9)
    a = [run_of(replace(SERVER, step_ms=8 * f), i) for i, f in enumerate(factors)]
    b = [run_of(replace(SERVER, step_ms=8 * f), 10 + i, name="b") for i, f in enumerate((1.08, 0.95, 1.1))]
    assert not [d for d in compare_groups(a, b).differences if d.is_significant]
    (single,) = compare_runs([a[0], b[0]]).pairs
    assert [d for d in single.differences if d.is_significant]


def test_holm_multiplies_by_the_tests_left() -> None:
    def one(p: float, change: float = 0.5) -> Difference:
        return Difference(
            tag="time_to_first_token", stat="avg", unit="ms", a=1.0, b=1.5, change=change, in_points=False, p_value=p
        )

    found = adjust([one(0.02), one(0.001), one(0.03), replace(one(0), p_value=None)], CompareOptions())
    assert [d.p_adjusted for d in found] == [pytest.approx(0.04), pytest.approx(0.003), pytest.approx(0.04), None]
    assert [d.verdict for d in found] == ["worse", "worse", "worse", "unknown"]


def test_difference_below_the_smallest_effect_does_not_count() -> None:
    (small,) = adjust(
        [
            Difference(
                tag="time_to_first_token",
                stat="avg",
                unit="ms",
                a=100.0,
                b=101.0,
                change=0.01,
                in_points=False,
                p_value=1e-6,
            )
        ],
        CompareOptions(),
    )
    assert small.verdict == "same"


def test_student_tail_agrees_with_the_table() -> None:
    """Two-sided 5 % points: 12.706 (1), 2.776 (4), 2.228 (10), 1.984 (100)."""
    for df, t in ((4, 2.776), (10, 2.228), (100, 1.984)):
        assert t_tail(t, df) == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_interval_of_a_correlated_series_covers_its_mean(phi: float) -> None:
    """AR(1), 1,000 values, 200 series: ±2 standard errors hold the true mean in 88 to 100 %, its 90th percentile too."""
    mean_hits = tail_hits = 0
    true_tail = 1.2816 / np.sqrt(1 - phi**2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=1200)
        values = np.zeros(1200)
        for i in range(1, 1200):
            values[i] = phi * values[i - 1] + noise[i]
        values = values[200:]
        mean, tail = estimate_mean(values, rng), estimate_percentile(values, 90, rng)
        assert mean is not None
        assert tail is not None
        mean_hits += abs(mean.value) <= 2 * mean.se
        tail_hits += abs(tail.value - true_tail) <= 2 * tail.se
    assert 176 <= mean_hits <= 200
    assert 176 <= tail_hits <= 200


def test_blocks_grow_with_correlation() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=2000)
    slow = np.convolve(noise, np.ones(20) / 20, mode="valid")
    assert block_length(noise) <= 20, "2,000 values in at most 100 blocks"
    assert block_length(slow) >= 40

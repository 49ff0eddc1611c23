"""What charts are drawn from: windows, gaps, samples and ranks, against sums made in another way."""

from __future__ import annotations

import gzip
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plots.plot_runs import plot_run, simulate

from aiperf.plots import round_width, rows_of_rank
from aiperf.plots.charts.latency_over_time import window_percentiles
from aiperf.plots.charts.latency_percentiles import tail_rank
from aiperf.plots.charts.pareto import front_mask
from aiperf.plots.render.bundle import load_bundle, make_bundle, shipped_bundle
from aiperf.plots.scatter import binned_median
from aiperf.plots.spec import rounded, thin_curve


def test_the_heat_map_counts_every_gap_once_in_its_cell() -> None:
    run = plot_run(200, fail=0.05)
    _, stamps = simulate(200, fail=0.05)
    gaps = np.concatenate([np.diff(t) for t in stamps])
    later = np.concatenate([t[1:] for t in stamps])
    heat = run.chunks.heat
    assert heat.total == len(gaps)
    edges = heat.gap_edges()
    by_size, _ = np.histogram(gaps, edges)
    assert np.array_equal(heat.counts.sum(axis=0), by_size)
    by_time, _ = np.histogram(later, heat.time_edges)
    assert np.abs(heat.counts.sum(axis=1) - by_time).sum() <= 2  # rounding at an edge


def test_tokens_are_counted_where_they_arrived() -> None:
    """Not where their request started or ended."""
    run = plot_run(200)
    _, stamps = simulate(200)
    arrived, _ = np.histogram(np.concatenate(stamps), run.edges)
    assert run.chunks.tokens.counts == pytest.approx(arrived)


def test_the_sample_holds_the_chunks_of_its_rows_only() -> None:
    run = plot_run(200, fail=0.05)
    _, stamps = simulate(200, fail=0.05)
    for row in run.shown_rows.tolist():
        assert np.array_equal(run.chunks.sample.stamps.get(row, np.zeros(0)), stamps[row])


def test_a_large_run_is_sampled_and_its_worst_requests_are_all_there() -> None:
    run = plot_run(3_000)
    ttft = run.values("time_to_first_token")
    assert len(run.shown_rows) < 1_000 + 3 * 100 + 1
    assert set(np.argsort(ttft)[-100:].tolist()) <= set(run.shown_rows.tolist())
    assert np.array_equal(run.sample(50), run.sample(50))


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan"), float("inf")]), max_size=40),
    st.integers(-45, 45),
    st.integers(-45, 45) | st.none(),
)
def test_rows_of_some_ranks_are_those_of_a_whole_order(values: list[float], begin: int, end: int | None) -> None:
    """The hundred slowest, and neighbours in time, without sorting millions of rows; ties are told apart by row."""
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(np.array(values)[finite], kind="stable")]
    assert np.array_equal(rows_of_rank(np.array(values), slice(begin, end)), order[begin:end])


def test_load_at_start_counts_the_request_itself() -> None:
    run = plot_run(300, 10)
    load = run.load_at_start
    start, end = run.context.start, run.ends
    for i in range(0, 300, 17):
        assert load[i] == ((start <= start[i]) & (end >= start[i])).sum() - ((end == start[i]).sum())
    assert load.max() == 10


def test_mean_in_flight_adds_up_to_the_time_of_all_requests() -> None:
    run = plot_run(300, 10)
    area = (run.mean_in_flight() * np.diff(run.edges)).sum()
    assert area == pytest.approx((run.ends - run.context.start).sum(), rel=1e-9)


def test_windows_cover_the_run_without_a_sliver_at_the_end() -> None:
    run = plot_run(3_000)
    widths = np.diff(run.edges)
    assert run.edges[0] == np.nanmin(run.context.start)
    assert run.edges[-1] == np.nanmax(run.ends)
    assert widths[-1] >= widths[0] / 2
    where = run.window_of(run.context.start)
    assert (where >= 0).all()


def test_window_percentiles_leave_thin_windows_out() -> None:
    run = plot_run(300)
    percentiles = window_percentiles(run, "time_to_first_token", (50,))
    where = run.window_of(run.context.start)
    for window in range(len(percentiles)):
        values = run.values("time_to_first_token")[where == window]
        if len(values) < 5:
            assert np.isnan(percentiles[window, 0])
        else:
            assert percentiles[window, 0] == pytest.approx(np.median(values))


def test_ranks_put_p90_p99_and_p999_at_equal_distances() -> None:
    rank = tail_rank(10_001)
    assert rank[9_000] == pytest.approx(1)
    assert rank[9_900] == pytest.approx(2)
    assert rank[9_990] == pytest.approx(3)
    assert np.all(np.diff(rank) > 0)


@given(st.integers(1, 5_000), st.integers(2, 400))
def test_thinned_curves_keep_both_ends(num: int, most: int) -> None:
    index = thin_curve(num, most)
    assert index[0] == 0
    assert index[-1] == num - 1
    assert len(index) <= max(most, 1)
    assert len(set(index.tolist())) == len(index)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    x, y = (np.array(v, dtype=np.float64) for v in zip(*points, strict=True))
    for i, on in enumerate(front_mask(x, y)):
        beaten = any(a >= x[i] and b >= y[i] and (a, b) != (x[i], y[i]) for a, b in points)
        assert on != beaten


@pytest.mark.parametrize(("seconds", "width"), [(0.012, 0.02), (1.0, 1.0), (1.1, 2.0), (3, 5.0), (7, 10.0), (0, 1.0)])
def test_widths_are_round(seconds: float, width: float) -> None:
    assert round_width(seconds) == pytest.approx(width)


def test_medians_per_bin_follow_a_line() -> None:
    x = np.linspace(1, 1_000, 5_000)
    at, middle = binned_median(x, 3 * x, log=False)
    assert middle == pytest.approx(3 * at)
    assert len(at) == 24


def test_numbers_are_short_and_absent_stays_absent() -> None:
    assert rounded([1.23456789, float("nan"), float("inf"), 0.0]) == [1.2346, None, None, 0.0]


def test_the_bundle_shipped_is_what_the_library_makes() -> None:
    """To the byte with the version that made it; with any other it still is the same libraries."""
    script = gzip.decompress(load_bundle()).decode()
    assert [f"window.{name}=" in script for name in ("vega", "vegaLite", "vegaEmbed")] == [True] * 3
    if shipped_bundle().name == f"vega-{version('vl-convert-python')}.js.gz":
        assert script == make_bundle()

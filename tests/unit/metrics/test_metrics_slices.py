"""True windows: tokens and requests where they happened; trend, cold against warm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.metrics.metric_rows import Goals, Row, columns_of, stream

from aiperf.errors import ConfigError
from aiperf.metrics import slices as module
from aiperf.metrics.goodput import build_tiers
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import Summary, SummaryOptions
from aiperf.metrics.trend import build_cold_warm, build_trend
from aiperf.tags import TAGS

SECOND = 1_000_000_000


def summary(rows: list[Row], seconds: float = 1.0, **more: object) -> Summary:
    return summarise(columns_of(rows), SummaryOptions(slice_ns=round(seconds * SECOND), **more))  # type: ignore[arg-type]


def test_a_request_across_three_slices() -> None:
    """Sent at 0.9 s, tokens at 1.1, 1.9, 2.1, 2.2 s (with a first request at 0 so that slices start there)."""
    sliced = summary([stream(0, 100, 200), stream(900, 1100, 1900, 2100, 2200)])
    assert [c.sent for c in sliced.slices] == [2, 0, 0]
    assert [c.ended for c in sliced.slices] == [1, 0, 1]
    assert [c.tokens for c in sliced.slices] == [2, 2, 2]
    assert [c.stat("output_token_throughput") for c in sliced.slices] == pytest.approx([2, 2, 10])
    assert [c.is_complete for c in sliced.slices] == [True, True, False]
    assert sliced.slices[2].seconds == pytest.approx(0.2)
    # Percentiles of what ended, and separately of what started.
    assert sliced.slices[2].stat("request_latency") == 1300
    assert sliced.slices[0].started["request_latency"].max == 1300
    assert sliced.slices[0].stat("request_latency", "max") == 200


def test_the_grid_starts_at_the_first_request_not_at_zero() -> None:
    s = summary([stream(700, 800, 900), stream(1650, 1680, 1690)])
    assert [c.ended for c in s.slices] == [2]
    assert s.slices[0].begin_ns == 700e6


def test_empty_slices_are_written() -> None:
    s = summary([stream(0, 10, 20), stream(5000, 5010, 5020)])
    assert [c.ended for c in s.slices] == [1, 0, 0, 0, 0, 1]
    assert s.slices[2].stat("request_throughput") == 0
    assert s.slices[2].stat("time_to_first_token") is None
    assert s.slices[2].stat("effective_concurrency") == 0


def test_a_request_that_ends_exactly_on_the_last_edge_is_in_the_last_slice() -> None:
    s = summary([stream(0, 10, 1000), stream(1000, 1500, 2000)])
    assert [c.ended for c in s.slices] == [0, 2] or [c.ended for c in s.slices] == [0, 2, 0]
    assert sum(c.ended for c in s.slices) == 2
    assert s.slices[-1].is_complete


@pytest.mark.parametrize("exact", [True, False])
def test_slices_add_up_to_the_run(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    if not exact:
        monkeypatch.setattr(module, "_EXACT_GAPS", 0)
    rng = np.random.default_rng(5)
    rows: list[Row] = []
    for i in range(200):
        sent = float(rng.uniform(0, 9000))
        kind = 4 if i % 17 == 0 else 9 if i % 23 == 0 else 0
        rows.append(stream(sent, *(sent + np.cumsum(rng.uniform(5, 90, 12))).tolist(), kind=kind))
    sliced = summary(rows, 0.7)
    assert sum(c.ended for c in sliced.slices) == sliced.counts.ok
    assert sum(c.failed for c in sliced.slices) == sliced.counts.failed
    assert sum(c.cancelled for c in sliced.slices) == sliced.counts.cancelled
    assert sum(c.sent for c in sliced.slices) == 200
    assert sum(c.tokens or 0 for c in sliced.slices) == pytest.approx(sliced.stat("total_osl"))
    gaps = [c.metrics["inter_chunk_latency"].stats for c in sliced.slices if "inter_chunk_latency" in c.metrics]
    assert sum(g.count or 0 for g in gaps) == sliced.stat("inter_chunk_latency", "count")
    assert sum(g.sum or 0 for g in gaps) == pytest.approx(
        sliced.stat("inter_chunk_latency", "sum"), rel=1e-9 if exact else 8e-3
    )
    counted = {tag for c in sliced.slices for tag in c.metrics}
    assert {tag for tag in counted if TAGS[tag].slices == "-"} == set(), "counted against the table of tags"
    missing = {t.tag for t in TAGS.values() if t.slices != "-" and t.tag in sliced.metrics} - counted
    assert missing == set(), "not counted, against the table of tags"
    running = sum((c.stat("effective_concurrency") or 0) * c.seconds for c in sliced.slices)
    assert running / sum(c.seconds for c in sliced.slices) == pytest.approx(sliced.stat("effective_concurrency"))


def test_goals_per_slice_and_the_slices_that_miss() -> None:
    rows = [stream(0, 500, 600), stream(1000, 1050, 1100), stream(1200, 1900, 1950), stream(2100, 2150, 2200)]
    sliced = summary(rows, tiers=build_tiers([Goals((("time_to_first_token", 100.0),))]))
    assert [c.tiers[0].good for c in sliced.slices] == [0, 1, 1]
    assert [c.misses for c in sliced.slices] == [True, True, False]
    lenient = summary(rows, tiers=build_tiers([Goals((("time_to_first_token", 100.0),))]), target_share=0.5)
    assert [c.misses for c in lenient.slices] == [True, False, False]
    assert sliced.slices[1].stat("goodput") == 1
    assert sliced.slices[1].stat("good_request_fraction") == 0.5


def test_excluded_slices_do_not_count_for_the_goals() -> None:
    rows = [stream(0, 500, 600), stream(1000, 1050, 1100), stream(2000, 2050, 3000)]
    tiers = build_tiers([Goals((("time_to_first_token", 100.0),))])
    sliced = summary(rows, tiers=tiers, exclude_slices=(0,))
    assert (sliced.tiers[0].good, sliced.tiers[0].attempted) == (2, 2)
    assert sliced.tiers[0].goodput == pytest.approx(2 / 2.0)
    assert sliced.stat("good_request_fraction") == 1
    assert sliced.stat("goodput") == sliced.tiers[0].goodput
    assert sliced.whole["good_request_fraction"].stats.avg == pytest.approx(2 / 3)


def flat_with(ttft_by_slice: list[float], per_slice: int = 40) -> list[Row]:
    """`per_slice` requests in each second, each with the slice's TTFT and ten tokens at 1 ms."""
    rows: list[Row] = []
    for k, ttft in enumerate(ttft_by_slice):
        for i in range(per_slice):
            sent = 1000 * k + 20 * i
            first = sent + ttft * (0.95 + 0.1 * (i % 2))
            rows.append(stream(sent, *(first + j for j in range(10))))
    return rows


def test_the_demos_cold_start() -> None:
    """545 ms cold, 344 to 388 ms warm: range, variation, first against last, warm-up found."""
    ttfts = [545.0, 381.0, 376.0, 388.0, 387.0, 344.0, 374.0]
    sliced = summarise(columns_of(flat_with([t / 10 for t in ttfts])), SummaryOptions(slice_ns=SECOND))
    assert sliced.trend is not None
    line = next(t for t in sliced.trend.lines if t.tag == "time_to_first_token")
    assert [line.lowest, line.highest] == pytest.approx([34.4, 54.5])
    assert line.variation == pytest.approx((54.5 - 34.4) / 34.4)
    assert [line.first, line.last] == pytest.approx([54.5, 37.4])
    assert sliced.trend.warmed_up
    cold = next(c for c in sliced.trend.cold_warm if c.tag == "time_to_first_token")
    assert cold.cold == pytest.approx(54.5)
    assert cold.warm == pytest.approx(np.mean(ttfts[1:]) / 10)
    assert cold.overall == pytest.approx(np.mean(ttfts) / 10)
    assert cold.cold_over_overall == pytest.approx(545 / np.mean(ttfts) - 1)
    assert cold.penalty == pytest.approx(545 / np.mean(ttfts[1:]) - 1)


def test_a_drift_is_a_slope_with_an_interval() -> None:
    rng = np.random.default_rng(2)
    rising = [30 * (1 + 0.03 * k) + float(rng.normal(0, 0.3)) for k in range(20)]
    level = [30 + float(rng.normal(0, 0.3)) for _ in range(20)]
    for values, drifts in ((rising, True), (level, False)):
        s = summarise(columns_of(flat_with(values)), SummaryOptions(slice_ns=SECOND))
        assert s.trend is not None
        line = next(t for t in s.trend.lines if t.tag == "time_to_first_token")
        assert line.drifts is drifts
        assert line.slope_low is not None
        assert line.slope_high is not None
        truth = 0.9 * 60 if drifts else 0.0
        assert line.slope_low <= truth <= line.slope_high


def test_correlation_with_load() -> None:
    rows: list[Row] = []
    for k in range(12):
        load = 20 + 10 * (k % 4)
        rows += [stream(1000 * k + 900 * i / load, 1000 * k + 900 * i / load + load) for i in range(load)]
    s = summarise(columns_of(rows), SummaryOptions(slice_ns=SECOND))
    assert s.trend is not None
    line = next(t for t in s.trend.lines if t.tag == "time_to_first_token")
    assert line.load_correlation is not None
    assert line.load_correlation > 0.95


def test_too_few_and_too_thin_slices_are_said() -> None:
    s = summary([stream(0, 10, 20), stream(1000, 1010, 2020)])
    assert {n.kind for n in s.notices} >= {"thin_slices", "few_slices"}
    assert s.trend is not None
    assert s.trend.too_few
    assert all(t.slope_per_min is None for t in s.trend.lines)


def test_no_slices_no_trend() -> None:
    assert build_trend(()) is None
    assert build_cold_warm((), (0,)) == ()
    assert replace(summary([stream(0, 10, 20)])).slices[0].ended == 1


def test_more_slices_than_can_be_read_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"slices of 0\.000001 s"):
        summary([stream(0, 10, 20), stream(1000, 1010, 1020)], 1e-6)

"""Step functions over cells keep the exact averages; windows are clipped."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.metrics.metric_rows import columns_of, stream

from aiperf.metrics import timeline as module
from aiperf.metrics.compute import measure, open_context, scan_context
from aiperf.metrics.context import MetricContext, MetricOptions


def run() -> MetricContext:
    rng = np.random.default_rng(3)
    rows = []
    for i in range(60):
        sent = 7.0 * i + float(rng.uniform(0, 5))
        rows.append(stream(sent, *(sent + 20 + np.cumsum(rng.uniform(0.5, 6, 30))).tolist(), isl=40))
    return open_context(columns_of(rows), MetricOptions())


def test_cells_keep_the_time_averages(monkeypatch: pytest.MonkeyPatch) -> None:
    context = run()
    exact = measure(context, scan_context(context))
    monkeypatch.setattr(module, "_EXACT_EVENTS", 0)
    context = run()
    sweep = scan_context(context)
    assert sweep is not None
    assert sweep.is_cells
    cells = measure(context, sweep)
    for tag, result in exact.items():
        if result.metric.kind != "weighted":
            continue
        a, b = result.stats, cells[tag].stats
        tolerance = 1e-9 if not tag.endswith("per_user") and not tag.startswith("active") else 2e-3
        assert b.avg == pytest.approx(a.avg, rel=tolerance), tag
        assert b.percentiles[50.0] == pytest.approx(a.percentiles[50.0], rel=0.01), tag


def test_time_average_of_the_decode_rate_is_the_tokens_after_the_first() -> None:
    r = run()
    found = measure(r, scan_context(r))
    seconds = found["benchmark_duration"].stats.avg
    assert seconds is not None
    assert found["effective_decode_throughput"].stats.avg == pytest.approx(60 * 29 / seconds)
    assert found["effective_prefill_throughput"].stats.avg == pytest.approx(60 * 40 / seconds)


def test_a_window_is_clipped_to_its_ends() -> None:
    r = run()
    sweep = scan_context(r)
    assert sweep is not None
    begin, end = float(sweep.edges[0]), float(sweep.edges[-1])
    middle = begin + 0.37 * (end - begin)
    left, right = sweep.window(begin, middle), sweep.window(middle, end)
    for name in ("concurrency", "decode_rate", "tokens"):
        whole = float((getattr(sweep, name) * sweep.widths).sum())
        parts = sum(float((getattr(s, name) * s.widths).sum()) for s in (left, right))
        assert parts == pytest.approx(whole)


def test_levels_return_to_zero() -> None:
    r = run()
    sweep = scan_context(r)
    assert sweep is not None
    for name in ("concurrency", "prefill", "decode", "prefill_rate", "decode_rate", "tokens"):
        assert float(getattr(sweep, name).min()) >= 0

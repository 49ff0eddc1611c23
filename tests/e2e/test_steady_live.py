"""A live server that is slow, then steady, then degrading; and one that is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, summary_of

from aiperf import Run, report, write

pytestmark = pytest.mark.slow
SLICE_S = 1.0


def changing(serve: Callable[..., Sim]) -> tuple[Run, list[dict[str, Any]]]:
    """Slow for 4 s (×2.5), steady for 8 s, then 25 % slower every second."""
    segments = [
        {"from_s": 0, "to_s": 4, "ttft_ms": 100, "itl_ms": 5},
        {"from_s": 12, "ttft_ms": 40, "itl_ms": 2, "ttft_slope_ms_per_s": 20, "itl_slope_ms_per_s": 1.0},
    ]
    sim = serve(ttft_ms=40, itl_ms=2, ttft_jitter=0.3, itl_jitter=0.3, segments=segments)
    run = sim.run(concurrency=12, benchmark_duration=18, osl=20, slice_duration=SLICE_S)
    return run, sim.ledger()


def test_warm_up_and_drift_are_found_within_a_slice_and_the_steady_part_can_lead(serve: Callable[..., Sim]) -> None:
    run, ledger = changing(serve)
    summary = run.summary()
    steady = summary.steady
    assert steady is not None
    assert (steady.has_warmup, steady.has_drift) == (True, True)
    assert (steady.warmup_end_ns - steady.begin_ns) / 1e9 == pytest.approx(4, abs=SLICE_S)
    assert steady.drift_start_ns is not None
    assert (steady.drift_start_ns - steady.begin_ns) / 1e9 == pytest.approx(12, abs=1.5 * SLICE_S)
    assert {"warmup", "drift"} <= {n.kind for n in summary.notices}
    # Both views are in the file.
    both = summary_of(run)
    assert both["steady_state"]["metrics"]["time_to_first_token"]["avg"] < both["time_to_first_token"]["avg"]
    led = write(report(run.dir, {"slo.steady_state": True}))
    begin = min(row["received_ns"] for row in ledger)
    inside = [
        (row["first_ns"] - row["received_ns"]) / 1e6
        for row in ledger
        if row["first_ns"] and begin + 5e9 < row["received_ns"] < begin + 11e9
    ]
    assert led.summary().stat("time_to_first_token") == pytest.approx(np.mean(inside), rel=0.12)
    assert summary_of(led)["steady_state"]["headline"] is True
    assert summary_of(led)["whole_run_metrics"]["time_to_first_token"]["avg"] == both["time_to_first_token"]["avg"]


def test_a_flat_server_is_flat(serve: Callable[..., Sim]) -> None:
    """Fifty seeds are in the unit tests, on a virtual clock; this is one of them live."""
    run = serve(ttft_ms=40, itl_ms=2, ttft_jitter=0.5, itl_jitter=0.3).run(
        concurrency=12, benchmark_duration=8, osl=20, slice_duration=SLICE_S
    )
    summary = run.summary()
    assert summary.steady is not None
    assert summary.steady.reason is None
    assert summary.steady.changes == ()
    assert not {"warmup", "drift"} & {n.kind for n in summary.notices}
    trend = summary.trend
    assert trend is not None
    assert not any(line.drifts for line in trend.lines)

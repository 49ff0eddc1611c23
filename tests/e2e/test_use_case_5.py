"""The demo's use case 5, time slices: its command but for URL, file, tokenizer and the slices' length; recomputed from the ledger."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim
from tests.e2e.test_use_case_4 import write_trace

from aiperf import Run, report
from aiperf.errors import ExitCode

SLICE_S = 1.0
GOAL_MS = 50.0
EDGE_NS = 4_000_000
"""Stamps of client and server may lie on different sides of an edge when they are this close to it."""


@pytest.fixture
def measured(serve: Callable[..., Sim], tmp_path: Path) -> tuple[Run, list[dict[str, Any]]]:
    """Five seconds of schedule; the server is slow in the first second."""
    segments = [{"from_s": 0, "to_s": 1.0, "ttft_ms": 80}]
    sim = serve(ttft_ms=20, ttft_jitter=0.3, itl_ms=2, segments=segments, ledger_chunks=True)
    run = sim.run(
        input_file=write_trace(tmp_path / "cut.jsonl", 500, 10.0),
        custom_dataset_type="mooncake_trace",
        fixed_schedule=True,
        slice_duration=SLICE_S,
        goodput=[f"time_to_first_token:{GOAL_MS:g}"],
        concurrency=None,
        isl=None,
        osl=None,
        request_count=None,
    )
    return run, sim.ledger()


def items(run: Run) -> list[dict[str, Any]]:
    text = (run.dir / "profile_export_aiperf_timeslices.json").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(text)["timeslices"]
    return found


def within(stamps: np.ndarray[Any, Any], begin: int, end: int) -> tuple[int, int]:
    """How many stamps lie in the window, at least and at most."""
    sure = np.count_nonzero((stamps >= begin + EDGE_NS) & (stamps < end - EDGE_NS))
    possible = np.count_nonzero((stamps >= begin - EDGE_NS) & (stamps < end + EDGE_NS))
    return int(sure), int(possible)


@pytest.mark.slow
def test_slices_are_true_windows(measured: tuple[Run, list[dict[str, Any]]]) -> None:
    """Tokens and requests are counted where the server wrote them, not where their request began (lessons 11)."""
    run, ledger = measured
    slices = items(run)
    assert [s["timeslice_index"] for s in slices] == list(range(len(slices)))
    assert len(slices) in (5, 6)
    assert all(s["end_ns"] - s["start_ns"] == SLICE_S * 1e9 for s in slices[:-1])
    assert all(a["end_ns"] == b["start_ns"] for a, b in itertools.pairwise(slices))
    first = min(row["received_ns"] for row in ledger)
    assert abs(slices[0]["start_ns"] - first) < EDGE_NS
    chunks = np.array([at for row in ledger for at, tokens, _ in row["chunks"] for _ in range(tokens)])
    ends = np.array([row["last_ns"] for row in ledger])
    starts = np.array([row["received_ns"] for row in ledger])
    for part in slices:
        seconds = (part["end_ns"] - part["start_ns"]) / 1e9
        low, high = within(chunks, part["start_ns"], part["end_ns"])
        assert low <= part["output_token_throughput"]["avg"] * seconds <= high + 1e-6
        low, high = within(ends, part["start_ns"], part["end_ns"])
        assert low <= part["request_count"]["avg"] <= high
        low, high = within(starts, part["start_ns"], part["end_ns"])
        assert low <= part["requests_started"] <= high
    assert sum(s["request_count"]["avg"] for s in slices) == 500


@pytest.mark.slow
def test_latencies_of_a_slice_are_of_the_requests_that_ended_in_it(measured: tuple[Run, list[dict[str, Any]]]) -> None:
    run, ledger = measured
    ttft = np.array([row["first_ns"] - row["received_ns"] for row in ledger]) / 1e6
    ends = np.array([row["last_ns"] for row in ledger])
    starts = np.array([row["received_ns"] for row in ledger])
    for s in items(run)[:5]:
        ended = ttft[(ends >= s["start_ns"]) & (ends < s["end_ns"])]
        began = ttft[(starts >= s["start_ns"]) & (starts < s["end_ns"])]
        assert s["time_to_first_token"]["avg"] == pytest.approx(ended.mean(), abs=2.0)
        assert s["started_in_slice"]["time_to_first_token"]["avg"] == pytest.approx(began.mean(), abs=2.0)


@pytest.mark.slow
def test_the_slow_slice_is_named_and_can_be_left_out(measured: tuple[Run, list[dict[str, Any]]]) -> None:
    run, ledger = measured
    summary = run.summary()
    trend = summary.trend
    assert trend is not None
    assert trend.warmed_up
    line = next(x for x in trend.lines if x.tag == "time_to_first_token")
    ttft = np.array([row["first_ns"] - row["received_ns"] for row in ledger]) / 1e6
    assert line.highest == pytest.approx(80, rel=0.15)
    assert line.lowest == pytest.approx(20, rel=0.25)
    assert line.variation == pytest.approx((line.highest - line.lowest) / line.lowest)
    assert next(s.index for s in summary.slices if s.misses) == 0
    cold = next(x for x in trend.cold_warm if x.tag == "time_to_first_token")
    assert cold.penalty is not None
    assert cold.penalty > 2
    whole = summary.tiers[0]
    warm = report(run.dir, {"slo.exclude_slices": (0,)}).summary().tiers[0]
    assert whole.fraction is not None
    assert warm.fraction is not None
    assert whole.fraction == pytest.approx(np.mean(ttft <= GOAL_MS), abs=0.02)
    assert whole.fraction < 0.9
    assert warm.fraction > 0.95
    assert run.exit_code == ExitCode.OK


@pytest.mark.slow
def test_the_csv_has_aiperfs_columns_and_the_jsons_figures(measured: tuple[Run, list[dict[str, Any]]]) -> None:
    run, _ = measured
    with (run.dir / "profile_export_aiperf_timeslices.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["Timeslice", "Start_NS", "End_NS", "Metric", "Unit", "Stat", "Value"]
    for part in items(run):
        row = next(
            r
            for r in rows
            if int(r["Timeslice"]) == part["timeslice_index"]
            and (r["Metric"], r["Stat"]) == ("Time to First Token", "avg")
        )
        assert float(row["Value"]) == pytest.approx(part["time_to_first_token"]["avg"], abs=0.006)
        assert int(row["Start_NS"]) == part["start_ns"]

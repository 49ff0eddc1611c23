"""The demo's use case 4, goodput: its command but for URL, file and tokenizer; each figure again from the server's ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, summary_of

from aiperf import Run, report
from aiperf.errors import ExitCode

TTFT_MS, LATENCY_MS = 60.0, 120.0
TIE_MS = 4.0
"""Client and server stamp the same event at most this far apart on a busy machine; requests this close to a goal may fall either way."""


def write_trace(path: Path, count: int, every_ms: float, output: int = 20) -> Path:
    """Lines of the Mooncake format; prompts share their first block now and then."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            line = {
                "timestamp": round(number * every_ms),
                "input_length": 600 + number % 50,
                "output_length": output,
                "hash_ids": [number % 7, 1000 + number],
            }
            file.write(json.dumps(line) + "\n")
    return path


@pytest.fixture
def measured(serve: Callable[..., Sim], tmp_path: Path) -> tuple[Run, list[dict[str, Any]]]:
    """400 requests over 4 s; every third is slow from its first token on, some fail."""
    faults = [{"kind": "status", "status": 500, "every": 40}, {"kind": "slow", "every": 3, "ms": 80}]
    sim = serve(ttft_ms=40, ttft_jitter=0.8, itl_ms=2, faults=faults, ledger_chunks=True)
    run = sim.run(
        input_file=write_trace(tmp_path / "cut.jsonl", 400, 10.0),
        custom_dataset_type="mooncake_trace",
        fixed_schedule=True,
        goodput=[f"time_to_first_token:{TTFT_MS:g} request_latency:{LATENCY_MS:g}"],
        target_rate=1000.0,
        concurrency=None,
        isl=None,
        osl=None,
        request_count=None,
    )
    return run, sim.ledger()


def served(ledger: list[dict[str, Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(TTFT, latency) in ms of the requests the server answered, by its own clock."""
    ok = [row for row in ledger if row["first_ns"] is not None]
    ttft = np.array([row["first_ns"] - row["received_ns"] for row in ok]) / 1e6
    latency = np.array([row["last_ns"] - row["received_ns"] for row in ok]) / 1e6
    return ttft, latency


def bounds(
    ttft: np.ndarray[Any, Any], latency: np.ndarray[Any, Any], ttft_ms: float, latency_ms: float
) -> tuple[int, int]:
    """How many good requests there are at least and at most, ties apart."""
    counts = [int(np.count_nonzero((ttft + d <= ttft_ms) & (latency + d <= latency_ms))) for d in (TIE_MS, -TIE_MS)]
    return counts[0], counts[1]


@pytest.mark.slow
def test_goodput_is_what_the_servers_ledger_says(measured: tuple[Run, list[dict[str, Any]]]) -> None:
    run, ledger = measured
    ttft, latency = served(ledger)
    low, high = bounds(ttft, latency, TTFT_MS, LATENCY_MS)
    summary = summary_of(run)
    good = summary["good_request_count"]["avg"]
    assert low <= good <= high
    assert 0 < good < len(ttft)
    assert run.exit_code == ExitCode.OK
    failed = sum(row["status"] == 500 for row in ledger)
    assert failed == 10
    assert len(ttft) == summary["request_count"]["avg"] == 390
    tier = summary["goodput_tiers"][0]
    # Of the successful (the demo's share), and of all that were attempted (what assertions use).
    assert tier["share_of_successful"] == pytest.approx(good / 390)
    assert summary["good_request_fraction"]["avg"] == pytest.approx(good / 400)
    duration_s = summary["benchmark_duration"]["avg"]
    truth_s = (max(row["last_ns"] for row in ledger if row["last_ns"]) - min(r["received_ns"] for r in ledger)) / 1e9
    assert duration_s == pytest.approx(truth_s, abs=0.02)
    assert summary["goodput"]["avg"] == pytest.approx(good / duration_s)
    missed = {slo["tag"]: slo["passed"] for slo in tier["slos"]}
    assert missed["time_to_first_token"] == pytest.approx(np.count_nonzero(ttft <= TTFT_MS), abs=high - low + 3)
    assert missed["request_latency"] == pytest.approx(np.count_nonzero(latency <= LATENCY_MS), abs=high - low + 3)


@pytest.mark.slow
def test_servers_needed_follow_from_throughput_and_goodput(measured: tuple[Run, list[dict[str, Any]]]) -> None:
    run, _ = measured
    summary = summary_of(run)
    needed = summary["servers"]
    assert needed["by_throughput"] == int(np.ceil(1000 / summary["request_throughput"]["avg"]))
    assert needed["by_goodput"] == int(np.ceil(1000 / summary["goodput"]["avg"]))
    assert needed["ratio"] == pytest.approx(needed["by_goodput"] / needed["by_throughput"])


@pytest.mark.slow
def test_each_line_of_the_jsonl_says_whether_it_was_good(measured: tuple[Run, list[dict[str, Any]]]) -> None:
    run, _ = measured
    lines = [json.loads(x) for x in (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()]
    ok = [x["metrics"] for x in lines if x.get("error") is None]
    said = [m["good_request_count"]["value"] for m in ok]
    again = [
        int(m["time_to_first_token"]["value"] <= TTFT_MS and m["request_latency"]["value"] <= LATENCY_MS) for m in ok
    ]
    assert said == again
    assert sum(said) == summary_of(run)["good_request_count"]["avg"]


@pytest.mark.slow
def test_other_goals_are_answered_from_the_records(measured: tuple[Run, list[dict[str, Any]]]) -> None:
    """No second run: several named tiers, other slices, percentiles and assertions."""
    from aiperf.config.conditions import parse_condition, parse_tier

    run, ledger = measured
    ttft, latency = served(ledger)
    tiers = (parse_tier("strict=time_to_first_token:30"), parse_tier("loose=time_to_first_token:150"))
    again = report(
        run.dir,
        {
            "slo.goodput": tiers,
            "output.slice_duration": 0.5,
            "output.percentiles": (42.0,),
            "slo.asserts": (parse_condition("good_request_fraction >= 99%"),),
        },
    )
    assert again.exit_code == ExitCode.THRESHOLD_MISSED
    assert [t.name for t in again.summary().tiers] == ["strict", "loose"]
    for tier, limit in zip(again.summary().tiers, (30.0, 150.0), strict=True):
        low, high = bounds(ttft, latency, limit, np.inf)
        assert low <= tier.good <= high
    assert again.summary().tiers[0].good < again.summary().tiers[1].good
    assert 8 <= len(again.summary().slices) <= 10
    values = run.columns.scalar("first_content") - run.columns.scalar("sent")
    p42 = again.summary().stat("time_to_first_token", "p42")
    assert p42 == pytest.approx(np.nanpercentile(values, 42) / 1e6, rel=0.05)
    # The first question can be asked again as well.
    first = report(run.dir)
    assert summary_of(first)["good_request_count"] == summary_of(run)["good_request_count"]

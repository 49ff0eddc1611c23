"""`/metrics`: both formats are read by prometheus-client's own parsers, and say what the view says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from tests.unit.live.snapshots import NS_PER_S, Load

from aiperf.config.conditions import parse_condition, parse_tier
from aiperf.config.model import Config
from aiperf.live import aiperf_api
from aiperf.live.board import Board
from aiperf.live.exposition import BUCKETS_S, render
from aiperf.observer import Level, RunFacts, StudyState

Key = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture
def board() -> Board:
    slo = {
        "goodput": (parse_tier('odd "name"\\=time_to_first_token:200'),),
        "asserts": (parse_condition("error_rate < 1%"),),
    }
    board = Board(Config.model_validate({"slo": slo}))
    board.opened(
        RunFacts(
            directory=Path("run"),
            benchmark_id="b1",
            models=("m",),
            urls=("http://x",),
            endpoint="chat",
            is_streaming=True,
            load="4 in flight",
        )
    )
    board.begin()
    warmup = Load(is_measured=False, phase="warmup")
    warmup.ok(7, values_ms={"time_to_first_token": 900.0})
    board.progress(warmup.at(2))
    board.levels([Level(source="gpu", name="nvidia_power_usage", value=300.5, unit="W", place='GPU "0"\n')])
    board.study(StudyState(what="sweep", done=2, total=5))
    load = Load(is_measured=True, phase_index=1, phase_start_ns=2 * NS_PER_S, in_flight=3)
    load.ok(60, good=[60], tokens=10, values_ms={"time_to_first_token": 100.0, "request_latency": 300.0})
    load.ok(40, good=[0], tokens=10, values_ms={"time_to_first_token": 300.0, "request_latency": 700.0})
    load.fail(5, 4, 503, "full", 5)
    board.progress(load.at(12, warmup={"ok": 9}))
    return board


def samples(families: Iterable[object]) -> dict[Key, float]:
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}  # type: ignore[attr-defined]


@pytest.fixture(params=["text", "openmetrics"])
def page(request: pytest.FixtureRequest, board: Board) -> dict[Key, float]:
    text = render(board, openmetrics=request.param == "openmetrics").decode()
    if request.param == "openmetrics":
        assert text.endswith("# EOF\n")
        return samples(read_openmetrics(text))  # type: ignore[no-untyped-call]  # the package says no more
    return samples(read_text(text))


def test_counters(page: dict[Key, float]) -> None:
    def of(sample: str, /, **labels: str) -> float:
        return page[sample, frozenset(labels.items())]

    assert of("aiperf_requests_total", phase="profiling", outcome="successful") == 100
    assert of("aiperf_requests_total", phase="profiling", outcome="failed") == 5
    assert of("aiperf_requests_total", phase="warmup", outcome="successful") == 9
    assert of("aiperf_errors_total", phase="profiling", kind="HTTP 503") == 5
    assert of("aiperf_output_tokens_total", phase="profiling") == 1000
    assert of("aiperf_good_requests_total", phase="profiling", slo='odd "name"\\') == 60
    assert of("aiperf_requests_in_flight") == 3
    assert of("aiperf_assertion_met", assertion="request_error_rate < 1%") == 0
    assert of("aiperf_reported_level", source="gpu", name="nvidia_power_usage", unit="W", place='GPU "0"\n') == 300.5
    assert of("aiperf_study_runs_done") == 2
    assert of("aiperf_measurement_quality", verdict="trustworthy") == 1


def test_histograms_are_cumulative_and_complete(page: dict[Key, float]) -> None:
    name = "aiperf_time_to_first_token_seconds"
    buckets = {
        dict(labels)["le"]: value
        for (sample, labels), value in page.items()
        if sample == f"{name}_bucket" and dict(labels)["phase"] == "profiling"
    }
    assert len(buckets) == len(BUCKETS_S) + 1
    values = sorted((float(le), value) for le, value in buckets.items())
    assert [v for _, v in values] == sorted(v for _, v in values)
    by_edge = dict(values)
    assert (by_edge[0.05], by_edge[0.25], by_edge[0.5], by_edge[float("inf")]) == (0, 60, 100, 100)
    assert page[f"{name}_sum", frozenset({("phase", "profiling")})] == pytest.approx(60 * 0.1 + 40 * 0.3)


def test_before_the_load_there_is_only_the_run() -> None:
    text = render(Board(Config()), openmetrics=True).decode()
    found = read_openmetrics(text)  # type: ignore[no-untyped-call]  # the package says no more
    assert {f.name for f in found} == {"aiperf_run"}


def test_progress_as_aiperf_gives_it(board: Board) -> None:
    progress = aiperf_api.progress(board)
    phases = progress["phases"]
    assert isinstance(phases, dict)
    (warmup,) = [p for p in phases.values() if p["phase_kind"] == "warmup"]
    assert (warmup["requests_sent"], warmup["final_requests_completed"]) == (9, 9)
    (profiling,) = [p for p in phases.values() if p["phase_kind"] == "profiling"]
    assert (profiling["success_records"], profiling["error_records"], profiling["requests_completed"]) == (100, 5, 105)
    assert profiling["requests_progress_percent"] == pytest.approx(10.5)
    assert progress["system_state"] == "profiling"
    assert progress["results_exported"] is False
    metrics = aiperf_api.metrics(board)["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["time_to_first_token"]["avg"] == pytest.approx(180.0)
    assert metrics["request_count"] == {"unit": "requests", "avg": 100.0}


def test_workers_are_aiperfs_groups(board: Board) -> None:
    """One group of this process: keys and words of AIPerf's `WorkerGroupStats`."""
    load = Load(in_flight=3, sent=112, worker_cpu_ns=[6 * NS_PER_S, 11 * NS_PER_S])
    load.ok(104)
    load.fail(5, 4, 503, "full", 5)
    board.progress(load.at(12))
    (group,) = groups(board)
    assert group["group_id"] == "worker_group_0"
    assert (group["status"], group["declared_workers"], group["ready_workers"]) == ("high_load", 1, 1)
    assert group["task_stats"] == {"total": 112, "failed": 5, "completed": 104}
    workers = group["workers"]
    assert [w["status"] for w in workers.values()] == ["healthy", "high_load"]
    assert workers["worker_0"]["health"]["cpu_usage"] == 50.0
    assert group["last_update_ns"] == (board.started_at_ns or 0) + 12 * NS_PER_S


def test_generators_are_groups_of_workers(board: Board) -> None:
    parts = [
        {"name": "generator 1", "state": "running", "sent": 9, "done": 7, "failed": 2, "cpu": 0.2},
        {"name": "generator 2", "state": "lost", "sent": 3, "done": 3},
    ]
    board.progress(Load().at(3, generators=parts))
    assert [(g["group_id"], g["status"], g["ready_workers"]) for g in groups(board)] == [
        ("generator 1", "healthy", 1),
        ("generator 2", "stale", 0),
    ]
    assert groups(board)[0]["task_stats"] == {"total": 9, "failed": 2, "completed": 5}


def test_before_the_load_workers_are_idle() -> None:
    (group,) = groups(Board(Config()))
    assert (group["status"], group["declared_workers"]) == ("idle", 0)
    assert "last_update_ns" not in group


@pytest.mark.parametrize(
    ("summary", "status"), [({"was_cancelled": False}, "complete"), ({"was_cancelled": True}, "cancelled")]
)
def test_results_say_whether_the_run_was_cancelled(board: Board, tmp_path: Path, summary: object, status: str) -> None:
    assert aiperf_api.results(board) == {"status": "running", "results": None}
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps(summary), encoding="utf-8")
    board.written(tmp_path)
    assert aiperf_api.results(board) == {"status": status, "results": summary}


def groups(board: Board) -> list[dict[str, Any]]:
    found: Any = aiperf_api.workers(board)["worker_groups"]
    assert all(name == group["group_id"] for name, group in found.items())
    return list(found.values())

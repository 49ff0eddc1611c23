"""The scenario's documented command, shortened by its own rule: what makes a result valid, and each reason why it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.runs import Sim, simulate, summary_of
from tests.unit.traces.weka_sessions import FORK, SUBAGENTS, SYSTEM, request, session, write_sessions

from aiperf.config import scenario as rules
from aiperf.datasets import hub
from aiperf.reports import agentic
from aiperf.run.report import report
from aiperf.run.run import Run
from aiperf.run.write import write

pytestmark = pytest.mark.slow

QUICK = session("quick", [request(0.2 * k, 640 + 64 * k, 8, range(1, 11 + k), 0.05) for k in range(4)])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least duration of a submission, one second: all other rules hold."""
    monkeypatch.setattr(rules, "MIN_DURATION_S", 1)
    monkeypatch.setattr(agentic, "MIN_DURATION_S", 1)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The public data set, in the local cache."""
    path = write_sessions(tmp_path / "traces.jsonl", [SYSTEM, SUBAGENTS, FORK, QUICK])
    monkeypatch.setattr(hub, "download", lambda *_, **__: path)
    return path


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with simulate(tmp_path, ttft_ms=5, itl_ms=1) as server:
        yield server


def submit(sim: Sim, **flags: object) -> Run:
    """As InferenceX calls it, but for the duration and the number of lanes."""
    asked: dict[str, object] = {
        "scenario": "inferencex-agentx-mvp",
        "public_dataset": "semianalysis_cc_traces_weka_062126",
        "concurrency": 2,
        "benchmark_duration": 1,
        "trajectory_start_min_ratio": 0.25,
        "trajectory_start_max_ratio": 0.75,
        "warmup_requests_per_lane": 1,
        "trace_idle_gap_cap_seconds": 0.01,
        "burst_phase_starts": True,
        "failed_request_threshold": 0.1,
        "random_seed": 42,
        "use_server_token_count": True,
        "isl": None,
        "osl": None,
        "request_count": None,
        **flags,
    }
    return sim.run(**asked)


def metadata_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = summary_of(run)["metadata"]
    return found


@pytest.mark.usefixtures("short", "corpus")
def test_a_run_by_the_rules_is_valid_and_has_the_keys_that_are_read(sim: Sim) -> None:
    run = submit(sim)
    metadata = metadata_of(run)
    assert (metadata["scenario"], metadata["submission_valid"]) == ("inferencex-agentx-mvp", True)
    assert "submission_invalid_reasons" not in metadata
    assert metadata["dataset"]["hf_dataset_name"] == "semianalysisai/cc-traces-weka-062126"
    (covered,) = (
        [metadata["metric_duration_coverage"]]
        if isinstance(metadata["metric_duration_coverage"], dict)
        else metadata["metric_duration_coverage"]
    )
    assert max(covered["ttft_ratio"], covered["inter_token_latency_ratio"]) >= covered["required_ratio"] == 0.95
    summary = summary_of(run)
    assert summary["runtime_submission_invalid_reasons"] == []
    assert {"e2e_normalized_interactivity_p75", "theoretical_prefix_cache_hit", "branch_stats"} <= set(summary)
    assert run.exit_code == 0
    bodies = {row["max_tokens"] for row in sim.ledger()}
    assert 1 in bodies, "primers and warm-up"


@pytest.mark.usefixtures("corpus")
def test_an_override_of_the_duration_is_a_reason(sim: Sim) -> None:
    run = submit(sim, unsafe_override=True)
    assert metadata_of(run)["submission_invalid_reasons"] == ["unsafe_override"]
    assert "metric_duration_coverage" not in metadata_of(run), "shorter than a submission"


@pytest.mark.usefixtures("short", "corpus")
def test_an_override_without_a_conflict_is_none(sim: Sim) -> None:
    assert metadata_of(submit(sim, unsafe_override=True))["submission_valid"] is True


@pytest.mark.usefixtures("short", "corpus")
def test_too_many_overflows_are_a_reason(tmp_path: Path) -> None:
    with simulate(tmp_path, context_limit=10_000) as small:
        run = submit(small)
    assert metadata_of(run)["submission_invalid_reasons"] == ["context_overflow_rate_exceeded"]
    assert summary_of(run)["context_overflow_count"]["avg"] > 0


@pytest.mark.usefixtures("short", "corpus")
def test_a_run_that_is_given_up_is_a_reason(tmp_path: Path) -> None:
    fault = {"kind": "status", "status": 500, "requests": [*range(9, 500)]}
    with simulate(tmp_path, ttft_ms=5, faults=[fault]) as broken:
        run = submit(broken)
    assert "run_cancelled" in metadata_of(run)["submission_invalid_reasons"]
    assert run.exit_code != 0


@pytest.mark.usefixtures("short", "corpus")
def test_a_warm_up_that_fails_is_a_reason(tmp_path: Path) -> None:
    """Nothing was measured; a result without a reason would look like a valid one."""
    fault = {"kind": "status", "status": 500}
    with simulate(tmp_path, faults=[fault]) as broken:
        run = submit(broken)
    assert metadata_of(run)["submission_invalid_reasons"] == ["run_cancelled"]
    assert run.exit_code != 0


@pytest.mark.usefixtures("short", "corpus")
def test_a_server_that_stalls_before_the_end_is_a_reason_and_an_exit_code(tmp_path: Path) -> None:
    fault = {"kind": "slow", "ms": 60_000, "requests": [*range(12, 500)]}
    with simulate(tmp_path, ttft_ms=5, itl_ms=1, faults=[fault]) as stalled:
        run = submit(stalled, benchmark_grace_period=0.2, failed_request_threshold=1)
    found = metadata_of(run)
    assert found["submission_invalid_reasons"] == ["insufficient_profile_metric_coverage"]
    assert summary_of(run)["runtime_submission_invalid_reasons"] == ["insufficient_profile_metric_coverage"]
    assert run.exit_code == 1


@pytest.mark.usefixtures("short", "corpus")
def test_a_run_that_was_killed_cannot_show_that_it_was_covered(sim: Sim) -> None:
    """Its records are whole and its report can be made, but when its phases began is not known: valid must not be the default."""
    folder = submit(sim).dir
    file = folder / "run.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(told | {"outcome": None}), encoding="utf-8")
    run = report(folder)
    write(run)
    found = metadata_of(run)
    assert found["submission_valid"] is False
    assert found["submission_invalid_reasons"] == ["profile_metric_coverage_validation_failed"]
    assert "metric_duration_coverage" not in found
    assert summary_of(run)["runtime_submission_invalid_reasons"] == ["profile_metric_coverage_validation_failed"]
    assert run.exit_code == 1

"""Repeats of a scenario: when all of them together are a valid submission."""

from __future__ import annotations

import json
from pathlib import Path

from aiperf.sweeps.submission import submission_metadata


def run(folder: Path, requests: int, overflows: int = 0, reasons: tuple[str, ...] = (), scenario: str = "s") -> Path:
    folder.mkdir(parents=True)
    metadata = {"scenario": scenario, "submission_valid": not reasons, "submission_invalid_reasons": list(reasons)}
    found: dict[str, object] = {"metadata": metadata if scenario else {}, "request_count": {"avg": requests}}
    if overflows:
        found["skipped_context_overflow_count"] = {"avg": overflows}
    (folder / "profile_export_aiperf.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def test_repeats_are_valid_if_each_is(tmp_path: Path) -> None:
    runs = [run(tmp_path / "1", 100), run(tmp_path / "2", 90)]
    assert submission_metadata(runs, scenario="s", failed=0, is_sweep=False) == {
        "scenario": "s",
        "submission_valid": True,
    }
    failed = submission_metadata(runs, scenario="s", failed=1, is_sweep=True)
    assert failed["submission_valid"] is False
    assert failed["submission_invalid_reasons"] == ["run_cancelled", "scenario_with_sweep"]


def test_overflows_are_a_share_of_all_requests_and_other_reasons_are_kept(tmp_path: Path) -> None:
    rate = "context_overflow_rate_exceeded"
    few = [run(tmp_path / "1", 90, 10, (rate,)), run(tmp_path / "2", 5_000)]
    assert submission_metadata(few, scenario="s", failed=0, is_sweep=False)["submission_valid"] is True
    many = [
        run(tmp_path / "3", 96, 4, (rate, "unsafe_override")),
        run(tmp_path / "4", 100, reasons=("unsafe_override",)),
    ]
    found = submission_metadata(many, scenario="s", failed=0, is_sweep=False)
    assert found["submission_invalid_reasons"] == ["unsafe_override", rate]


def test_a_run_whose_rules_nobody_can_look_up_makes_all_of_them_no_submission(tmp_path: Path) -> None:
    """Its summary is not there, is broken, or says nothing of the scenario: valid must not be the default."""
    good = run(tmp_path / "1", 100)
    broken = run(tmp_path / "2", 100)
    (broken / "profile_export_aiperf.json").write_text("[]", encoding="utf-8")
    for other in (tmp_path / "none", broken, run(tmp_path / "3", 100, scenario="")):
        found = submission_metadata([good, other], scenario="s", failed=0, is_sweep=False)
        assert found == {
            "scenario": "s",
            "submission_valid": False,
            "submission_invalid_reasons": ["scenario_reresolve_failed"],
        }


def test_summaries_are_found_under_their_own_name(tmp_path: Path) -> None:
    good = run(tmp_path / "1", 100)
    (good / "profile_export_aiperf.json").rename(good / "mine.json")
    for prefix, is_valid in (("mine", True), (None, False)):
        found = submission_metadata([good], scenario="s", failed=0, is_sweep=False, prefix=prefix)
        assert found["submission_valid"] is is_valid


def test_runs_without_a_scenario_have_no_such_keys(tmp_path: Path) -> None:
    runs = [run(tmp_path / "1", 5, scenario=""), tmp_path / "none"]
    assert submission_metadata(runs, scenario=None, failed=0, is_sweep=True) == {}

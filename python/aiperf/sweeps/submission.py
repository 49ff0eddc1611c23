"""Repeats of a scenario: whether all of them together are a valid submission (AIPerf's keys of its aggregate)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiperf.config.context_overflow import overflow_limit
from aiperf.reports.paths import Files

__all__ = ["submission_metadata"]

_OVERFLOWS = "context_overflow_rate_exceeded"
_UNKNOWN = "scenario_reresolve_failed"


def submission_metadata(
    runs: Sequence[Path], *, scenario: str | None, failed: int, is_sweep: bool, prefix: str | None = None
) -> dict[str, object]:
    """Empty without a scenario. A reason of one run is one of all; the share of context overflows is that of all runs' requests.

    `runs`: their folders; one whose summary cannot be read, or is of another scenario, is a reason: nobody knows whether it kept the
    rules. `failed`: runs that measured nothing. `is_sweep`: the runs are of one point of several, which a submission has not.
    `prefix`: `--profile-export-prefix`.
    """
    if scenario is None:
        return {}
    summaries = [_summary(Files(run, prefix).summary) for run in runs]
    metadata = [s.get("metadata", {}) for s in summaries]
    reasons = [_UNKNOWN] if any(m.get("scenario") != scenario for m in metadata) else []
    reasons = list(dict.fromkeys([*reasons, *(r for m in metadata for r in m.get("submission_invalid_reasons", ()))]))
    skipped = sum(_count(s, "skipped_context_overflow_count") for s in summaries)
    sent = sum(_count(s, "request_count") + _count(s, "error_request_count") for s in summaries)
    reasons = [r for r in reasons if r != _OVERFLOWS]
    if skipped and skipped / (sent + skipped) > overflow_limit():
        reasons.append(_OVERFLOWS)
    if failed and "run_cancelled" not in reasons:
        reasons.append("run_cancelled")
    if is_sweep:
        reasons.append("scenario_with_sweep")
    out: dict[str, object] = {"scenario": scenario, "submission_valid": not reasons}
    return {**out, "submission_invalid_reasons": reasons} if reasons else out


def _summary(file: Path) -> dict[str, Any]:
    """`profile_export_aiperf.json` of a run; empty if it is not there or broken: then nothing is known of a scenario."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _count(summary: Mapping[str, Any], tag: str) -> float:
    return float(summary.get(tag, {}).get("avg", 0))

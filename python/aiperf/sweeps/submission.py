"""Repeats of a scenario: whether all of them together are a valid submission (AIPerf's keys of its aggregate)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiperf.config.scenario import overflow_limit

__all__ = ["submission_metadata"]

_OVERFLOWS = "context_overflow_rate_exceeded"


def submission_metadata(runs: Sequence[Path], *, failed: int, is_sweep: bool) -> dict[str, object]:
    """Empty without a scenario. A reason of one run is one of all; the share of context overflows is that of all runs' requests.

    `runs`: their folders. `failed`: runs that measured nothing. `is_sweep`: the runs are of one point of several, which a submission has not.
    """
    summaries = [_summary(run) for run in runs]
    names = [str(s["metadata"]["scenario"]) for s in summaries if "scenario" in s.get("metadata", {})]
    if not names:
        return {}
    reasons = list(
        dict.fromkeys(r for s in summaries for r in s.get("metadata", {}).get("submission_invalid_reasons", ()))
    )
    skipped = sum(_count(s, "skipped_context_overflow_count") for s in summaries)
    sent = sum(_count(s, "request_count") + _count(s, "error_request_count") for s in summaries)
    reasons = [r for r in reasons if r != _OVERFLOWS]
    if skipped and skipped / (sent + skipped) > overflow_limit():
        reasons.append(_OVERFLOWS)
    if failed and "run_cancelled" not in reasons:
        reasons.append("run_cancelled")
    if is_sweep:
        reasons.append("scenario_with_sweep")
    out: dict[str, object] = {"scenario": names[0], "submission_valid": not reasons}
    return {**out, "submission_invalid_reasons": reasons} if reasons else out


def _summary(run: Path) -> dict[str, Any]:
    """`profile_export_aiperf.json` of a run; empty if it is not there: then nothing is known of a scenario."""
    try:
        found: dict[str, Any] = json.loads((run / "profile_export_aiperf.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _count(summary: Mapping[str, Any], tag: str) -> float:
    return float(summary.get(tag, {}).get("avg", 0))

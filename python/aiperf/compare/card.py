"""A workload in a few figures, to be read side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiperf.run.data import RunData, figure

__all__ = ["LengthSummary", "WorkloadCard", "build_card"]


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """Tokens per request: mean, median, 95th percentile; None where unknown."""

    mean: float | None
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadCard:
    """A workload in a few figures, to be read side by side.

    `rate`: requests started per second; `gap_cv`: coefficient of variation of the gaps between starts (0: even, 1: Poisson).
    `reuse`: share of prompt tokens the server said were cached, 0 to 1. `success`: successful / (successful + failed).
    """

    name: str
    tool: str
    model: str | None
    load: str
    requests: int
    failed: int
    cancelled: int
    success: float | None
    duration_s: float | None
    isl: LengthSummary
    osl: LengthSummary
    rate: float | None
    gap_cv: float | None
    reuse: float | None
    num_gpus: int | None
    fingerprint: str | None
    verdict: str | None


def _lengths(run: RunData, tag: str) -> LengthSummary:
    return LengthSummary(figure(run, tag), figure(run, tag, "p50"), figure(run, tag, "p95"))


def build_card(run: RunData) -> WorkloadCard:
    starts = np.sort(run.start_s[np.isfinite(run.start_s)])
    gaps = np.diff(starts)
    rate = gap_cv = None
    if len(gaps) > 1 and gaps.sum() > 0 and len(starts) > (run.num_ok + run.num_failed) / 2:
        rate = float(len(gaps) / gaps.sum())
        gap_cv = float(gaps.std() / gaps.mean())
    attempted = run.num_ok + run.num_failed
    reuse = figure(run, "overall_usage_prompt_cache_read_pct")
    return WorkloadCard(
        name=run.name,
        tool=run.tool,
        model=run.model,
        load=run.load,
        requests=run.num_ok,
        failed=run.num_failed,
        cancelled=run.num_cancelled,
        success=run.num_ok / attempted if attempted else None,
        duration_s=run.duration_s,
        isl=_lengths(run, "input_sequence_length"),
        osl=_lengths(run, "output_sequence_length"),
        rate=rate,
        gap_cv=gap_cv,
        reuse=None if reuse is None else reuse / 100,
        num_gpus=run.num_gpus,
        fingerprint=run.fingerprint,
        verdict=run.verdict,
    )

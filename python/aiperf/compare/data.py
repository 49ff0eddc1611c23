"""What a run is for a comparison, whoever made it: values per request, figures as its file gives them, and its workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from aiperf.metrics import Bools, Floats

__all__ = ["LATENCIES", "Card", "Definition", "Lengths", "RunData", "build_card", "figure"]

LATENCIES: Final = (
    "time_to_first_token",
    "inter_token_latency",
    "request_latency",
    "output_token_throughput_per_user",
)
"""Metrics with a value per request that readers fill in, in the shown unit (ms, tokens/sec/user)."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A figure that the other tool defines in another way than we do. `effect`: which way its numbers are off, if known."""

    tag: str
    text: str
    effect: str = ""


@dataclass(frozen=True)
class RunData:
    """One run. `series`: tag → (requests,) values in the shown unit, NaN where absent, requests in the order they started.

    `start_s`, `end_s`: (requests,) seconds since the first start; empty if the file holds no single requests. `ok`: (requests,)
    successful ones; deliberate cancellations are no rows, only counted. `figures`: tag → statistic → value, as the file gives
    them. `options`: what determines the workload, by our option's path where there is one; what the file does not say is
    missing. `fingerprint`: equal for equal requests, None if it cannot be known. `load`: in words. `verdict`: the run's own
    certificate, or what can be inferred from the file; `reasons`: why it is not trustworthy. `differs`: foreign definitions.
    """

    path: Path
    tool: str
    series: Mapping[str, Floats]
    start_s: Floats
    end_s: Floats
    ok: Bools
    num_ok: int
    num_failed: int
    num_cancelled: int
    figures: Mapping[str, Mapping[str, float]]
    units: Mapping[str, str]
    options: Mapping[str, object]
    duration_s: float | None = None
    fingerprint: str | None = None
    model: str | None = None
    load: str = "unknown"
    num_gpus: int | None = None
    gpu_cost_per_hour: float | None = None
    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    differs: tuple[Definition, ...] = ()
    slo_limits: Mapping[str, float] = field(default_factory=dict)
    label: str | None = None

    @property
    def name(self) -> str:
        return self.label or self.path.name or str(self.path)

    @property
    def is_ours(self) -> bool:
        return self.tool.startswith("aiperf ")

    @property
    def has_requests(self) -> bool:
        return len(self.start_s) > 0


def figure(run: RunData, tag: str, stat: str = "avg") -> float | None:
    """A figure as the run's file gives it; from its requests if the file does not."""
    found = run.figures.get(tag, {}).get(stat)
    if found is not None:
        return found
    values = run.series.get(tag)
    if values is None:
        return None
    kept = values[np.isfinite(values)]
    if not len(kept):
        return None
    if stat == "avg":
        return float(kept.mean())
    if stat.startswith("p") and stat[1:2].isdigit():
        return float(np.percentile(kept, float(stat[1:])))
    return {"min": float(kept.min()), "max": float(kept.max()), "std": float(kept.std())}.get(stat)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens per request: mean, median, 95th percentile; None where unknown."""

    mean: float | None
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Card:
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
    isl: Lengths
    osl: Lengths
    rate: float | None
    gap_cv: float | None
    reuse: float | None
    num_gpus: int | None
    fingerprint: str | None
    verdict: str | None


def _lengths(run: RunData, tag: str) -> Lengths:
    return Lengths(figure(run, tag), figure(run, tag, "p50"), figure(run, tag, "p95"))


def build_card(run: RunData) -> Card:
    starts = np.sort(run.start_s[np.isfinite(run.start_s)])
    gaps = np.diff(starts)
    rate = gap_cv = None
    if len(gaps) > 1 and gaps.sum() > 0 and len(starts) > (run.num_ok + run.num_failed) / 2:
        rate = float(len(gaps) / gaps.sum())
        gap_cv = float(gaps.std() / gaps.mean())
    attempted = run.num_ok + run.num_failed
    reuse = figure(run, "overall_usage_prompt_cache_read_pct")
    return Card(
        run.name, run.tool, run.model, run.load, run.num_ok, run.num_failed, run.num_cancelled,
        run.num_ok / attempted if attempted else None, run.duration_s,
        _lengths(run, "input_sequence_length"), _lengths(run, "output_sequence_length"), rate, gap_cv,
        None if reuse is None else reuse / 100, run.num_gpus, run.fingerprint, run.verdict,
    )  # fmt: skip

"""A value of a search asked of a live server: how many requests that takes, the run, and the sample its records make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from aiperf.compare import RunData
from aiperf.config.conditions import Condition
from aiperf.metrics import load_all
from aiperf.observer import Observer
from aiperf.sweep.judge import Sample, combine, drop_first_wave, is_saturated, judge, suggest
from aiperf.sweep.runner import Runner
from aiperf.sweep.search import ProbeOutcome
from aiperf.sweep.space import seed_of_run

__all__ = ["LiveProbe", "first_wave", "requests_for", "sample_of"]

_LEAST: Final = 140
_SHARE: Final = 0.7
"""Closed loop: measured requests per request in flight, in the first run of a value; the first wave comes on top."""
_OPEN: Final = 300
_LATENCIES: Final = 15.0
"""Open loop: a queue needs time to show that it grows: so many request latencies at least."""


def requests_for(value: float, calls: int, *, is_open: bool, latency_s: float = 0.0, least: int | None = None) -> int:
    """Requests of the `calls`-th run (from 0) at a value; what is measured doubles with each.

    `latency_s`: mean request latency at a lower value, 0 if unknown. `least`: the user's --request-count.
    """
    more = 1 << calls
    if is_open:
        return max(_OPEN, round(_LATENCIES * latency_s * value), least or 0) * more
    measured = max(_LEAST, round(_SHARE * value)) * more
    return max(round(value) + measured, (least or 0) * more)


def first_wave(value: float, *, is_open: bool, latency_s: float = 0.0) -> int:
    """Requests at the beginning of a run that are left out: those that fill the server."""
    return round(2 * latency_s * value) if is_open else round(value)


def sample_of(run: RunData, *, is_open: bool) -> Sample:
    """All requests of a run; `good` by the run's own objectives."""
    good = None
    if run.slo_limits and all(tag in run.series for tag in run.slo_limits):
        metrics, good = load_all(), run.ok.copy()
        for tag, limit in run.slo_limits.items():
            with np.errstate(invalid="ignore"):
                good &= run.series[tag] >= limit if metrics[tag].larger_is_better else run.series[tag] <= limit
    return Sample(run.series, run.start_s, run.end_s, run.ok, good, is_open)


class LiveProbe:
    """Each call is a run of its own, `search_iter_NNNN/profile_runs/run_NNNN` (AIPerf's names); the runs of a value are pooled.

    `path`: the option searched. `maximised`: the objective is goodput. `least`: the user's --request-count. Closed loops start their
    requests over one request latency, known from a lower value, so that no first wave of prefills is measured.
    """

    def __init__(
        self,
        runner: Runner,
        path: str,
        conditions: Sequence[Condition],
        *,
        fixed: Mapping[str, float],
        folder: str = "",
        maximised: bool = False,
        observer: Observer,
    ) -> None:
        self._runner = runner
        self._path = path
        self._conditions = conditions
        self._fixed = fixed
        self._folder = folder
        self._maximised = maximised
        self._observer = observer
        self._samples: dict[float, list[Sample]] = defaultdict(list)
        self._latency_s: dict[float, float] = {}
        self.runs: dict[float, list[RunData]] = defaultdict(list)
        self._numbers: dict[float, int] = {}

    @property
    def is_open(self) -> bool:
        return self._path != "load.concurrency"

    def __call__(self, value: float, calls: int) -> ProbeOutcome:
        number = self._numbers.setdefault(value, len(self._numbers) + 1)
        config = self._runner.config
        latency_s = self._latency(value)
        least = config.load.request_count if config.is_set("load.request_count") else None
        count = requests_for(value, calls, is_open=self.is_open, latency_s=latency_s, least=least)
        directory = f"{self._folder}search_iter_{number:04d}/profile_runs/run_{calls + 1:04d}"
        values = {**self._fixed, self._path: value}
        extra: dict[str, object] = {"load.request_count": count, "output.report": False}
        if not self.is_open and latency_s > 0:
            extra["load.concurrency_ramp_duration"] = latency_s
        seed = seed_of_run(
            self._runner.record.seed, directory, 0, same_point=config.sweep.parameter_sweep_same_seed, same_trial=True
        )
        run = self._runner.run(
            directory, values, trial=calls, seed=seed, extra=extra, cooldown_s=config.sweep.parameter_sweep_cooldown_seconds,
            label=f"probe {number}: {value:g}" + (f", prolonged ({calls + 1})" if calls else "") + f", {count:,} requests",
        )  # fmt: skip
        if run is None:
            outcome = ProbeOutcome("fail", count, is_hopeless=True, reason="no request succeeded")
        else:
            self.runs[value].append(run)
            outcome = self._judge(value, run, latency_s, count)
        self._observer.note(f"  {outcome.verdict}" + (f": {outcome.reason}" if outcome.reason else _words(outcome)))
        return outcome

    def _latency(self, value: float) -> float:
        """Mean request latency at the nearest lower value, 0 if there is none."""
        below = [v for v in self._latency_s if v <= value]
        return self._latency_s[max(below)] if below else 0.0

    def _judge(self, value: float, run: RunData, latency_s: float, requests: int) -> ProbeOutcome:
        latencies = run.series["request_latency"]
        if np.isfinite(latencies).any():
            self._latency_s[value] = float(np.nanmean(latencies)) / 1e3
        whole = sample_of(run, is_open=self.is_open)
        self._samples[value].append(
            drop_first_wave(whole, first_wave(value, is_open=self.is_open, latency_s=latency_s))
        )
        pooled = self._samples[value]
        saturated = any(is_saturated(s) for s in pooled)
        if self._maximised:
            return self._objective(pooled, requests, saturated=saturated)
        if saturated:
            return combine([], requests, saturated=True)
        judged = [judge(pooled, c) for c in self._conditions]
        guess = None
        if not self.is_open:
            # The condition closest to its limit says where that is.
            known = [j for j in judged if j.margin is not None]
            nearest = min(known, key=lambda j: j.margin or 0.0, default=None)
            guess = None if nearest is None else suggest(pooled, nearest, value)
        return combine(judged, requests, suggestion=guess)

    def _objective(self, pooled: Sequence[Sample], requests: int, *, saturated: bool) -> ProbeOutcome:
        found = judge(pooled, Condition(tag="goodput", op=">=", value=1.0))
        error = 0.0
        if found.value is not None and found.low is not None and found.high is not None:
            error = found.value * (found.high - found.low) / 4  # margins are logarithms
        figures = () if found.value is None else (("goodput", found.value),)
        return ProbeOutcome(
            "pass", requests, is_hopeless=saturated, objective=found.value, objective_se=error, figures=figures,
            reason="over-saturated" if saturated else "",
        )  # fmt: skip


def _words(outcome: ProbeOutcome) -> str:
    return "".join(f", {name} {value:,.4g}" for name, value in outcome.figures)

"""A value of a search asked of a live server: how many requests that takes, the run, and the sample its records make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from aiperf.config.conditions import Condition
from aiperf.number_text import exact, significant
from aiperf.observer import Observer
from aiperf.run.data import RunData
from aiperf.sweeps.crossing import locate_first
from aiperf.sweeps.judge import Sample, combine, drop_first, is_saturated, judge
from aiperf.sweeps.runner import Runner
from aiperf.sweeps.search import Crossing, Effort, ProbeOutcome
from aiperf.sweeps.space import seed_of_run

__all__ = [
    "LiveProbe",
    "Samples",
    "expected_latency",
    "first_ones",
    "full_latency",
    "judge_all",
    "measured",
    "requests_for",
    "sample_of",
]

_ROUGH: Final = 80
_ROUGH_SHARE: Final = 0.15
"""Closed loop: measured requests of a rough run, at least and per request in flight; what starts the run comes on top."""
_SETTLED: Final = 240
_SETTLED_SHARE: Final = 0.4
_WAVES: Final = 2.5
"""Requests per place that start a settled run: the first meets an empty server, the second still queues as the first has left it."""
_OPEN: Final = 300
_LATENCIES: Final = 15.0
"""Open loop: a queue needs time to show that it grows: so many request latencies at least."""


def requests_for(
    value: float, effort: Effort, *, is_open: bool, latency_s: float = 0.0, least: int | None = None
) -> int:
    """Requests of a run at a value; what is measured doubles with each step of effort from 1 on (open loop: from 0 on).

    `latency_s`: request latency expected there, 0 if unknown. `least`: the user's --request-count.
    """
    if is_open:
        return max(_OPEN, round(_LATENCIES * latency_s * value), least or 0) << effort
    if effort == 0:
        return max(round(value) + max(_ROUGH, round(_ROUGH_SHARE * value)), least or 0)
    more = 1 << (effort - 1)
    measured = max(_SETTLED, round(_SETTLED_SHARE * value)) * more
    return max(round(_WAVES * value) + measured, (least or 0) * more)


def first_ones(value: float, effort: Effort, *, is_open: bool, latency_s: float = 0.0) -> int:
    """Requests at the beginning of a run that are left out: those that fill the server."""
    if is_open:
        return round(2 * latency_s * value)
    return round((_WAVES if effort else 1) * value)


def expected_latency(known: Mapping[float, float], value: float) -> float:
    """The mean latency at `value`: on straight lines between the values it is known at, beyond them as at the nearest; 0 if nothing is
    known. A ramp that is too short makes a crowd at the start; one that is too long never fills the server.
    """
    if not known:
        return 0.0
    values = np.array(sorted(known))
    return float(np.interp(value, values, [known[v] for v in values]))


def full_latency(sample: Sample, value: float) -> float | None:
    """Mean latency, s, of a closed loop's requests that ran while `value` were in flight: neither those that filled the server nor those
    that were left as it ran empty.
    """
    latencies, n, wave = sample.values["request_latency"], len(sample.start_s), round(value)
    kept = latencies[wave // 2 : max(wave, n - wave)]
    kept = kept[np.isfinite(kept)]
    return float(kept.mean()) / 1e3 if len(kept) else None


def measured(whole: Sample, value: float, effort: Effort, latency_s: float) -> Sample:
    """What counts of a run: `latency_s` as for `requests_for`."""
    first = first_ones(value, effort, is_open=whole.is_open, latency_s=latency_s)
    if not whole.is_open:
        # Where the ramp took longer than the requests, more of them than places were started before all places were taken.
        started = int(np.sum(whole.start_s < latency_s))
        first = max(min(max(first, started), len(whole.start_s) - _ROUGH // 2), 0)
    known = None if whole.is_open else full_latency(whole, value)
    if known is None:
        found = whole.values["request_latency"]
        found = found[np.isfinite(found)]
        known = float(found.mean()) / 1e3 if len(found) else None
    return replace(drop_first(whole, first), is_settled=whole.is_open or effort > 0, full_latency_s=known)


class Samples:
    """What was measured at each value: the settled runs of a value, or its rough ones while it has no others; and the latency there."""

    def __init__(self) -> None:
        self._by_value: dict[float, list[Sample]] = defaultdict(list)
        self._latency_s: dict[float, float] = {}

    def expected_latency(self, value: float) -> float:
        return expected_latency(self._latency_s, value)

    def add(self, value: float, sample: Sample) -> list[Sample]:
        """All that count for the value from now on."""
        if sample.full_latency_s is not None:
            self._latency_s[value] = sample.full_latency_s
        kept = self._by_value[value]
        if sample.is_settled:
            kept = [s for s in kept if s.is_settled]
        elif any(s.is_settled for s in kept):
            return kept
        self._by_value[value] = [*kept, sample]
        return self._by_value[value]

    def locate(self, conditions: Sequence[Condition]) -> Crossing | None:
        """Where the conditions stop to hold; None where no law tells, as in open loops."""
        runs = [(v, s) for v, samples in self._by_value.items() for s in samples]
        return None if any(s.is_open for _, s in runs) else locate_first(runs, conditions)


def judge_all(pooled: Sequence[Sample], conditions: Sequence[Condition], requests: int) -> ProbeOutcome:
    """The runs of a value against all conditions; over-saturation ends the probe at once. `requests`: those of the last run."""
    if any(is_saturated(s) for s in pooled):
        return combine([], requests, saturated=True)
    return combine([judge(pooled, c) for c in conditions], requests)


def sample_of(run: RunData, *, is_open: bool) -> Sample:
    """All requests of a run."""
    return Sample(values=run.series, start_s=run.start_s, end_s=run.end_s, ok=run.ok, good=run.good, is_open=is_open)


class LiveProbe:
    """Each call is a run of its own, `search_iter_NNNN/profile_runs/run_NNNN` (AIPerf's names); the runs of a value are pooled.

    `path`: the option searched. `maximised`: the objective is goodput. `least`: the user's --request-count. Closed loops start their
    requests over one request latency, as expected from the values known, so that no wave of prefills is measured.
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
        self._samples = Samples()
        self.runs: dict[float, list[RunData]] = defaultdict(list)
        self._numbers: dict[float, int] = {}
        self._calls: dict[float, int] = defaultdict(int)

    @property
    def is_open(self) -> bool:
        return self._path != "load.concurrency"

    def __call__(self, value: float, effort: Effort) -> ProbeOutcome:
        number = self._numbers.setdefault(value, len(self._numbers))
        calls = self._calls[value]
        self._calls[value] += 1
        config = self._runner.config
        # The highest of several figures is sought: rough ones would not tell them apart.
        effort += 1 if self._maximised and not self.is_open else 0
        latency_s = self._samples.expected_latency(value)
        least = config.load.request_count if config.is_set("load.request_count") else None
        count = requests_for(value, effort, is_open=self.is_open, latency_s=latency_s, least=least)
        directory = f"{self._folder}search_iter_{number:04d}/profile_runs/run_{calls + 1:04d}"
        values = {**self._fixed, self._path: value}
        extra: dict[str, object] = {"load.request_count": count, "output.report": False}
        if not self.is_open and latency_s > 0:
            extra["load.concurrency_ramp_duration"] = latency_s
        seed = seed_of_run(
            self._runner.record.seed, directory, 0, same_point=config.sweep.parameter_sweep_same_seed, same_trial=True
        )
        run = self._runner.run(
            directory,
            values,
            trial=calls,
            seed=seed,
            extra=extra,
            cooldown_s=config.sweep.parameter_sweep_cooldown_seconds,
            index=number,
            variation=f"search_iter_{number:04d}",
            label=f"probe {number + 1}: {exact(value)}"
            + (f", again ({calls + 1})" if calls else "")
            + f", {count:,} requests",
        )
        if run is None:
            outcome = ProbeOutcome(verdict="fail", requests=count, is_hopeless=True, reason="no request succeeded")
        else:
            self.runs[value].append(run)
            sample = measured(sample_of(run, is_open=self.is_open), value, effort, latency_s)
            outcome = self._judge(value, sample, count)
            # The highest value that passes is sought, or the highest objective.
            score = outcome.objective if self._maximised else value if outcome.verdict == "pass" else None
            self._runner.progress.judged(None if self._maximised else outcome.verdict, score)
        self._observer.note(f"  {outcome.verdict}" + (f": {outcome.reason}" if outcome.reason else _words(outcome)))
        return outcome

    def locate(self) -> Crossing | None:
        return None if self._maximised else self._samples.locate(self._conditions)

    def _judge(self, value: float, sample: Sample, requests: int) -> ProbeOutcome:
        pooled = self._samples.add(value, sample)
        return self._objective(pooled, requests) if self._maximised else judge_all(pooled, self._conditions, requests)

    def _objective(self, pooled: Sequence[Sample], requests: int) -> ProbeOutcome:
        saturated = any(is_saturated(s) for s in pooled)
        judged = judge(pooled, Condition(tag="goodput", op=">=", value=1.0))
        error = 0.0
        if judged.value is not None and judged.low is not None and judged.high is not None:
            error = judged.value * (judged.high - judged.low) / 4  # margins are logarithms
        figures = () if judged.value is None else (("goodput", judged.value),)
        return ProbeOutcome(
            verdict="pass",
            requests=requests,
            is_hopeless=saturated,
            objective=judged.value,
            objective_se=error,
            figures=figures,
            reason="over-saturated" if saturated else "",
        )


def _words(outcome: ProbeOutcome) -> str:
    return "".join(f", {name} {significant(value)}" for name, value in outcome.figures)

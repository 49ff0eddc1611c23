"""Capacity under an SLO at each shared share: the highest concurrency that meets --slo, by the search that `profile` uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from aiperf.config.conditions import Condition
from aiperf.number_text import exact
from aiperf.studies.cache.meter import Load, Meter
from aiperf.studies.cache.prompts import repeated
from aiperf.studies.metric import StudyFigure
from aiperf.sweeps.search import ProbeOutcome, Range, SearchOptions, SearchResult, search
from aiperf.sweeps.trial import Samples, judge_all, measured, requests_for, sample_of

__all__ = ["ShareProbe", "find_capacity", "slo_figure"]


class ShareProbe:
    """Asks one share at a concurrency; the runs of a value are pooled. `share` None: the control."""

    def __init__(
        self,
        share: float | None,
        conditions: Sequence[Condition],
        meter: Meter,
        *,
        tokens: int,
        osl: int,
        block: int,
        base_of: Callable[[str], int],
    ) -> None:
        self._share = share
        self._conditions = conditions
        self._meter = meter
        self._tokens = tokens
        self._osl = osl
        self._block = block
        self._base_of = base_of
        self._samples = Samples()
        self._calls = 0

    def __call__(self, value: float, effort: int) -> ProbeOutcome:
        self._calls += 1
        latency_s = self._samples.expected_latency(value)
        count = requests_for(value, effort, is_open=False, latency_s=latency_s)
        word = "control" if self._share is None else exact(self._share)
        found = self._meter(self._load(f"slo-{word}-{self._calls:02d}", count, value, latency_s, word))
        run = None if found is None or found.measured is None else found.measured.run
        if run is None:
            return ProbeOutcome(verdict="fail", requests=count, is_hopeless=True, reason="no request succeeded")
        sample = measured(sample_of(run.data, is_open=False), value, effort, latency_s)
        return judge_all(self._samples.add(value, sample), self._conditions, count)

    def _load(self, name: str, count: int, value: float, latency_s: float, word: str) -> Load:
        shared = 0 if self._share is None else min(round(self._share / 100 * self._tokens), self._tokens - 1)
        base = self._base_of(name)
        order = np.zeros(count, np.int64)
        shape = {"shared": shared, "tokens": self._tokens, "osl": self._osl, "block": self._block, "base": base}
        made = repeated(order, first_own=1, **shape)
        warm = repeated(order[:1], **shape) if shared >= self._block else None
        values: dict[str, object] = {"load.concurrency_ramp_duration": latency_s} if latency_s > 0 else {}
        label = (
            f"capacity under the SLO, {word} {'' if self._share is None else '% shared '}at concurrency {exact(value)}"
        )
        return Load(name=name, measured=made, warm=warm, concurrency=int(value), values=values, label=label)

    def locate(self) -> object:
        return self._samples.locate(self._conditions)


def find_capacity(probe: ShareProbe, most: int) -> SearchResult:
    return search(probe, Range(1, most), SearchOptions())


def slo_figure(highest: dict[float | None, int | None], conditions: Sequence[Condition]) -> StudyFigure:
    """`highest`: concurrency by share; None: none met the SLO."""
    name = "slo_capacity_gain"
    if not conditions:
        return StudyFigure(name=name, value=None, reason="no --slo was given")
    shares = [s for s in highest if s is not None]
    control, best = highest.get(None), highest[max(shares)] if shares else None
    if control is None or best is None:
        return StudyFigure(name=name, value=None, reason="no concurrency met the SLO, or the search was not finished")
    rests = f"concurrency {best} against {control}"
    return StudyFigure(name=name, value=best / control, rests_on=rests)

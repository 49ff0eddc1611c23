"""What came back after a preemption: was it computed again? Inferred from how long the steps took in which requests came back.

The time of a step grows with the prompt tokens computed in it. Over all steps, by least absolute deviations, which steps that were held up
by something else (another process, the network) do not move:

    duration = a + b · tokens decoded + c · new prompt tokens + d · tokens lost by those who came back

d ÷ c is the share of the lost tokens that was computed again: 1 for recomputing, near 0 where blocks came back from elsewhere (swap, a
lower cache tier) or were still there (prefix cache). Its interval is that of resampled steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import Floats
from aiperf.studies.kv.pauses import Pauses, ticks_of
from aiperf.studies.kv.streams import Streams

__all__ = ["Recomputed", "recomputed_share"]

_FEWEST: Final = 5
"""Requests that came back, at least."""
_FEWEST_STEPS: Final = 50
_RESAMPLES: Final = 200
_ROUNDS: Final = 20
_NEAR_MS: Final = 0.02
"""Deviations below this count alike: the fit would else follow single steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """`share` of the lost tokens, with its 95 % interval; `pauses` it rests on. None: `reason` says why it cannot be known."""

    share: float | None = None
    low: float | None = None
    high: float | None = None
    pauses: int = 0
    reason: str = ""

    @property
    def taken(self) -> float | None:
        """All or none where the interval allows it; None where it allows both, or nothing is known."""
        if self.share is None or self.low is None or self.high is None:
            return None
        is_none, is_all = self.low <= 0.0, self.high >= 1.0
        if is_none and is_all:
            return None
        return 1.0 if is_all else 0.0 if is_none else self.share


def recomputed_share(streams: Streams, pauses: Pauses) -> Recomputed:
    """For a server with a single engine: the steps of several overlap."""
    if pauses.count < _FEWEST:
        return Recomputed(reason=f"only {pauses.count} preempted requests were seen to come back", pauses=pauses.count)
    ticks = ticks_of(streams)
    num_steps = len(ticks)
    if num_steps < _FEWEST_STEPS:
        return Recomputed(reason="the run had too few steps", pauses=pauses.count)

    def per_step(at: Floats, weight: Floats) -> Floats:
        """Sums by the step whose chunks came at `at`."""
        number = np.clip(np.searchsorted(ticks, at, side="right") - 1, 0, num_steps - 1)
        return np.bincount(number, weight, minlength=num_steps).astype(np.float64)

    has = streams.num_chunks > 0
    fresh = streams.prompt - np.where(np.isnan(streams.cached), 0.0, streams.cached)
    work = np.column_stack(
        [
            np.ones(num_steps),
            per_step(streams.times, streams.per_chunk[streams.row_of_chunk()]),
            per_step(streams.first[has], fresh[has]),
            per_step(pauses.end, pauses.held),
        ]
    )
    duration = np.diff(np.concatenate(([float(np.nanmin(streams.start))], ticks))) / 1e6
    return _ratio(work, duration, pauses.count)


def _ratio(work: Floats, durations: Floats, count: int) -> Recomputed:
    """The ratio d ÷ c, and its interval over resampled steps."""
    if np.linalg.matrix_rank(work) < work.shape[1]:
        return Recomputed(reason="new prompts and returning requests cannot be distinguished", pauses=count)
    fitted = _fit(work, durations)
    rng = np.random.default_rng(0)
    costs, shares = [], []
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(durations), len(durations))
        again = _fit(work[rows], durations[rows])
        costs.append(float(again[2]))
        if again[2] > 0:
            shares.append(float(again[3] / again[2]))
    if fitted[2] <= 0 or np.percentile(costs, 2.5) <= 0:
        return Recomputed(reason="computing a prompt takes too little time to stand out from noise", pauses=count)
    low, high = np.percentile(shares, [2.5, 97.5])
    told = Recomputed(share=float(fitted[3] / fitted[2]), low=float(low), high=float(high), pauses=count)
    if told.taken is None:
        reason = f"the times of the steps allow any share from {low:.0%} to {high:.0%}: they vary too much"
        return Recomputed(reason=reason, pauses=count)
    return told


def _fit(work: Floats, durations: Floats) -> Floats:
    """(columns of `work`,) least absolute deviations, by weighted least squares."""
    weight = np.ones(len(durations))
    costs: Floats = np.zeros(work.shape[1])
    for _ in range(_ROUNDS):
        root = np.sqrt(weight)
        costs = np.asarray(np.linalg.lstsq(work * root[:, None], durations * root, rcond=None)[0], dtype=np.float64)
        weight = 1 / np.maximum(np.abs(durations - work @ costs), _NEAR_MS)
    return costs

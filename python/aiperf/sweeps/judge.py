"""Does a point meet its conditions, and how sure is that? From the requests of one value, pooled over its runs.

What starts a run is left out: in a closed loop the first wave meets an empty server, and the second one still queues as the first has left
it. Runs that measure what comes after both are *settled*; where a value has such runs, its rough ones do not count.
Conditions are judged one by one and the worst counts:

* a percentile `p95 < 400 ms`: the share of requests at or above 400 ms against 5 %, with Wilson's interval for the number of
  independent requests that the correlated ones are worth; not one request above half the limit passes at once (and not one below twice
  the limit fails);
* a mean, a rate: its interval against the limit (`aiperf.metrics.confidence`);
* `good_request_fraction >= 95%`, `request_error_rate <= 1%`: the share, with Wilson's interval.

Over-saturation ends a probe at once: in an open loop the queue grows without end (waiting times rise through the run by half and
more, beyond chance), so that every percentile would depend on how long it is watched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np

from aiperf.config.conditions import Condition
from aiperf.metrics import Bools, Floats, load_all
from aiperf.metrics.confidence import long_run_variance, mean_interval
from aiperf.metrics.rates import count_interval, rate_interval
from aiperf.sweeps.search import ProbeOutcome
from aiperf.units import threshold_in

__all__ = ["Judged", "Sample", "combine", "drop_first", "is_saturated", "judge", "limit_of"]

_FEWEST: Final = 20
_LEVEL: Final = 0.975
"""One-sided certainty of a verdict."""
_GROWTH: Final = 1.5


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Requests of one run at a value, in the order they started; failed ones are rows too, with NaN values.

    `values`: tag → (requests,) in the shown unit. `start_s`, `end_s`: (requests,) s. `ok`, `good`: (requests,); `good` None without
    objectives. `is_open`: sent at a rate. `done_s`: when requests of the whole run were done, within the `window_s` seconds in which those
    kept were started; None: all that are here. `is_settled`: nothing of how the run began is left in it. `full_latency_s`: mean request
    latency under the whole load, None if unknown.
    """

    values: Mapping[str, Floats]
    start_s: Floats
    end_s: Floats
    ok: Bools
    good: Bools | None = None
    is_open: bool = False
    done_s: Floats | None = None
    window_s: float = 0.0
    is_settled: bool = True
    full_latency_s: float | None = None

    @property
    def throughput(self) -> tuple[float, float] | None:
        """(requests per second, half its interval) that the server completed while the load was on; None if it cannot be told."""
        if self.done_s is None:
            ended = np.isfinite(self.end_s)
            done, begun = self.end_s[ended], self.start_s[ended]
            window = float(np.ptp(done)) if len(done) > 1 else 0.0
        else:
            done, window, begun = self.done_s, self.window_s, None
        if window <= 0 or len(done) < _FEWEST:
            return None
        rate = len(done) / window
        ones = np.ones(len(done))
        if begun is None:
            low, high, _ = count_interval(done * 1e9, ones, rate)
        else:
            low, high, _ = rate_interval(begun * 1e9, done * 1e9, ones, rate)
        return rate, (high - low) / 2 if low is not None and high is not None else rate

    def select(self, mask: Bools) -> Sample:
        return Sample(
            values={t: v[mask] for t, v in self.values.items()},
            start_s=self.start_s[mask],
            end_s=self.end_s[mask],
            ok=self.ok[mask],
            good=None if self.good is None else self.good[mask],
            is_open=self.is_open,
            is_settled=self.is_settled,
            full_latency_s=self.full_latency_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One condition. `value`: the figure in its shown unit; margins as in `ProbeOutcome`; None where they cannot be computed."""

    condition: Condition
    value: float | None
    margin: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        if self.low is not None and self.low >= 0:
            return "pass"
        if self.high is not None and self.high < 0:
            return "fail"
        return "unresolved"


def drop_first(sample: Sample, count: int) -> Sample:
    """Without the requests that started first; half of them go where the run is too short. The drain at the end counts for no throughput."""
    n = len(sample.start_s)
    first = count if n >= count + _FEWEST else min(count, n // 2)
    kept = sample.select(np.arange(n) >= first)
    if n <= first:
        return kept
    begin, end = float(kept.start_s.min()), float(kept.start_s.max())
    done = np.sort(sample.end_s[(sample.end_s > begin) & (sample.end_s <= end)])
    return replace(kept, done_s=done, window_s=end - begin)


def is_saturated(sample: Sample) -> bool:
    """Open loop: waiting times grow through the run: the last third's mean is 1.5 times the first third's, beyond chance."""
    tag = (
        "time_to_first_token"
        if not np.isnan(sample.values.get("time_to_first_token", np.array([np.nan]))).all()
        else "request_latency"
    )
    values = sample.values.get(tag, np.zeros(0))
    values = values[np.isfinite(values)]
    if not sample.is_open or len(values) < 3 * _FEWEST:
        return False
    third = len(values) // 3
    early, late = values[:third], values[-third:]
    _, _, early_high, _ = mean_interval(early)
    _, late_low, _, _ = mean_interval(late)
    grown = float(late.mean()) > _GROWTH * float(early.mean())
    return grown and early_high is not None and late_low is not None and late_low > early_high


def _effective(series: Sequence[Floats]) -> float:
    """How many independent values the correlated ones are worth, over all runs."""
    total = 0.0
    for values in series:
        count = len(values)
        spread = float(values.var()) if count else 0.0
        if count < 8 or spread == 0:
            total += count
            continue
        variance, _ = long_run_variance(values)
        total += count * min(1.0, spread / variance) if variance > 0 else count
    return total


def _wilson(share: float, effective: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(_LEVEL)
    n = max(effective, 1.0)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def limit_of(condition: Condition, unit: str) -> float:
    """The condition's limit in `unit`, a metric's shown one. ValueError if it is of another kind, which is refused before any run."""
    limit = threshold_in(float(condition.value), condition.unit, unit)
    if limit is None:
        raise ValueError(f"`{condition}` is not in {unit}")
    return limit


def _ratio(value: float, limit: float, *, below: bool) -> float:
    """The margin: positive if the value is on the right side of the limit."""
    tiny = 1e-9
    return math.log(max(limit, tiny) / max(value, tiny)) if below else math.log(max(value, tiny) / max(limit, tiny))


def judge(samples: Sequence[Sample], condition: Condition) -> Judged:
    """One condition over the pooled runs of a value."""
    metric = load_all().get(condition.tag)
    unit = metric.unit.shown if metric is not None else ""
    limit, below = limit_of(condition, unit), condition.op in {"<", "<="}
    if condition.tag in {"good_request_fraction", "request_error_rate"}:
        flags = [
            (~s.ok if condition.tag == "request_error_rate" else s.good if s.good is not None else s.ok).astype(
                np.float64
            )
            for s in samples
        ]
        whole = 100.0 if condition.tag == "request_error_rate" else 1.0
        return _judge_share(condition, flags, limit / whole, below=below, whole=whole)
    if condition.tag in {"request_throughput", "output_token_throughput", "goodput"}:
        return _judge_rate(condition, samples, limit, below=below)
    series = [v[np.isfinite(v)] for s in samples if (v := s.values.get(condition.tag)) is not None]
    pooled = np.concatenate(series) if series else np.zeros(0)
    if len(pooled) < _FEWEST:
        return Judged(condition=condition, value=None, margin=None, low=None, high=None)
    stat = condition.stat or "avg"
    if stat == "avg":
        value, low, high, _ = mean_interval(pooled)
        return _margins(condition, value, low, high, limit, below=below)
    percentile = {"min": 0.0, "max": 100.0}.get(stat)
    q = (float(stat[1:]) if percentile is None else percentile) / 100
    value = float(np.percentile(pooled, 100 * q))
    beyond = pooled >= limit if below else pooled <= limit
    allowed = 1 - q if below else q
    share = float(beyond.mean())
    low, high = _wilson(share, _effective([np.clip(s, *np.percentile(pooled, (1, 99))) for s in series]))
    margin = _ratio(value, limit, below=below)
    size = max(abs(margin), 1e-6)
    # The share decides; the margin's sign and ends only carry that decision on.
    far_below, far_above = float(pooled.max()) < limit / 2, float(pooled.min()) > 2 * limit
    if high < allowed or (allowed == 0 and share == 0) or (far_below if below else far_above):
        return Judged(condition=condition, value=value, margin=size, low=min(size, 1e-6), high=size)
    if low > allowed or (far_above if below else far_below):
        return Judged(condition=condition, value=value, margin=-size, low=-size, high=-1e-6)
    return Judged(condition=condition, value=value, margin=margin, low=min(margin, -1e-6), high=max(margin, 1e-6))


def _margins(
    condition: Condition, value: float, low: float | None, high: float | None, limit: float, *, below: bool
) -> Judged:
    ends = [None if e is None else _ratio(e, limit, below=below) for e in ((high, low) if below else (low, high))]
    return Judged(condition=condition, value=value, margin=_ratio(value, limit, below=below), low=ends[0], high=ends[1])


def _judge_share(condition: Condition, flags: Sequence[Floats], limit: float, *, below: bool, whole: float) -> Judged:
    pooled = np.concatenate(flags)
    if len(pooled) < _FEWEST:
        return Judged(condition=condition, value=None, margin=None, low=None, high=None)
    share = float(pooled.mean())
    low, high = _wilson(share, _effective(flags))
    # In terms of what goes wrong (1 − share of good ones), whose logarithm moves with the load.
    if below:
        return _margins(condition, share * whole, low * whole, high * whole, limit * whole, below=True)
    bad = _margins(condition, 1 - share, 1 - high, 1 - low, max(1 - limit, 1e-9), below=True)
    return Judged(condition=condition, value=share * whole, margin=bad.margin, low=bad.low, high=bad.high)


def _judge_rate(condition: Condition, samples: Sequence[Sample], limit: float, *, below: bool) -> Judged:
    """Requests completed per second × what each is worth: 1, its tokens, or nothing if it failed or was not good."""
    rates: list[tuple[float, float]] = []
    for sample in samples:
        done = sample.throughput
        if done is None:
            continue
        worth = sample.ok.astype(np.float64)
        if condition.tag == "goodput" and sample.good is not None:
            worth = (sample.ok & sample.good).astype(np.float64)
        elif condition.tag == "output_token_throughput":
            worth = np.nan_to_num(sample.values["output_sequence_length"]) * worth
        mean, low, high, _ = mean_interval(worth)
        spread = (high - low) / 2 if low is not None and high is not None else mean
        rates.append((done[0] * mean, math.hypot(done[0] * spread, mean * done[1])))
    if not rates:
        return Judged(condition=condition, value=None, margin=None, low=None, high=None)
    value = sum(r for r, _ in rates) / len(rates)
    half = math.sqrt(sum(h**2 for _, h in rates)) / len(rates)
    return _margins(condition, value, value - half, value + half, limit, below=below)


def combine(judged: Sequence[Judged], requests: int, *, saturated: bool = False) -> ProbeOutcome:
    """All conditions together: one that fails, fails; all that pass, pass."""
    figures = tuple((f"{j.condition.tag}:{j.condition.stat or 'avg'}", j.value) for j in judged if j.value is not None)
    if saturated:
        return ProbeOutcome(
            verdict="fail",
            requests=requests,
            is_hopeless=True,
            figures=figures,
            reason="over-saturated: waiting times grow through the run",
        )
    verdicts = [j.verdict for j in judged]
    known = [j for j in judged if j.margin is not None]
    worst = min(known, key=lambda j: j.margin or 0.0, default=None)
    if "fail" in verdicts:
        failed = next(j for j in judged if j.verdict == "fail")
        return ProbeOutcome(
            verdict="fail",
            requests=requests,
            margin=failed.margin,
            margin_low=failed.low,
            margin_high=failed.high,
            figures=figures,
            reason=f"misses {failed.condition}",
        )
    open_ones = ", ".join(str(j.condition) for j in judged if j.verdict == "unresolved")
    return ProbeOutcome(
        verdict="unresolved" if open_ones else "pass",
        requests=requests,
        margin=None if worst is None else worst.margin,
        margin_low=None if worst is None else worst.low,
        margin_high=None if worst is None else worst.high,
        figures=figures,
        reason=f"too close to call: {open_ones}" if open_ones else "",
    )

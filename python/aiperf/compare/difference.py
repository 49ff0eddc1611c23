"""The difference of two runs, figure by figure: by how much, how sure, and whether it counts.

Figures that are ratios by nature (latencies, rates) are compared by their logarithm: change = B/A − 1, with the interval
exp(ln B/A ± t·√(seA² + seB²)) − 1. Shares (errors, good requests) are compared by their difference in points. A difference is
*significant* if its p-value, corrected by Holm over the headline figures, is below 0.05 and it is at least the smallest effect
of interest (2 %, or one point, unless told otherwise). With three repeats or more on both sides the spread between the repeats is
used instead of the spread within one run: it also holds what changes from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from aiperf.compare.bootstrap import Estimate, estimate_mean, estimate_percentile, estimate_rate, t_tail
from aiperf.metrics import Floats, load_all
from aiperf.metrics.confidence import t_quantile
from aiperf.metrics.server import PREFIX, SERVER_METRICS
from aiperf.number_text import exact
from aiperf.run.data import RunData, figure

__all__ = [
    "HEADLINE",
    "MIN_EFFECT",
    "CompareOptions",
    "Difference",
    "adjust",
    "compare_figure",
    "headline",
    "server_figures",
    "tail_stat",
]

HEADLINE: Final = (
    ("time_to_first_token", "avg"),
    ("time_to_first_token", "tail"),
    ("inter_token_latency", "avg"),
    ("inter_token_latency", "tail"),
    ("request_latency", "avg"),
    ("request_latency", "tail"),
    ("request_throughput", "avg"),
    ("output_token_throughput", "avg"),
    ("good_request_fraction", "avg"),
    ("request_error_rate", "avg"),
)
"""The figures that are tested together. `tail`: the highest of p99, p95, p90 that all runs have ten values beyond."""
MIN_EFFECT: Final = 0.02
SHOWN_SERVER: Final = (
    "queue_time",
    "prefill_time",
    "decode_time",
    "requests_running",
    "requests_waiting",
    "kv_cache_usage",
    "prefix_hit_rate",
    "preemptions",
    "acceptance_rate",
)
"""Of the server's metrics, those a comparison shows."""
_SHARES: Final = {"good_request_fraction": 1.0, "request_error_rate": 100.0}
"""Compared in points; the value of 100 %."""
_MIN_POINTS: Final = 0.01
_TAILS: Final = ((99.0, 1000), (95.0, 200), (90.0, 100))
_ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """`min_effect`: smallest relative change that counts. `level`: of the intervals. `seed`: of the draws."""

    min_effect: float = MIN_EFFECT
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """B against A. `change`: B/A − 1, or the difference of two shares in points of one (0.01: one point); `low`, `high`: its interval.

    `p_value`: two-sided; `p_adjusted`: after Holm. None where the data do not allow a test. `verdict`: "better" and "worse" are
    significant, "same" means no significant difference, "unknown" that it could not be tested.
    """

    tag: str
    stat: str
    unit: str
    a: float | None
    b: float | None
    change: float | None
    in_points: bool
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    verdict: Literal["better", "worse", "same", "unknown"] = "unknown"

    @property
    def is_significant(self) -> bool:
        return self.verdict in {"better", "worse"}


def tail_stat(runs: Sequence[RunData]) -> str | None:
    """The highest percentile that has enough values in every run."""
    least = min((r.num_ok for r in runs), default=0)
    return next((f"p{exact(p)}" for p, need in _TAILS if least >= need), None)


def headline(runs: Sequence[RunData]) -> list[tuple[str, str]]:
    """The headline figures that every run has."""
    tail = tail_stat(runs)
    named = [(tag, tail if stat == "tail" else stat) for tag, stat in HEADLINE]
    return [
        (tag, stat) for tag, stat in named if stat is not None and all(_value(r, tag, stat) is not None for r in runs)
    ]


def server_figures(runs: Sequence[RunData]) -> list[tuple[str, str]]:
    """Figures of the server's own that every run has, side by side: one run has one value of each, so that there is nothing to test."""
    return [
        (metric.tag, stat)
        for metric in SERVER_METRICS.values()
        for stat in ("avg", "p99")
        if metric.name in SHOWN_SERVER
        and (stat == "avg" or stat in metric.stats)
        and all(figure(r, metric.tag, stat) is not None for r in runs)
    ]


def _value(run: RunData, tag: str, stat: str) -> float | None:
    if tag == "request_error_rate":
        attempted = run.num_ok + run.num_failed
        return 100 * run.num_failed / attempted if attempted else None
    value = figure(run, tag, stat)
    if value is None and tag in {"request_throughput", "output_token_throughput"} and run.duration_s:
        osl = run.series.get("output_sequence_length", np.zeros(0))
        amount = run.num_ok if tag == "request_throughput" else float(np.nansum(np.where(run.ok, osl, np.nan)))
        return amount / run.duration_s
    return value


def _estimate(run: RunData, tag: str, stat: str, rng: np.random.Generator) -> Estimate | None:
    """Within one run, from its requests."""
    value = _value(run, tag, stat)
    if value is None or not run.has_requests:
        return None
    if tag == "request_error_rate":
        failed = 100.0 * (~run.ok).astype(np.float64)
        return _share(failed, value, 100.0, rng)
    if tag == "good_request_fraction":
        return None if run.good is None else _share(run.good.astype(np.float64), value, 1.0, rng)
    if tag in {"request_throughput", "output_token_throughput"}:
        amounts = np.ones(len(run.ok)) if tag == "request_throughput" else run.series["output_sequence_length"]
        use = run.ok & np.isfinite(run.end_s) & np.isfinite(amounts)
        return estimate_rate(run.end_s[use], amounts[use], value, rng)
    values = run.series.get(tag)
    if values is None:
        return None
    kept = values[np.isfinite(values)]
    found = estimate_mean(kept, rng) if stat == "avg" else estimate_percentile(kept, float(stat[1:]), rng)
    return None if found is None else replace(found, value=value)


def _share(values: Floats, value: float, whole: float, rng: np.random.Generator) -> Estimate | None:
    """A share is never surer than its count allows: (x + 1)/(n + 2) at least."""
    found = estimate_mean(values, rng)
    if found is None:
        return None
    p = (value / whole * found.count + 1) / (found.count + 2)
    return Estimate(value, max(found.se, whole * math.sqrt(p * (1 - p) / found.count)), found.df, found.count)


def _group(runs: Sequence[RunData], tag: str, stat: str, rng: np.random.Generator) -> Estimate | None:
    """One side: the mean over its repeats."""
    values = np.array([v for r in runs if (v := _value(r, tag, stat)) is not None])
    if not len(values):
        return None
    if len(values) >= 3:
        return Estimate(
            float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))), len(values) - 1, len(values)
        )
    inner = [e for r in runs if (e := _estimate(r, tag, stat, rng)) is not None]
    if len(inner) != len(values):
        return None
    se = math.sqrt(sum(e.se**2 for e in inner)) / len(inner)
    return Estimate(float(values.mean()), se, min(e.df for e in inner), sum(e.count for e in inner))


def _test(
    shift: float, se: float, df: float, options: CompareOptions, back: Callable[[float], float]
) -> tuple[float, float, float]:
    """(low, high, p) of a shift with standard error `se`; `back` maps it to the change."""
    if se == 0:
        return back(shift), back(shift), 1.0 if shift == 0 else 0.0
    half = t_quantile((1 + options.level) / 2, df) * se
    return back(shift - half), back(shift + half), t_tail(abs(shift) / se, df)


def compare_figure(
    baseline: Sequence[RunData],
    others: Sequence[RunData],
    tag: str,
    stat: str,
    options: CompareOptions,
    *,
    paired: bool = False,
) -> Difference:
    """One figure of B against A; each side is one run or repeats. `paired`: the n-th of A and of B ran next to each other."""
    metric = load_all().get(tag)
    unit = metric.unit.shown if metric is not None else baseline[0].units.get(tag, "")
    points = tag in _SHARES
    whole = _SHARES.get(tag, 1.0)
    rng = np.random.default_rng([options.seed, *tag.encode(), *stat.encode()])
    if paired and len(baseline) == len(others) and len(baseline) >= 3:
        return _paired(baseline, others, tag, stat, unit, options)
    left, right = _group(baseline, tag, stat, rng), _group(others, tag, stat, rng)
    values = [np.array([v for r in side if (v := _value(r, tag, stat)) is not None]) for side in (baseline, others)]
    va, vb = (float(v.mean()) if len(v) else None for v in values)
    change: float | None = None
    if va is not None and vb is not None:
        change = (vb - va) / whole if points else vb / va - 1 if va > 0 else None
    result = Difference(tag=tag, stat=stat, unit=unit, a=va, b=vb, change=change, in_points=points)
    if left is None or right is None or change is None:
        return result
    df = _welch(left, right, relative=not points)
    if points:
        se = math.hypot(left.se, right.se) / whole
        low, high, p_value = _test(change, se, df, options, lambda x: x)
    else:
        if not left.relative_se or not right.relative_se or vb is None or vb <= 0 or va is None:
            return result
        low, high, p_value = _test(
            math.log(vb / va), math.hypot(left.relative_se, right.relative_se), df, options, math.expm1
        )
    return replace(result, low=low, high=high, p_value=p_value)


def _welch(left: Estimate, right: Estimate, *, relative: bool) -> float:
    """Degrees of freedom of the difference (Satterthwaite)."""
    u, v = ((left.relative_se or 0) ** 2, (right.relative_se or 0) ** 2) if relative else (left.se**2, right.se**2)
    if u + v == 0:
        return min(left.df, right.df)
    return max((u + v) ** 2 / (u**2 / max(left.df, 1) + v**2 / max(right.df, 1)), 1.0)


def _paired(
    baseline: Sequence[RunData], others: Sequence[RunData], tag: str, stat: str, unit: str, options: CompareOptions
) -> Difference:
    """Blocks next to each other: drift hits both, so only their differences count."""
    points, whole = tag in _SHARES, _SHARES.get(tag, 1.0)
    pairs = [
        (x, y)
        for p, q in zip(baseline, others, strict=True)
        if (x := _value(p, tag, stat)) is not None and (y := _value(q, tag, stat)) is not None
    ]
    if not points:
        pairs = [(x, y) for x, y in pairs if x > 0 and y > 0]
    if not pairs:
        return Difference(tag=tag, stat=stat, unit=unit, a=None, b=None, change=None, in_points=points)
    va, vb = (float(np.mean([p[i] for p in pairs])) for i in (0, 1))
    shifts = np.array([(y - x) / whole if points else math.log(y / x) for x, y in pairs])
    back: Callable[[float], float] = (lambda x: x) if points else math.expm1
    shift = float(shifts.mean())
    result = Difference(tag=tag, stat=stat, unit=unit, a=va, b=vb, change=back(shift), in_points=points)
    if len(pairs) < 3:
        return result
    low, high, p = _test(shift, float(shifts.std(ddof=1) / math.sqrt(len(pairs))), len(pairs) - 1, options, back)
    return replace(result, low=low, high=high, p_value=p)


def adjust(differences: Sequence[Difference], options: CompareOptions) -> tuple[Difference, ...]:
    """Holm over the differences that were tested, and the verdict of each."""
    tested = sorted((d.p_value, i) for i, d in enumerate(differences) if d.p_value is not None)
    adjusted: dict[int, float] = {}
    highest = 0.0
    for rank, (p, index) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[index] = highest
    metrics = load_all()
    out: list[Difference] = []
    for index, difference in enumerate(differences):
        p_adjusted = adjusted.get(index)
        if p_adjusted is None or difference.change is None:
            out.append(difference)
            continue
        least = _MIN_POINTS if difference.in_points else options.min_effect
        verdict: Literal["better", "worse", "same"] = "same"
        if p_adjusted < _ALPHA and abs(difference.change) >= least:
            server = (
                SERVER_METRICS.get(difference.tag.removeprefix(PREFIX)) if difference.tag.startswith(PREFIX) else None
            )
            known = server or metrics.get(difference.tag)
            larger = known is not None and known.larger_is_better
            verdict = "better" if (difference.change > 0) == larger else "worse"
        out.append(replace(difference, p_adjusted=p_adjusted, verdict=verdict))
    return tuple(out)

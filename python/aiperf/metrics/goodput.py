"""Goodput: requests per second that met every objective (DistServe), pass rates, and how many servers a rate takes.

A successful request is good when every objective holds (≤, or ≥ where larger is better); a value that does not exist does
not meet one (an ITL objective and a reply of one token). Several named sets of objectives are tiers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from aiperf.errors import ConfigError, Problem, did_you_mean
from aiperf.metrics import METRICS, Bools, load_all, metric
from aiperf.metrics.context import MetricContext, Slo, divide

__all__ = [
    "Servers",
    "SloResult",
    "Tier",
    "TierLike",
    "TierResult",
    "build_tiers",
    "good_mask",
    "meets",
    "merge_tiers",
    "score_tier",
    "servers_needed",
]


class TierLike(Protocol):
    """What the command line gives: a name (None: none was given) and (metric tag, threshold in the shown unit) pairs; of the tags
    in `timed` the threshold was written with a unit of time, and is in ms.
    """

    @property
    def name(self) -> str | None: ...
    @property
    def limits(self) -> tuple[tuple[str, float], ...]: ...
    @property
    def timed(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Tier:
    """A named set of objectives that must all hold."""

    name: str
    slos: tuple[Slo, ...]


@dataclass(frozen=True, slots=True)
class SloResult:
    """`threshold` in the shown unit; `passed` of the successful requests; `share` = passed / successful, None without any."""

    tag: str
    threshold: float
    passed: int
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierResult:
    """`share_of_successful` = good / successful; `fraction` = good / attempted (successful + failed + cut off by the grace
    period; cancelled on purpose or by Ctrl-C left out); `goodput` in requests/s. `worst`: the objective missed most.
    """

    name: str
    slos: tuple[SloResult, ...]
    good: int
    successful: int
    attempted: int
    share_of_successful: float | None
    fraction: float | None
    goodput: float | None
    worst: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Servers for `target_rate` requests/s, each as fast as the one measured; None where the rate is 0 or unknown.

    `meets_share`: whether the share of good requests measured reaches `wanted_share` (adding servers at the same load each
    does not change it); None if no share was wanted.
    """

    target_rate: float
    by_throughput: int | None
    by_goodput: int | None
    ratio: float | None
    wanted_share: float | None
    meets_share: bool | None


def build_tiers(given: Sequence[TierLike]) -> tuple[Tier, ...]:
    """Tiers with thresholds in base units; unnamed ones are called `slo`, `slo 2`, ….

    ConfigError with every problem: a tag nobody knows or that has no value per request, two tiers of one name.
    """
    known = load_all()
    problems: list[Problem] = []
    tiers: list[Tier] = []
    for number, one in enumerate(given, 1):
        slos: list[Slo] = []
        for tag, threshold in one.limits:
            metric = known.get(tag)
            if metric is None:
                hint = did_you_mean(tag, known, "`aiperf explain` lists the metrics")
                problems.append(Problem(f"no metric is named `{tag}`", "--goodput", hint))
            elif metric.kind != "request" or metric.flags & {"errors", "nearest_rank", "internal"}:
                hint = "use `time_to_first_token`, `request_latency`, `inter_token_latency`, …"
                problems.append(Problem(f"`{tag}` has no value per request", "--goodput", hint))
            elif tag in one.timed and metric.unit.shown != "ms":
                hint = f"write the threshold in {metric.unit.shown}, without a unit"
                problems.append(Problem(f"`{tag}` is no time", "--goodput", hint))
            else:
                slos.append(Slo(tag, threshold * metric.unit.divisor))
        tiers.append(Tier(one.name or ("slo" if number == 1 else f"slo {number}"), tuple(slos)))
    names = [t.name for t in tiers]
    problems += [
        Problem(f"two tiers are named `{n}`", "--goodput") for n in sorted({n for n in names if names.count(n) > 1})
    ]
    if problems:
        raise ConfigError(problems)
    return tuple(tiers)


def meets(context: MetricContext, slo: Slo) -> Bools:
    """(rows,) whether the objective holds; false where the value does not exist."""
    values = context.value(slo.tag)
    with np.errstate(invalid="ignore"):
        return values >= slo.threshold if METRICS[slo.tag].larger_is_better else values <= slo.threshold


def good_mask(context: MetricContext, slos: Sequence[Slo]) -> Bools:
    """(rows,) successful requests that meet every objective."""
    good = context.ok.copy()
    for slo in slos:
        good &= meets(context, slo)
    return good


def score_tier(context: MetricContext, tier: Tier, duration_s: float | None = None) -> TierResult:
    """The tier's result over a context; `duration_s`: another time base than the benchmark's duration."""
    successful, attempted = int(np.count_nonzero(context.ok)), int(np.count_nonzero(context.attempted))
    results: list[SloResult] = []
    for slo in tier.slos:
        passed = int(np.count_nonzero(meets(context, slo) & context.ok))
        share = passed / successful if successful else None
        results.append(SloResult(slo.tag, slo.threshold / METRICS[slo.tag].unit.divisor, passed, share))
    good = int(np.count_nonzero(good_mask(context, tier.slos)))
    seconds = context.duration_s if duration_s is None else duration_s
    return _tier_result(tier.name, results, good, successful, attempted, seconds)


def _tier_result(
    name: str, slos: Sequence[SloResult], good: int, successful: int, attempted: int, seconds: float
) -> TierResult:
    missed = [s for s in slos if s.passed < successful]
    return TierResult(
        name=name,
        slos=tuple(slos),
        good=good,
        successful=successful,
        attempted=attempted,
        share_of_successful=good / successful if successful else None,
        fraction=good / attempted if attempted else None,
        goodput=good / seconds if seconds > 0 else None,
        worst=min(missed, key=lambda s: s.passed).tag if missed else None,
    )


def merge_tiers(parts: Sequence[TierResult], seconds: float) -> TierResult:
    """One tier over several windows of `seconds` in all; `parts` not empty, all of the same tier."""
    good, successful, attempted = (sum(getattr(p, n) for p in parts) for n in ("good", "successful", "attempted"))
    slos: list[SloResult] = []
    for i, slo in enumerate(parts[0].slos):
        passed = sum(p.slos[i].passed for p in parts)
        slos.append(SloResult(slo.tag, slo.threshold, passed, passed / successful if successful else None))
    return _tier_result(parts[0].name, slos, good, successful, attempted, seconds)


def servers_needed(
    target_rate: float, throughput: float | None, goodput: float | None, fraction: float | None, wanted: float | None
) -> Servers:
    """The demo's sizing question: target / throughput and target / goodput, rounded up.

    1000 requests/s at 26.67 requests/s each are 38 servers; at a goodput of 7.43 they are 135: 3.6 times as many.
    """

    def count(rate: float | None) -> int | None:
        return math.ceil(target_rate / rate - 1e-9) if rate else None

    by_throughput, by_goodput = count(throughput), count(goodput)
    return Servers(
        target_rate=target_rate,
        by_throughput=by_throughput,
        by_goodput=by_goodput,
        ratio=by_goodput / by_throughput if by_goodput and by_throughput else None,
        wanted_share=wanted,
        meets_share=None if wanted is None or fraction is None else fraction >= wanted,
    )


def _good_count(context: MetricContext) -> float:
    return float(np.count_nonzero(good_mask(context, context.options.slos))) if context.options.slos else float("nan")


@metric("goodput", kind="scalar", larger_is_better=True, formula="good_request_count / benchmark_duration")
def goodput(context: MetricContext) -> float:
    """Requests per second that met every objective of --goodput; absent without objectives. DistServe's definition."""
    return float(divide(_good_count(context), context.duration_s))


@metric(
    "good_request_count", kind="scalar", larger_is_better=True, formula="successful requests that met every objective"
)
def good_request_count(context: MetricContext) -> float:
    """Requests that met every objective of --goodput; 0 or 1 in the records."""
    return _good_count(context)


@metric(
    "good_request_fraction",
    kind="scalar",
    larger_is_better=True,
    formula="good_request_count / (successful + failed + cut off by the grace period)",
)
def good_request_fraction(context: MetricContext) -> float:
    """Share of the requests attempted that met every objective; cancelled on purpose or by Ctrl-C are left out."""
    return float(divide(_good_count(context), float(np.count_nonzero(context.attempted))))

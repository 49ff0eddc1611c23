"""Goodput: requests per second that met every objective (DistServe), pass rates, and how many servers a rate takes.

`--goodput "time_to_first_token:370 request_latency:648"`: a value is in the metric's shown unit (ms for latencies) unless it has
its own. A name in front makes a tier: `premium=time_to_first_token:250ms`. A successful request is good when every
objective holds (≤, or ≥ where larger is better); a value that does not exist does not meet one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import numpy as np

from aiperf.errors import ConfigError, Problem
from aiperf.metrics import METRICS, Bools, load_all, metric
from aiperf.metrics.context import MetricContext, Slo, divide
from aiperf.units import parse_in_unit

__all__ = [
    "Servers",
    "SloResult",
    "Tier",
    "TierResult",
    "good_mask",
    "meets",
    "parse_tier",
    "parse_tiers",
    "resolve_tag",
    "score_tier",
    "servers_needed",
]

_NAME: Final = re.compile(r"^\s*([A-Za-z][\w .-]*?)\s*=\s*(?=\S)")
ALIASES: Final = {
    "ttft": "time_to_first_token", "itl": "inter_token_latency", "tpot": "inter_token_latency",
    "ttst": "time_to_second_token", "icl": "inter_chunk_latency", "osl": "output_sequence_length",
    "isl": "input_sequence_length", "latency": "request_latency", "e2el": "request_latency",
    "error_rate": "request_error_rate", "throughput": "request_throughput",
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


def resolve_tag(name: str) -> str:
    """A metric's tag from a tag or a usual abbreviation; KeyError with the nearest tag as its message otherwise."""
    known = load_all()
    tag = name.strip().lower().replace("-", "_")
    tag = ALIASES.get(tag, tag)
    if tag in known:
        return tag
    near = get_close_matches(tag, known, n=1)
    raise KeyError(f"did you mean `{near[0]}`?" if near else "`aiperf explain` lists the metrics")


def parse_tier(text: str, default_name: str = "slo") -> Tier:
    """`[name=]tag:value tag:value …`. ConfigError with every problem found."""
    named = _NAME.match(text)
    name = named[1] if named else default_name
    rest = text[named.end() :] if named else text
    problems: list[Problem] = []
    slos: list[Slo] = []
    for word in rest.split():
        tag, colon, value = word.partition(":")
        if not colon or not value:
            problems.append(
                Problem(f"`{word}` is not `metric:threshold`", "--goodput", "for example `time_to_first_token:370`")
            )
            continue
        try:
            tag = resolve_tag(tag)
        except KeyError as error:
            problems.append(Problem(f"no metric is named `{tag}`", "--goodput", str(error.args[0])))
            continue
        found = METRICS[tag]
        if found.kind != "request" or "errors" in found.flags or "nearest_rank" in found.flags:
            problems.append(
                Problem(
                    f"`{tag}` has no value per request",
                    "--goodput",
                    "use one of `time_to_first_token`, `request_latency`, …",
                )
            )
            continue
        try:
            shown = parse_in_unit(value, found.unit)
        except ValueError as error:
            problems.append(Problem(f"`{word}`: {error}", "--goodput"))
            continue
        slos.append(Slo(tag, shown * found.unit.divisor))
    if not slos and not problems:
        problems.append(Problem(f"`{text}` names no objective", "--goodput", "for example `time_to_first_token:370`"))
    if problems:
        raise ConfigError(problems)
    return Tier(name, tuple(slos))


def parse_tiers(texts: Sequence[str]) -> tuple[Tier, ...]:
    """Every `--goodput` value; unnamed ones are called `slo`, `slo 2`, …. ConfigError if two have one name."""
    tiers = tuple(parse_tier(t, "slo" if i == 0 else f"slo {i + 1}") for i, t in enumerate(texts))
    names = [t.name for t in tiers]
    double = sorted({n for n in names if names.count(n) > 1})
    if double:
        raise ConfigError([Problem(f"two tiers are named `{n}`", "--goodput") for n in double])
    return tiers


def meets(r: MetricContext, slo: Slo) -> Bools:
    """(rows,) whether the objective holds; false where the value does not exist."""
    values = r.value(slo.tag)
    with np.errstate(invalid="ignore"):
        return values >= slo.threshold if METRICS[slo.tag].larger_is_better else values <= slo.threshold


def good_mask(r: MetricContext, slos: Sequence[Slo]) -> Bools:
    """(rows,) successful requests that meet every objective."""
    good = r.ok.copy()
    for slo in slos:
        good &= meets(r, slo)
    return good


def score_tier(r: MetricContext, tier: Tier, duration_s: float | None = None) -> TierResult:
    """The tier's result over a context; `duration_s`: another time base than the benchmark's duration."""
    successful, attempted = int(np.count_nonzero(r.ok)), int(np.count_nonzero(r.attempted))
    results: list[SloResult] = []
    for slo in tier.slos:
        passed = int(np.count_nonzero(meets(r, slo) & r.ok))
        share = passed / successful if successful else None
        results.append(SloResult(slo.tag, slo.threshold / METRICS[slo.tag].unit.divisor, passed, share))
    good = int(np.count_nonzero(good_mask(r, tier.slos)))
    seconds = r.duration_s if duration_s is None else duration_s
    missed = [s for s in results if s.passed < successful]
    return TierResult(
        tier.name,
        tuple(results),
        good,
        successful,
        attempted,
        good / successful if successful else None,
        good / attempted if attempted else None,
        good / seconds if seconds > 0 else None,
        min(missed, key=lambda s: s.passed).tag if missed else None,
    )


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
        target_rate,
        by_throughput,
        by_goodput,
        by_goodput / by_throughput if by_goodput and by_throughput else None,
        wanted,
        None if wanted is None or fraction is None else fraction >= wanted,
    )


def _good_count(r: MetricContext) -> float:
    return float(np.count_nonzero(good_mask(r, r.options.slos))) if r.options.slos else float("nan")


@metric(
    "goodput",
    header="Goodput",
    unit="requests/sec",
    kind="scalar",
    console_order=1000,
    larger_is_better=True,
    formula="good_request_count / benchmark_duration",
)
def goodput(r: MetricContext) -> float:
    """Requests per second that met every objective of --goodput; absent without objectives. DistServe's definition."""
    return float(divide(_good_count(r), r.duration_s))


@metric(
    "good_request_count",
    header="Good Request Count",
    unit="requests",
    kind="scalar",
    larger_is_better=True,
    formula="successful requests that met every objective",
)
def good_request_count(r: MetricContext) -> float:
    """Requests that met every objective of --goodput; 0 or 1 in the records."""
    return _good_count(r)


@metric(
    "good_request_fraction",
    header="GoodRequestFraction",
    unit="ratio",
    kind="scalar",
    larger_is_better=True,
    formula="good_request_count / (successful + failed + cut off by the grace period)",
)
def good_request_fraction(r: MetricContext) -> float:
    """Share of the requests attempted that met every objective; cancelled on purpose or by Ctrl-C are left out."""
    return float(divide(_good_count(r), float(np.count_nonzero(r.attempted))))

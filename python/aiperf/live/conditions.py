"""Conditions (`--assert`) while the load runs, as far as the snapshots know what they are about."""

from __future__ import annotations

from aiperf.config.conditions import Condition
from aiperf.live.spread import Distribution
from aiperf.live.view import Figures, TierLine
from aiperf.outcome import Counts

__all__ = ["judge"]


def judge(
    condition: Condition,
    spreads: dict[str, Distribution],
    so_far: Figures,
    counts: Counts,
    tier: TierLine | None,
    verdict: str,
) -> tuple[str, bool | None, float | None]:
    """(value so far with its unit, whether the condition holds, margin as a share of the threshold)."""
    if condition.tag == "certificate":
        same = verdict == str(condition.value)
        return verdict, same if condition.op == "=" else not same, None
    from aiperf.metrics.assertions import OPERATORS, resolve_condition

    found = resolve_condition(condition)
    if isinstance(found, str):
        return "–", None, None
    tag, unit, threshold = found
    value = _value(tag, condition.stat or "avg", spreads, so_far, counts, tier)
    if value is None:
        return "–", None, None
    actual = f"{100 * value:.2f}%" if unit == "ratio" else f"{value:,.2f}{'%' if unit == '%' else ' ' + unit}"
    room = (
        threshold - value if condition.op in ("<", "<=") else value - threshold if condition.op in (">", ">=") else None
    )
    margin = None if room is None or not threshold else room / abs(threshold)
    return actual, OPERATORS[condition.op](value, threshold), margin


def _value(
    tag: str, stat: str, spreads: dict[str, Distribution], so_far: Figures, counts: Counts, tier: TierLine | None
) -> float | None:
    """In the metric's display unit; None if the snapshots do not know it."""
    ended = counts.ok + counts.failed
    if tag in spreads:
        spread = spreads[tag]
        if stat == "avg":
            return spread.mean_ms
        share = {"min": 0.0, "max": 1.0}.get(stat)
        if share is None and stat.startswith("p"):
            share = float(stat[1:]) / 100
        percentiles = None if share is None else spread.percentiles_ms(share)
        return None if percentiles is None else percentiles[0]
    if stat != "avg" or not ended:
        return None
    simple: dict[str, float | None] = {
        "request_throughput": so_far.requests_per_s,
        "output_token_throughput": so_far.flow if so_far.flow_unit == "tokens" else None,
        "request_count": float(counts.ok),
        "error_request_count": float(counts.failed),
        "request_error_rate": 100.0 * counts.failed / ended,
        "completed_request_count": float(ended),
        "benchmark_duration": so_far.seconds,
    }
    if tier is not None and tier.good is not None:
        simple |= {"good_request_count": float(tier.good), "goodput": tier.per_s, "good_request_fraction": tier.share}
    return simple.get(tag)

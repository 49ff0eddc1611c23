"""The figures of the cache study and what each means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiperf.studies.metric import StudyMetric

__all__ = ["METRICS"]

_USAGE: Final = "server usage (`cached_tokens`), else server metrics"


def _metric(
    name: str,
    header: str,
    unit: str,
    formula: str,
    meaning: str = "",
    *,
    source: str = _USAGE,
    larger: bool | None = None,
) -> StudyMetric:
    return StudyMetric(
        name=name, header=header, unit=unit, formula=formula, meaning=meaning, source=source, larger_is_better=larger
    )


METRICS: Final[Mapping[str, StudyMetric]] = {
    m.name: m
    for m in (
        _metric(
            "cache_efficiency",
            "Cache Efficiency",
            "%",
            "Σ (measured hit tokens − those of as many requests of the control) ÷ Σ hit tokens of an unbounded cache × 100, over the points of the gain part with a shared share above 0",
            "Of 100 tokens that an unbounded cache would have served, how many the server's cache served.",
            larger=True,
        ),
        _metric(
            "lru_efficiency",
            "Efficiency against LRU",
            "%",
            "Σ (measured hit tokens − those of as many requests of the control) ÷ Σ hit tokens of an LRU cache of the server's own block count × 100, over the same points",
            "As cache_efficiency, but against a cache of the size the server reports.",
            larger=True,
        ),
        _metric(
            "hit_rate_max",
            "Highest Hit Rate",
            "%",
            "highest measured hit tokens ÷ prompt tokens × 100 of the points of the gain part",
            larger=True,
        ),
        _metric(
            "saved_time_per_hit_token",
            "Saved Time per Hit Token",
            "µs/token",
            "b of the line (mean TTFT of the control − mean TTFT of a point) = b × (mean hit tokens of the point − those of the control), least squares through the origin, weighted by the inverse variance of each difference",
            "Prefill time, queueing at this load included, that one prompt token in the cache saves.",
            source="records (TTFT), server usage, else server metrics",
            larger=True,
        ),
        _metric(
            "ttft_gain",
            "TTFT Gain",
            "×",
            "mean TTFT of the control ÷ mean TTFT at the highest shared share",
            source="records (TTFT)",
            larger=True,
        ),
        _metric(
            "prefill_throughput_gain",
            "Prefill Throughput Gain",
            "×",
            "(Σ prompt tokens ÷ Σ TTFT) at the highest shared share ÷ the same of the control",
            source="records (TTFT)",
            larger=True,
        ),
        _metric(
            "break_even_hit_rate",
            "Break-even Hit Rate",
            "%",
            "hit rate at which (mean TTFT of the control − mean TTFT of a point) crosses 0, linear between neighbouring points; 0 if no point with hits is slower than the control beyond the 95 % interval",
            "Below it, caching costs more time than it saves.",
            source="records (TTFT), server usage, else server metrics",
            larger=False,
        ),
        _metric(
            "slo_capacity_gain",
            "Capacity Gain under the SLO",
            "×",
            "highest concurrency that meets --slo at the highest shared share ÷ the same of the control",
            source="records",
            larger=True,
        ),
        _metric(
            "knee_tokens",
            "Capacity Knee",
            "tokens",
            "size of the LRU cache that serves the measured hit tokens of the working sets behind the knee (median over these); where LRU does not explain them: geometric middle between the largest working set that was served completely and the smallest that was not",
            "Up to this many tokens of live prompts are found again.",
            larger=True,
        ),
        _metric(
            "knee_low",
            "Knee, Lower Bound",
            "tokens",
            "largest working set at which at least 98 % of the hits of an unbounded cache were measured",
            larger=True,
        ),
        _metric(
            "knee_high",
            "Knee, Upper Bound",
            "tokens",
            "smallest working set at which less than 98 % of the hits of an unbounded cache were measured",
            larger=True,
        ),
        _metric(
            "reported_tokens",
            "Reported Capacity",
            "tokens",
            "tokens per block × number of blocks, as the server reports them",
            source="server",
        ),
        _metric(
            "knee_share_of_reported",
            "Knee ÷ Reported Capacity",
            "%",
            "knee_tokens ÷ reported_tokens × 100",
            "Clearly below 100: part of the blocks does not serve as a prefix cache. Clearly above: there is a further tier.",
            larger=True,
        ),
        _metric(
            "tiers",
            "Tiers",
            "levels",
            "number of cache levels that can be distinguished: hits in the cache outside the GPU by the server's counters, and steps of the TTFT of served requests over the reuse distance that two passes show at the same place",
            source="server metrics, records (TTFT)",
        ),
        _metric(
            "fast_tier_tokens",
            "Capacity of the Fastest Tier",
            "tokens",
            "reuse distance (tokens of other prompts sent since) at which the TTFT of served requests steps up for the first time",
            source="records (TTFT)",
        ),
        _metric(
            "contamination",
            "Contamination between Runs",
            "%",
            "hit tokens ÷ prompt tokens × 100 of a run whose prompts an earlier run of the study had sent, control not subtracted",
            "How much faster an earlier run with the same seed makes a later one: these prompt tokens are already cached.",
            larger=False,
        ),
        _metric(
            "fresh_hit_rate",
            "Hits of Prompts Never Sent",
            "%",
            "hit tokens ÷ prompt tokens × 100 of the control: prompts that share nothing",
            "Tokens that all prompts have in common: chat template, default system prompt. More than that is an error in the server's accounting.",
            larger=False,
        ),
        _metric(
            "hit_rate_after_reset",
            "Hits after the Reset",
            "%",
            "hit tokens ÷ prompt tokens × 100 of prompts sent before, after the server's prefix cache was reset",
            larger=False,
        ),
        _metric(
            "affinity_hit_rate",
            "Hit Rate with Session Affinity",
            "%",
            "hit tokens ÷ prompt tokens × 100 where the requests of a prefix are one session (same X-Correlation-ID, same affinity headers)",
            larger=True,
        ),
        _metric(
            "no_affinity_hit_rate",
            "Hit Rate without Session Affinity",
            "%",
            "hit tokens ÷ prompt tokens × 100 of the same prompts in the same order, each request a session of its own",
            larger=True,
        ),
        _metric(
            "leaked_share",
            "Blocks Lost by Cancellation",
            "%",
            "(hits of a working set below the knee before − after a run whose requests were all cancelled) ÷ before × 100",
            "Above 0: blocks of cancelled requests are not used again.",
            larger=False,
        ),
        _metric(
            "trace_hit_rate",
            "Trace: Measured Hit Rate",
            "%",
            "Σ hit tokens ÷ Σ prompt tokens × 100 of the replay",
            larger=True,
        ),
        _metric(
            "trace_theoretical",
            "Trace: Theoretical Hit Rate",
            "%",
            "Σ tokens of leading blocks that an earlier request of the replay had ÷ Σ prompt tokens × 100, in the order of sending",
            source="the trace",
        ),
        _metric(
            "trace_efficiency",
            "Trace: Efficiency",
            "%",
            "trace_hit_rate ÷ trace_theoretical × 100",
            larger=True,
        ),
    )
}
"""By name, in the order of the table."""

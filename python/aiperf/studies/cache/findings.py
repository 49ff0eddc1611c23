"""What the study found, in sentences; each by a rule of docs/concepts/findings.md, from a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from aiperf.number_text import significant
from aiperf.plots.spec import number
from aiperf.reports.page.findings import Finding
from aiperf.studies.cache.capacity import Capacity
from aiperf.studies.cache.gain import Gain
from aiperf.studies.cache.isolation import Isolation
from aiperf.studies.cache.policy import NAMES, PolicyResult
from aiperf.studies.cache.replay import Trace
from aiperf.studies.cache.tiers import Tiers
from aiperf.studies.metric import StudyFigure

__all__ = ["capacity_findings", "gain_findings", "isolation_findings", "trace_findings"]

_DEAD: Final = 5.0
"""Efficiency in % below which the cache serves nothing."""
_GOOD: Final = 95.0
_LEAK: Final = 5.0
_IDLE_LEAK: Final = 1.0
_AFFINITY: Final = 10.0
_NEAR: Final = 0.05
Level = Literal["good", "plain", "warn", "bad"]
Figures = Mapping[str, StudyFigure]


def _value(figures: Figures, name: str) -> float | None:
    found = figures.get(name)
    return None if found is None else found.value


def gain_findings(gain: Gain, figures: Figures) -> Iterator[Finding]:
    """Rules cache_never_hits, cache_efficiency, cache_unknown, saved_time, break_even, cache_fresh_hits, cache_sources."""
    efficiency = _value(figures, "cache_efficiency")
    if gain.points and efficiency is None:
        reason = figures["cache_efficiency"].reason
        yield Finding(rule="cache_unknown", figure="–", text=f"The hit rate is not known: {reason}", level="warn")
    if efficiency is not None and efficiency < _DEAD:
        text = (
            f"The cache never hits: {efficiency:.1f}% of the hits an unbounded cache would have had were measured. "
            "Prefix caching is switched off or broken, or the requests of a prefix reach servers that do not share it"
        )
        yield Finding(rule="cache_never_hits", figure=f"{efficiency:.1f}%", text=text, level="bad", link="gain_hits")
    elif efficiency is not None:
        level: Level = "good" if efficiency >= _GOOD else "warn"
        text = f"The cache served {efficiency:.1f}% of what an unbounded cache would have served of these prompts"
        yield Finding(
            rule="cache_efficiency",
            figure=f"{efficiency:.1f}%",
            text=text,
            level=level,
            link="gain_hits",
        )
    yield from _time_findings(gain, figures)
    fresh = _value(figures, "fresh_hit_rate")
    if fresh is not None and fresh > 1.0:
        text = f"{fresh:.1f}% of prompts that were never sent before were counted as hits: what all prompts have in common (chat template), or an error in the server's accounting"
        yield Finding(rule="cache_fresh_hits", figure=f"{fresh:.1f}%", text=text, level="warn", link="gain_hits")
    pairs = [(p.point.usage_hits, p.point.counter_hits) for p in gain.shared]
    usage = sum(u for u, c in pairs if u is not None and c is not None)
    counters = sum(c for u, c in pairs if u is not None and c is not None)
    if usage and abs(counters - usage) > 0.05 * usage:
        text = f"`usage` and the server's counters differ: {usage:,.0f} against {counters:,.0f} hit tokens; other traffic, or different definitions"
        yield Finding(
            rule="cache_sources", figure=f"{counters / usage:.2f}×", text=text, level="warn", link="gain_hits"
        )


def _time_findings(gain: Gain, figures: Figures) -> Iterator[Finding]:
    saved = figures.get("saved_time_per_hit_token")
    if saved is not None and saved.value is not None:
        text = f"Each prompt token found in the cache saves {number(saved.value)} µs of the time to the first token"
        top = gain.shared[-1] if gain.shared else None
        ratio = _value(figures, "ttft_gain")
        if top is not None and ratio is not None:
            text += f"; at {top.share:.0f}% shared the TTFT is {number(top.point.mean_ms)} ms instead of {number(gain.control_ms)} ms ({significant(ratio, 2)}×)"
        sure = saved.low is not None and saved.low > 0
        yield Finding(
            rule="saved_time",
            figure=f"{number(saved.value)} µs",
            text=text,
            level="good" if sure else "plain",
            link="gain_time",
        )
    even = figures.get("break_even_hit_rate")
    if even is not None and even.value:
        text = f"Below a hit rate of {even.value:.0f}% caching costs more time than it saves"
        yield Finding(rule="break_even", figure=f"{even.value:.0f}%", text=text, level="warn", link="gain_time")
    elif even is not None and even.value is None and "still cost" in even.reason:
        text = "Caching cost more time than it saved at every hit rate that was measured"
        yield Finding(rule="break_even", figure="–", text=text, level="bad", link="gain_time")


def capacity_findings(
    capacity: Capacity, tiers: Tiers | None, policy: PolicyResult | None, figures: Figures
) -> Iterator[Finding]:
    """Rules cache_knee, cache_knee_unknown, cache_tiers, cache_policy."""
    knee, reported = capacity.knee, capacity.blocks.tokens
    if knee is None and capacity.points:
        text = f"No knee was found: {figures['knee_tokens'].reason}"
        yield Finding(rule="cache_knee_unknown", figure="–", text=text, level="warn", link="capacity_knee")
    elif knee is not None:
        text = f"Hits fall beyond a working set of {knee:,.0f} tokens"
        level: Level = "plain"
        if reported is not None:
            ratio = knee / reported
            text += f", {100 * ratio:.1f}% of the {reported:,} tokens that the server reports"
            level = "good" if abs(ratio - 1) <= _NEAR else "warn"
            if ratio < 1 - _NEAR:
                text += ": part of the cache does not serve prefixes (leaked or reserved blocks, another policy, several replicas)"
            elif ratio > 1 + _NEAR:
                text += ": there is a further level behind it, or the server reports one engine of several"
        yield Finding(rule="cache_knee", figure=number(knee), text=text, level=level, link="capacity_knee")
    if tiers is not None and tiers.count is not None and tiers.count > 1:
        ends = ", ".join(
            f"{s.distance:,.0f} tokens ({significant(s.near_ms, 3)} → {significant(s.far_ms, 3)} ms)"
            for s in tiers.steps or ()
        )
        text = f"The cache has {tiers.count} levels" + (
            f": the TTFT of served requests steps up at {ends}" if ends else ""
        )
        if tiers.external:
            text += f"; {100 * tiers.external:.1f}% of the hits came from outside the GPU"
        yield Finding(rule="cache_tiers", figure=f"{tiers.count}", text=text, level="plain", link="capacity_distance")
    if policy is not None and policy.policy is not None:
        name = NAMES[policy.policy]
        level = "bad" if policy.policy == "random" else "plain"
        text = f"Eviction policy: {name}, {policy.why}"
        if policy.policy == "random":
            text = f"Blocks are evicted at random, not the least recently used first: {policy.why}"
        yield Finding(rule="cache_policy", figure=policy.policy, text=text, level=level, link="capacity_policy")
    elif policy is not None:
        text = f"The eviction policy is not known: {policy.why}"
        yield Finding(rule="cache_policy", figure="–", text=text, level="plain", link="capacity_policy")


def isolation_findings(isolation: Isolation, policy: PolicyResult | None, figures: Figures) -> Iterator[Finding]:
    """Rules cache_contamination, cache_leak, cache_affinity. Where blocks are evicted at random, hits differ between equal loads."""
    again, reset = _value(figures, "contamination"), _value(figures, "hit_rate_after_reset")
    if again is not None and again > 5:
        text = (
            f"Runs contaminate each other: {again:.1f}% of prompts that an earlier run had sent were found in the cache"
        )
        if reset is not None:
            text += f"; after `--reset-kv-cache` {reset:.1f}%"
        else:
            text += f"; the cache could not be reset ({figures['hit_rate_after_reset'].reason}): use another `--random-seed` per run"
        level: Level = "warn" if reset is None or reset > 5 else "plain"
        yield Finding(rule="cache_contamination", figure=f"{again:.1f}%", text=text, level=level, link="isolation")
    elif again is not None:
        text = f"Runs do not contaminate each other: {again:.1f}% of prompts sent before were found"
        yield Finding(rule="cache_contamination", figure=f"{again:.1f}%", text=text, level="plain", link="isolation")
    lost = _value(figures, "leaked_share")
    idle = isolation.idle_growth
    if (lost is not None and lost > _LEAK) or (idle is not None and idle > _IDLE_LEAK):
        parts = [] if lost is None else [f"a working set that fits lost {lost:.1f}% of its hits"]
        if idle is not None and idle > _IDLE_LEAK:
            parts.append(f"{idle:.1f}% more of the KV cache was in use while nothing ran")
        text = f"Blocks leak after cancellation: {' and '.join(parts)} after a run whose requests were cancelled"
        yield Finding(rule="cache_leak", figure=f"{lost or idle or 0:.1f}%", text=text, level="bad", link="isolation")
    sticky, loose = _value(figures, "affinity_hit_rate"), _value(figures, "no_affinity_hit_rate")
    is_random = policy is not None and policy.policy == "random"
    if sticky is not None and loose is not None and abs(sticky - loose) > _AFFINITY and not is_random:
        text = f"Session affinity matters: hit rate {sticky:.1f}% with it, {loose:.1f}% without: the requests of a prefix reach different caches"
        yield Finding(
            rule="cache_affinity", figure=f"{sticky - loose:+.0f} pp", text=text, level="warn", link="isolation"
        )


def trace_findings(trace: Trace, figures: Figures) -> Iterator[Finding]:
    """Rule cache_trace."""
    rate, ideal = _value(figures, "trace_hit_rate"), _value(figures, "trace_theoretical")
    if rate is None or ideal is None:
        reason = figures["trace_hit_rate"].reason if rate is None else figures["trace_theoretical"].reason
        known = f"{rate:.1f}% hits measured; the" if rate is not None else "The"
        yield Finding(
            rule="cache_trace", figure="–", text=f"{known} comparison is not possible: {reason}", level="warn"
        )
        return
    text = f"Of the trace's prompt tokens {rate:.1f}% were found in the cache; {ideal:.1f}% would have been in an unbounded cache"
    lru = trace.lru_rate
    if lru is not None:
        text += f", {100 * lru:.1f}% in one of the reported size"
    share = rate / ideal if ideal else 1.0
    level: Level = "good" if share >= 0.95 else "warn"
    yield Finding(rule="cache_trace", figure=f"{rate:.1f}%", text=text, level=level, link="trace_time")

"""Agentic replay: the prefix-cache hit rate that the recordings promise, and what the context limit took out.

Tags and definitions are those of AIPerf's agentic scenario. They exist only in a replay of recorded agent sessions.
"""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext

__all__ = ["block_sums", "theoretical_prefix_cache_hit"]


def block_sums(context: MetricContext) -> tuple[int, int] | None:
    """(hit blocks, all blocks) of the successful requests, by the recordings; None if there are none."""
    facts = context.options.agents
    if facts is None or not context.num_rows:
        return None
    rows = facts.rows(context.column("session"), context.column("turn"))[context.ok]
    total = int(facts.blocks[rows].sum())
    return (int(facts.hits[rows].sum()), total) if total else None


@metric(
    "theoretical_prefix_cache_hit",
    kind="scalar",
    larger_is_better=True,
    formula="leading blocks that an earlier request of the recorded session had / all blocks × 100, over successful requests",
    provenance="the recordings",
)
def theoretical_prefix_cache_hit(context: MetricContext) -> float:
    """The hit rate of an unbounded cache that keeps each recorded session apart; compare with the server's own."""
    found = block_sums(context)
    return float("nan") if found is None else 100.0 * found[0] / found[1]


def planned_hits(context: MetricContext) -> Floats:
    """(rows,) tokens at the prompt's beginning that the recording had before; NaN without recordings."""
    facts = context.options.agents
    if facts is None:
        return context.absent()
    rows = facts.rows(context.column("session"), context.column("turn"))
    block = facts.block_tokens[facts.trace[context.column("session").astype(np.int64)]]
    return np.asarray((facts.hits[rows] * block).astype(np.float64))


@metric(
    "skipped_context_overflow_count",
    kind="scalar",
    formula="requests of an agentic replay that the server refused as longer than its context",
)
def skipped_context_overflow_count(context: MetricContext) -> float:
    """They end their stream and are in no other metric; absent if there are none."""
    return float(context.options.overflows) or float("nan")

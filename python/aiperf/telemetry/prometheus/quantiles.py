"""Quantiles of histogram buckets, and how wrong they can be."""

from __future__ import annotations

import math

import numpy as np

from aiperf.telemetry.prometheus.readings import Floats

__all__ = ["bucket_of", "histogram_quantile"]


def histogram_quantile(quantile: float, uppers: Floats, cumulated: Floats) -> float:
    """Linear within the bucket where quantile · count falls; the lowest bucket starts at 0 (or at its bound, if that is negative).

    In the open bucket it is the highest finite bound. NaN without buckets or counts. Source: Prometheus, `histogram_quantile`.
    """
    if not len(uppers) or not cumulated[-1]:
        return math.nan
    rank = quantile * float(cumulated[-1])
    bucket = int(np.searchsorted(cumulated, rank, side="left"))
    if not math.isfinite(uppers[bucket]):
        return float(uppers[bucket - 1]) if bucket else math.nan
    low = float(uppers[bucket - 1]) if bucket else min(0.0, float(uppers[0]))
    before = float(cumulated[bucket - 1]) if bucket else 0.0
    inside = float(cumulated[bucket]) - before
    return low if inside <= 0 else low + (float(uppers[bucket]) - low) * (rank - before) / inside


def bucket_of(quantile: float, uppers: Floats, cumulated: Floats) -> tuple[float, float]:
    """(low, high) of the bucket that holds the quantile: the true value lies in it. `high` is inf in the open bucket.

    Without buckets or counts (NaN, NaN).
    """
    if not len(uppers) or not cumulated[-1]:
        return math.nan, math.nan
    i = int(np.searchsorted(cumulated, quantile * float(cumulated[-1]), side="left"))
    return (float(uppers[i - 1]) if i else min(0.0, float(uppers[0]))), float(uppers[i])

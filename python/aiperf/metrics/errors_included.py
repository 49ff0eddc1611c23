"""Error-adjusted latencies: a failed request counts as infinitely slow. Only where there are failures; as AIPerf 0.13."""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext

__all__ = ["adjusted"]

_FLAGS = ("no_individual", "nearest_rank")


def adjusted(context: MetricContext, tag: str) -> Floats:
    """The metric's values with +inf for failed requests; all NaN if no request failed.

    Cancelled requests are left out (AIPerf counts them as infinite too).
    """
    if not context.failed.any():
        return context.absent()
    return np.where(context.failed, np.inf, context.value(tag))


@metric(
    "adj_time_to_first_token", formula="time_to_first_token; failed requests: ∞; nearest-rank percentiles", flags=_FLAGS
)
def adj_time_to_first_token(context: MetricContext) -> Floats:
    """Time to first token with failures as infinite; no average exists, percentiles up to the failed share do."""
    return adjusted(context, "time_to_first_token") if context.options.streaming else context.absent()


@metric("adj_request_latency", formula="request_latency; failed requests: ∞; nearest-rank percentiles", flags=_FLAGS)
def adj_request_latency(context: MetricContext) -> Floats:
    """Request latency with failures as infinite."""
    return adjusted(context, "request_latency")


@metric("adj_decode_duration", formula="decode_duration; failed requests: ∞; nearest-rank percentiles", flags=_FLAGS)
def adj_decode_duration(context: MetricContext) -> Floats:
    """Decode duration with failures as infinite."""
    return adjusted(context, "decode_duration") if context.options.streaming else context.absent()


@metric(
    "adj_inter_token_latency",
    formula="inter_token_latency; failed requests: ∞; nearest-rank percentiles",
    flags=_FLAGS,
    provenance="client clock, tokens",
)
def adj_inter_token_latency(context: MetricContext) -> Floats:
    """Inter-token latency with failures as infinite."""
    return adjusted(context, "inter_token_latency") if context.options.streaming else context.absent()

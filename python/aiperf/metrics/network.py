"""Latencies less the network's round trip (`--network-latency-automatic`, `--network-latency-mean`): what the server took.

They make runs from different places comparable. Inter-token and inter-chunk latencies need no correction: the round trip is in
both of their ends. Without the flags none of these metrics exists. Tags and definitions are AIPerf 0.13's.
"""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext

__all__ = ["network_rtt"]


@metric(
    "network_rtt",
    kind="scalar",
    formula="mean of the TCP handshakes of the probes, or --network-latency-mean",
    provenance="TCP handshakes beside the load",
)
def network_rtt(context: MetricContext) -> float:
    """The round trip between client and server that the network-adjusted latencies are without."""
    return float("nan") if context.options.network_rtt_ns is None else context.options.network_rtt_ns


def _less_rtt(context: MetricContext, tag: str) -> Floats:
    if context.options.network_rtt_ns is None:
        return context.absent()
    return np.asarray(np.maximum(context.value(tag) - context.options.network_rtt_ns, 0.0))


@metric(
    "network_adjusted_request_latency",
    formula="max(0, request_latency − network_rtt)",
    provenance="client clock, TCP handshakes beside the load",
    flags=("no_individual",),
)
def network_adjusted_request_latency(context: MetricContext) -> Floats:
    """Request latency less one round trip."""
    return _less_rtt(context, "request_latency")


@metric(
    "network_adjusted_time_to_first_token",
    formula="max(0, time_to_first_token − network_rtt)",
    provenance="client clock, TCP handshakes beside the load",
    flags=("no_individual",),
)
def network_adjusted_time_to_first_token(context: MetricContext) -> Floats:
    """Time to first token less one round trip."""
    return _less_rtt(context, "time_to_first_token")


@metric(
    "network_adjusted_time_to_first_output_token",
    formula="max(0, time_to_first_output_token − network_rtt)",
    provenance="client clock, TCP handshakes beside the load",
    flags=("no_individual",),
)
def network_adjusted_time_to_first_output_token(context: MetricContext) -> Floats:
    """Time to first visible token less one round trip."""
    return _less_rtt(context, "time_to_first_output_token")

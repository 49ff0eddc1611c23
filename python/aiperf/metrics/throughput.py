"""Rates: per user (one value per request) and of the whole system (per second of benchmark duration)."""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext, divide

__all__ = ["benchmark_duration", "request_throughput"]


@metric(
    "output_token_throughput_per_user",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="1 / inter_token_latency in seconds",
)
def output_token_throughput_per_user(context: MetricContext) -> Floats:
    """Speed at which a user sees text after the first token; none if ITL is 0 or absent."""
    return divide(1e9, context.value("inter_token_latency"))


@metric(
    "e2e_output_token_throughput",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="OSL / request_latency in seconds",
)
def e2e_output_token_throughput(context: MetricContext) -> Floats:
    """Tokens per second of waiting, the first token's wait included."""
    return divide(context.value("output_sequence_length") * 1e9, context.value("request_latency"))


@metric(
    "prefill_throughput_per_user",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="ISL / time_to_first_token in seconds",
)
def prefill_throughput_per_user(context: MetricContext) -> Floats:
    """Prompt tokens per second until the first token, queueing included (0.3: prefill_throughput)."""
    return divide(context.value("input_sequence_length") * 1e9, context.value("time_to_first_token"))


@metric("benchmark_duration", kind="scalar", formula="max(start + request_latency) − min(start), successful requests")
def benchmark_duration(context: MetricContext) -> float:
    """From the first start to the last end of a successful request."""
    return context.duration_s * 1e9


@metric("min_request_timestamp", kind="scalar", formula="min(start), wall clock", flags=("internal",))
def min_request_timestamp(context: MetricContext) -> float:
    """Epoch ns of the first start of a successful request."""
    return (
        float(np.nanmin(context.start[context.ok])) + context.columns.start_wall_ns
        if context.ok.any()
        else float("nan")
    )


@metric("max_response_timestamp", kind="scalar", formula="max(end), wall clock", flags=("internal",))
def max_response_timestamp(context: MetricContext) -> float:
    """Epoch ns of the last end of a successful request."""
    return (
        float(np.nanmax(context.finish[context.ok])) + context.columns.start_wall_ns
        if context.ok.any()
        else float("nan")
    )


def _rate(context: MetricContext, amount: float) -> float:
    return float(divide(amount, context.duration_s))


@metric(
    "output_token_throughput",
    kind="scalar",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="Σ OSL / benchmark_duration",
)
def output_token_throughput(context: MetricContext) -> float:
    """Tokens per second the system produced."""
    return _rate(context, context.total("output_sequence_length"))


@metric(
    "input_token_throughput",
    kind="scalar",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="Σ ISL / benchmark_duration",
)
def input_token_throughput(context: MetricContext) -> float:
    """Prompt tokens per second the system took in."""
    return _rate(context, context.total("input_sequence_length"))


@metric(
    "total_token_throughput",
    kind="scalar",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="Σ (ISL + OSL) / benchmark_duration",
)
def total_token_throughput(context: MetricContext) -> float:
    """Prompt and output tokens per second."""
    return _rate(context, context.total("input_sequence_length") + context.total("output_sequence_length"))


@metric("request_throughput", kind="scalar", larger_is_better=True, formula="request_count / benchmark_duration")
def request_throughput(context: MetricContext) -> float:
    """Successful requests per second."""
    return _rate(context, float(np.count_nonzero(context.ok)))


@metric("request_count", kind="scalar", larger_is_better=True, formula="number of successful requests")
def request_count(context: MetricContext) -> float:
    """Requests that got a whole, usable reply."""
    return float(np.count_nonzero(context.ok))

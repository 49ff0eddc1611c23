"""Failed and cancelled requests. Cancelled ones are a class of their own (see `metrics.context`), not errors."""

from __future__ import annotations

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext

__all__ = ["error_isl", "request_error_rate"]


@metric("completed_request_count", kind="scalar", larger_is_better=True, formula="successful + failed requests")
def completed_request_count(context: MetricContext) -> float:
    """Requests that came to an end of their own; cancelled ones (AIPerf counts them as errors) are left out."""
    return float(np.count_nonzero(~context.cancelled))


@metric("request_error_rate", kind="scalar", formula="failed / (successful + failed) × 100")
def request_error_rate(context: MetricContext) -> float:
    """Share of requests the server failed. Cancelled requests count on neither side."""
    done = np.count_nonzero(~context.cancelled)
    return 100.0 * np.count_nonzero(context.failed) / done if done else float("nan")


@metric("error_request_count", kind="scalar", formula="number of failed requests")
def error_request_count(context: MetricContext) -> float:
    """Failed requests; absent on clean runs, as AIPerf."""
    return float(np.count_nonzero(context.failed)) or float("nan")


@metric(
    "cancelled_request_count",
    kind="scalar",
    formula="number of cancelled requests (on purpose, by the grace period, by Ctrl-C)",
)
def cancelled_request_count(context: MetricContext) -> float:
    """Cancelled requests; absent where there are none. Ours."""
    return float(np.count_nonzero(context.cancelled)) or float("nan")


@metric("context_overflow_count", kind="scalar", formula="failed requests whose prompt exceeded the model's context")
def context_overflow_count(context: MetricContext) -> float:
    """Requests the server refused because they are longer than its context window."""
    return float(np.count_nonzero(context.error_kind == ErrorKind.CONTEXT_OVERFLOW))


@metric("error_isl", larger_is_better=True, provenance="tokens", formula="ISL of failed requests", flags=("errors",))
def error_isl(context: MetricContext) -> Floats:
    """Prompt tokens of failed requests."""
    return np.where(context.failed, context.input_tokens, np.nan)


@metric("total_error_isl", kind="scalar", larger_is_better=True, provenance="tokens", formula="Σ error_isl")
def total_error_isl(context: MetricContext) -> float:
    """Prompt tokens sent for nothing."""
    return context.total("error_isl")

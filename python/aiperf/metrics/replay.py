"""How faithfully a trace's timing was replayed; only where requests had due times of their own. As AIPerf 0.13."""

from __future__ import annotations

import numpy as np

from aiperf.metrics import metric
from aiperf.metrics.context import MetricContext

__all__ = ["REPLAY_DEGRADED_NS", "replay_lag"]

REPLAY_DEGRADED_NS = 100e6
"""A replay whose p99 lag exceeds this is called degraded: at 100 ms bursts of a trace begin to blur."""


def replay_lag(context: MetricContext, percentile: float) -> float:
    """Percentile of (start − scheduled) − min(start − scheduled), ns; NaN if the run was no replay."""
    if not context.options.is_schedule:
        return float("nan")
    lag = context.start - context.scheduled
    lag = lag[~np.isnan(lag)]
    return float(np.percentile(lag - lag.min(), percentile)) if len(lag) else float("nan")


_FORMULA = "p{0} of (start − scheduled), less the smallest of them"


@metric("replay_sched_lag_p50", kind="scalar", formula=_FORMULA.format(50))
def replay_sched_lag_p50(context: MetricContext) -> float:
    """Median lateness of sends against the trace."""
    return replay_lag(context, 50)


@metric("replay_sched_lag_p90", kind="scalar", formula=_FORMULA.format(90))
def replay_sched_lag_p90(context: MetricContext) -> float:
    """90th percentile of the lateness of sends against the trace."""
    return replay_lag(context, 90)


@metric("replay_sched_lag_p99", kind="scalar", formula=_FORMULA.format(99))
def replay_sched_lag_p99(context: MetricContext) -> float:
    """99th percentile of the lateness of sends against the trace."""
    return replay_lag(context, 99)


@metric("replay_sched_degraded", kind="scalar", formula="1 if replay_sched_lag_p99 > 100 ms, else 0")
def replay_sched_degraded(context: MetricContext) -> float:
    """Whether the trace's timing was blurred by the client."""
    lag = replay_lag(context, 99)
    return float("nan") if np.isnan(lag) else float(lag > REPLAY_DEGRADED_NS)

"""Limits on a point as AIPerf takes them: of what was measured, without a margin. How sure a limit is met: `judge`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiperf.config.conditions import Condition
from aiperf.sweeps.judge import judge
from aiperf.sweeps.points import RunPoint
from aiperf.sweeps.trial import sample_of
from aiperf.units import threshold_in

__all__ = ["constraints_json", "filter_json", "holds"]

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
_OPERATORS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "=": "eq", "==": "eq"}


def filter_json(condition: Condition) -> dict[str, object]:
    """AIPerf's keys of a condition."""
    return {
        "metric_tag": condition.tag,
        "stat": condition.stat or "avg",
        "op": _OPERATORS.get(condition.op, condition.op),
        "threshold": condition.value,
    }


def holds(condition: Condition, point: RunPoint) -> bool:
    """Of the metric as measured; of what is no metric of a run, as the condition is judged."""
    observed = point.figure(condition.tag, condition.stat or "avg")
    if observed is None or isinstance(condition.value, str):
        return judge([sample_of(r, is_open=False) for r in point.runs], condition).verdict == "pass"
    limit = threshold_in(condition.value, condition.unit, point.units.get(condition.tag, ""))
    return limit is not None and _COMPARE[condition.op](observed, limit)


def constraints_json(conditions: Sequence[Condition], points: Sequence[RunPoint]) -> dict[str, object]:
    """`sla_constraints` of AIPerf's sweep file."""
    kept = sum(all(holds(c, p) for c in conditions) for p in points)
    return {
        "active_filters": [filter_json(c) for c in conditions],
        "feasible_count": kept,
        "infeasible_count": len(points) - kept,
    }

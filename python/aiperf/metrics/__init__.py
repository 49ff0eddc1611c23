"""Metrics: functions over record columns, each with a tag, a unit, a direction, a provenance and a formula.

A per-request metric returns (rows,) float64 in its base unit, NaN where it does not exist. A scalar metric returns one
float. The decorator registers them; `METRICS` lists them by tag. Modules in this package are imported by `load_all`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiperf.records import Columns
from aiperf.units import UNITS, Unit

__all__ = ["METRICS", "Metric", "metric"]

Floats = NDArray[np.float64]
Kind = Literal["request", "scalar", "chunks", "weighted"]
"""request: one value per request. scalar: one value per run. chunks: values pooled over chunks. weighted: time-weighted."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`console_order`: row in the table, None hides it there. `formula`, `source` and the docstring are what `explain` prints.

    `provenance`: what its value rests on: "client clock", "tokens" (see the run's token provenance), "server usage", ….
    `flags`: "internal", "experimental" (not exported), "no_individual" (not in the JSONL), "errors" (rows that failed),
    "needs_streaming".
    """

    tag: str
    header: str
    unit: Unit
    kind: Kind
    compute: Callable[..., Floats | float]
    console_order: int | None
    larger_is_better: bool
    provenance: str
    formula: str
    doc: str
    flags: frozenset[str]


METRICS: dict[str, Metric] = {}


def metric(
    tag: str,
    *,
    header: str,
    unit: str,
    kind: Kind = "request",
    console_order: int | None = None,
    larger_is_better: bool = False,
    provenance: str = "client clock",
    formula: str,
    flags: tuple[str, ...] = (),
) -> Callable[[Callable[..., Floats | float]], Callable[..., Floats | float]]:
    """Register the decorated function as the metric `tag`; its docstring is the definition and names the source."""

    def register(function: Callable[..., Floats | float]) -> Callable[..., Floats | float]:
        METRICS[tag] = Metric(
            tag, header, UNITS[unit], kind, function, console_order, larger_is_better, provenance, formula,
            (function.__doc__ or "").strip(), frozenset(flags),
        )  # fmt: skip
        return function

    return register


_ = Columns

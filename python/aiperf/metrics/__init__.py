"""Metrics: functions over record columns, each with a tag, a unit, a direction, a provenance and a formula.

The decorator registers a function; `METRICS` lists them by tag after `load_all()`. What a function takes and returns
depends on its kind:

* request: `(MetricContext) -> (rows,) float64` in the base unit, NaN where the value does not exist
* scalar: `(MetricContext) -> float`, NaN if absent
* chunks: `((gaps,) int64 ns) -> (gaps,) float64`, of the gaps between the content chunks of all requests
* weighted: `(Sweep) -> (intervals,) float64`, the value of a step function; NaN where the time does not count
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from aiperf.units import UNITS, Unit

__all__ = ["METRICS", "TABLE_TITLES", "Bools", "Floats", "Ints", "Kind", "Metric", "Table", "load_all", "metric"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_F = TypeVar("_F", bound=Callable[..., "Floats | float"])
Kind = Literal["request", "scalar", "chunks", "weighted"]
Table = Literal["main", "effective", "active", "usage", "http", "energy"]
TABLE_TITLES: Final[dict[Table, str]] = {
    "main": "The table",
    "effective": "Over time (whole run)",
    "active": "Over time (while busy)",
    "usage": "Counted by the server",
    "http": "HTTP phases",
    "energy": "GPU energy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """`console_order`: row in the table `table`, None hides it on screen. `formula` and `doc` are what `explain` prints.

    `provenance`: what its value rests on: "client clock", "tokens" (see the run's token provenance), "server usage", ….
    `flags`: "internal", "experimental" (not exported), "no_individual" (not in the JSONL), "errors" (rows that failed),
    "needs_streaming", "nearest_rank" (percentiles by nearest rank, infinite values allowed).
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
    table: Table = "main"

    @property
    def is_exported(self) -> bool:
        return not self.flags & {"internal", "experimental"}


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
    table: Table = "main",
) -> Callable[[_F], _F]:
    """Register the decorated function as the metric `tag`; its docstring is the definition and names the source."""

    def register(function: _F) -> _F:
        METRICS[tag] = Metric(
            tag=tag,
            header=header,
            unit=UNITS[unit],
            kind=kind,
            compute=function,
            console_order=console_order,
            larger_is_better=larger_is_better,
            provenance=provenance,
            formula=formula,
            doc=(function.__doc__ or "").strip(),
            flags=frozenset(flags),
            table=table,
        )
        return function

    return register


@cache
def load_all() -> dict[str, Metric]:
    """All metrics by tag: imports every module of this package (and those behind the entry points `aiperf.metrics`)."""
    from importlib.metadata import entry_points

    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    for entry in entry_points(group="aiperf.metrics"):
        entry.load()
    return METRICS

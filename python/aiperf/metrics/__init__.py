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
from dataclasses import dataclass, fields
from functools import cache
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from aiperf.tags import TABLE_TITLES, TAGS, SliceRule, TableName, Tag
from aiperf.units import UNITS

__all__ = ["METRICS", "TABLE_TITLES", "Bools", "Floats", "Ints", "Kind", "Metric", "TableName", "load_all", "metric"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_Function = TypeVar("_Function", bound=Callable[..., "Floats | float"])
Kind = Literal["request", "scalar", "chunks", "weighted"]
_SLICES: Final[dict[Kind, SliceRule]] = {"request": "ended", "scalar": "-", "chunks": "-", "weighted": "time"}
"""How slices count a third party's metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Tag):
    """A tag with what computes it. `formula` and `doc` are what `explain` prints.

    `provenance`: what its value rests on: "client clock", "tokens" (see the run's token provenance), "server usage", ….
    `flags`: "internal", "experimental" (not exported), "no_individual" (not in the JSONL), "errors" (rows that failed),
    "nearest_rank" (percentiles by nearest rank, infinite values allowed).
    """

    kind: Kind
    compute: Callable[..., Floats | float]
    larger_is_better: bool
    provenance: str
    formula: str
    doc: str
    flags: frozenset[str]

    @property
    def is_exported(self) -> bool:
        return not self.flags & {"internal", "experimental"}


METRICS: dict[str, Metric] = {}


def metric(
    tag: str,
    *,
    kind: Kind = "request",
    larger_is_better: bool = False,
    provenance: str = "client clock",
    formula: str,
    flags: tuple[str, ...] = (),
    header: str | None = None,
    unit: str | None = None,
    console_order: int | None = None,
    table: TableName = "main",
) -> Callable[[_Function], _Function]:
    """Register the decorated function as the metric `tag`; its docstring is the definition and names the source.

    Header, unit and place of a built-in metric are in `aiperf.tags`; another's are given here, `header` and `unit` always, with
    "needs_streaming" among the `flags` where it applies.
    """
    row = TAGS.get(tag) or Tag(
        tag=tag,
        header=tag if header is None else header,
        unit=UNITS["count" if unit is None else unit],
        order=console_order,
        slices=_SLICES[kind] if not {"internal", "experimental"} & set(flags) else "-",
        table=table,
        needs_streaming="needs_streaming" in flags,
    )

    def register(function: _Function) -> _Function:
        METRICS[tag] = Metric(
            **{f.name: getattr(row, f.name) for f in fields(row)},
            kind=kind,
            compute=function,
            larger_is_better=larger_is_better,
            provenance=provenance,
            formula=formula,
            doc=(function.__doc__ or "").strip(),
            flags=frozenset(flags) - {"needs_streaming"},
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

"""The front of a trade-off: points that no other point beats in both figures. By default TPS/GPU against TPS/user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiperf.metrics import load_all
from aiperf.plots.charts.pareto import DEFAULT_X, DEFAULT_Y
from aiperf.sweeps.points import RunPoint

__all__ = ["DEFAULT_X", "DEFAULT_Y", "Pareto", "figure_of", "pareto_front"]


@dataclass(frozen=True, slots=True)
class Pareto:
    """`on_front`: indices of the points on it, by ascending x.

    `sure`: per point, whether it stays on (or off) the front if every figure moves to the end of its interval that speaks against it.
    """

    x: str
    y: str
    on_front: tuple[int, ...]
    sure: tuple[bool, ...]


def figure_of(point: RunPoint, name: str) -> tuple[float | None, tuple[float, float] | None]:
    """(value, interval) of `tag` or `tag:stat`; `…_per_gpu` divides by the GPUs (by 1 if they are not known)."""
    tag, _, stat = name.partition(":")
    stat = stat or "avg"
    gpus = 1.0
    if tag.endswith("_per_gpu"):
        tag, gpus = tag.removesuffix("_per_gpu"), float(point.num_gpus or 1)
    value = point.figure(tag, stat)
    interval = point.intervals.get((tag, stat))
    return (
        None if value is None else value / gpus,
        None if interval is None else (interval[0] / gpus, interval[1] / gpus),
    )


def _is_larger_better(name: str) -> bool:
    tag = name.partition(":")[0].removesuffix("_per_gpu")
    found = load_all().get(tag)
    return found is not None and found.larger_is_better


def pareto_front(points: Sequence[RunPoint], x_figure: str = DEFAULT_X, y_figure: str = DEFAULT_Y) -> Pareto:
    """Points that lack one of the figures are never on the Pareto front."""
    signs = [1.0 if _is_larger_better(n) else -1.0 for n in (x_figure, y_figure)]
    intervals = [(figure_of(p, x_figure), figure_of(p, y_figure)) for p in points]
    values = [None if a[0] is None or b[0] is None else (signs[0] * a[0], signs[1] * b[0]) for a, b in intervals]

    def ends(
        pair: tuple[tuple[float | None, tuple[float, float] | None], tuple[float | None, tuple[float, float] | None]],
        best: bool,
    ) -> tuple[float, float] | None:
        out = []
        for (value, interval), sign in zip(pair, signs, strict=True):
            if value is None:
                return None
            low, high = interval or (value, value)
            out.append(max(sign * low, sign * high) if best else min(sign * low, sign * high))
        return out[0], out[1]

    def beaten(one: tuple[float, float], others: Sequence[tuple[float, float] | None]) -> bool:
        return any(o is not None and o[0] >= one[0] and o[1] >= one[1] and o != one for o in others)

    front = [i for i, v in enumerate(values) if v is not None and not beaten(v, values)]
    low, high = [ends(f, best=False) for f in intervals], [ends(f, best=True) for f in intervals]
    sure: list[bool] = []
    for index, v in enumerate(values):
        if v is None:
            sure.append(True)
        elif index in front:
            mine = low[index]
            sure.append(mine is not None and not beaten(mine, [h for j, h in enumerate(high) if j != index]))
        else:
            mine = high[index]
            sure.append(mine is not None and beaten(mine, [o for j, o in enumerate(low) if j != index]))
    return Pareto(
        x=x_figure,
        y=y_figure,
        on_front=tuple(sorted(front, key=lambda i: intervals[i][0][0] or 0.0)),
        sure=tuple(sure),
    )

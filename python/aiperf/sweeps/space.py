"""From lists of option values to points: all combinations or the n-th of each together; names of their folders; seeds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from zlib import crc32

import numpy as np

from aiperf.config.as_aiperf import variation_folder
from aiperf.config.sections.sweep import Axis, Scenario
from aiperf.number_text import exact
from aiperf.sweeps.points import AXIS_FIELDS, flag_name

__all__ = ["Point", "build_points", "directory_name", "order_points", "order_runs", "seed_of_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """`index`: its place in the order given. `values`: option path → value. `title`, `settings`: of a scenario, its name and all
    that it sets, numbers or not; `values` are then those of the load and the lengths. `recipe`: of --search-recipe.
    """

    index: int
    values: Mapping[str, float]
    title: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    recipe: str | None = None

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.+=,-]+", "_", self.title) or directory_name(self.values, self.recipe)

    @property
    def label(self) -> str:
        return self.title or ", ".join(f"{flag_name(p)} {exact(v)}" for p, v in self.values.items())


def directory_name(values: Mapping[str, float], recipe: str | None = None) -> str:
    """`concurrency_10`, `mean_100__rate_2.5`: as AIPerf names the folder."""
    return variation_folder(values, recipe)


def build_points(
    axes: Sequence[Axis], kind: str, scenarios: Sequence[Scenario] = (), recipe: str | None = None
) -> list[Point]:
    """`kind`: "grid" (the last axis changes fastest) or "zip". Without axes: one point without values. `scenarios`: one point each."""
    if scenarios:
        return [
            Point(index=i, values=_numbers(s.values), title=s.name, settings=s.values) for i, s in enumerate(scenarios)
        ]
    lists = [axis.values for axis in axes]
    rows = zip(*lists, strict=True) if kind == "zip" and axes else itertools.product(*lists)
    named = [{a.field: v for a, v in zip(axes, row, strict=True)} for row in rows]
    return [Point(index=i, values=values, recipe=recipe) for i, values in enumerate(named)]


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {p: v for p in AXIS_FIELDS if isinstance(v := values.get(p), int | float) and not isinstance(v, bool)}


def order_points(points: Sequence[Point], order: str, seed: int) -> list[Point]:
    """As given, or shuffled: drift of the server then does not look like an effect of the load."""
    if order != "random":
        return list(points)
    shuffled = np.random.default_rng([seed, 0x0D3]).permutation(len(points))
    return [points[int(i)] for i in shuffled]


def order_runs(points: Sequence[Point], trials: int, mode: str) -> list[tuple[Point, int]]:
    """(point, repeat) of each run: every point once before the first is repeated, or all repeats of a point together."""
    if mode == "repeated":
        return [(point, trial) for trial in range(trials) for point in points]
    return [(point, trial) for point in points for trial in range(trials)]


def seed_of_run(
    base: int, point: str, trial: int, *, same_point: bool, same_trial: bool, is_varied: bool = False
) -> int:
    """A seed of its own for each point and each repeat, so that no run finds the prompts of another in the server's prefix cache.

    `same_point`: --parameter-sweep-same-seed. `same_trial`: --set-consistent-seed, or a seed of the user's. `is_varied`:
    --vary-seed-per-trial, by AIPerf 0.13's rule (SHA-256 over seed, variation and trial, 63 bits).
    """
    if is_varied:
        text = f"{base}:variation:{'base' if same_point else point or 'base'}:trial:{trial}"
        return int.from_bytes(sha256(text.encode()).digest()[:8], "big") & ((1 << 63) - 1)
    parts = "" if same_point else f"/{point}"
    if trial and not same_trial:
        parts += f"/trial {trial}"
    return base if not parts else crc32(f"{base}{parts}".encode()) & 0x7FFF_FFFF

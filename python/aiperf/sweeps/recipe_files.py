"""What recipes say of a finished sweep: lines for the screen, and AIPerf's files in `sweep_aggregate/`, with its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aiperf.config.model import Config
from aiperf.config.recipes import parse_tiers
from aiperf.json_text import json_text
from aiperf.reports.writing import write_text
from aiperf.sweeps.aggregate_files import aggregate_folder
from aiperf.sweeps.judge import judge
from aiperf.sweeps.limits import filter_json, holds
from aiperf.sweeps.points import RunPoint
from aiperf.sweeps.trial import sample_of
from aiperf.terminal import Text

__all__ = ["finish_recipe", "recipe_axes"]

_LOAD, _ISL, _OSL = "load.concurrency", "prompt.isl_mean", "prompt.osl_mean"
_AS_AIPERF: Final = {
    _LOAD: "phases.profiling.concurrency",
    _ISL: "datasets.main.prompts.isl",
    _OSL: "datasets.main.prompts.osl",
}
_R2_FLOOR: Final = 0.85
"""AIPerf's: a straight line that explains less is replaced by a parabola, and what explains less still is marked."""
_PARETO_AXES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "concurrency-ramp": ("request_latency", "p95", "output_token_throughput", "avg"),
    "max-concurrency-under-sla": ("request_latency", "p95", "concurrency", "value"),
    "max-goodput-under-slo": ("request_latency", "p95", "goodput", "avg"),
    "max-throughput-itl-sla": ("inter_token_latency", "p99", "output_token_throughput", "avg"),
    "max-throughput-ttft-sla": ("time_to_first_token", "p99", "output_token_throughput", "avg"),
    "pareto-sweep": ("time_to_first_token", "p95", "output_token_throughput", "avg"),
}
"""AIPerf's, of the recipes that have them: the metric and statistic to the right, and upwards."""


def recipe_axes(recipe: str | None) -> dict[str, object] | None:
    """`pareto_axes` of AIPerf's sweep file."""
    found = _PARETO_AXES.get(recipe or "")
    if found is None:
        return None
    x, x_stat, y, y_stat = found
    series = ["isl", "osl"] if recipe == "pareto-sweep" else []
    right = {"x_metric": x, "x_stat": x_stat, "x_minimize": True}
    return {**right, "y_metric": y, "y_stat": y_stat, "y_maximize": True, "series_keys": series}


def finish_recipe(config: Config, points: Sequence[RunPoint], folder: Path) -> list[Text]:
    """`points` in the order of load. Writes the recipe's file; what it says in words, and the tiers of `--search-sla-tier`."""
    lines = _tiers(config, points)
    sweep = config.sweep
    content: dict[str, object] | None = None
    name = ""
    if sweep.search_recipe == "concurrency-ramp" or config.is_set("sweep.degradation_threshold"):
        name, (content, line) = "degradation_knee.json", _knee(config, points)
        lines.append(line)
    elif sweep.search_recipe == "pareto-sweep":
        name, content = "pareto_sweep.json", _pareto(points)
    elif sweep.search_recipe == "prefill-ttft-curve":
        name, content = "prefill_curve.json", _curve(points)
    elif sweep.search_recipe == "decode-itl-curve":
        name, content = "decode_itl_surface.json", _surface(points)
    elif sweep.search_recipe == "max-concurrency-under-sla":
        name, content = "sla_breach.json", _breach(config, points)
    if content is not None:
        write_text(aggregate_folder(config, folder) / name, json_text(content, indent=2) + "\n")
    return lines


def _tiers(config: Config, points: Sequence[RunPoint]) -> list[Text]:
    lines = []
    for label, conditions in parse_tiers(config.sweep.sla_tiers):
        met = [
            p
            for p in points
            if all(
                judge([sample_of(r, is_open=False) for r in p.runs], c).verdict == "pass"
                for c in (*conditions, *config.sweep.slo)
            )
        ]
        best = max(met, key=lambda p: p.load or 0.0, default=None)
        wanted = " and ".join(map(str, conditions))
        lines.append(Text(f"Tier {label} ({wanted}): {'no point, or none for sure' if best is None else best.label}"))
    return lines


def _along(points: Sequence[RunPoint], path: str, tag: str, stat: str = "avg") -> list[tuple[float, float]]:
    """(value of the option, metric) of the points that have both, in the order of the option."""
    return sorted((p.values[path], v) for p in points if path in p.values and (v := p.figure(tag, stat)) is not None)


def _whole(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


def _knee(config: Config, points: Sequence[RunPoint]) -> tuple[dict[str, object], Text]:
    """The first concurrency whose metric is above that of the lowest by more than the threshold."""
    sweep = config.sweep
    tag, stat, threshold = sweep.degradation_metric_tag, sweep.degradation_stat, sweep.degradation_threshold
    measured = [(_whole(load), value) for load, value in _along(points, _LOAD, tag, stat)]
    first = measured[0] if measured else None
    knee = None if first is None else next((p for p in measured[1:] if p[1] > first[1] * (1 + threshold)), None)
    content: dict[str, object] = {
        "baseline_concurrency": first and first[0],
        f"baseline_{stat}": first and first[1],
        "knee_concurrency": knee and knee[0],
        f"knee_{stat}": knee and knee[1],
        "threshold_pct": threshold,
        "swept_metric": tag,
        "stat": stat,
        "swept_param": _AS_AIPERF[_LOAD],
        "all_points": [{"concurrency": load, stat: value} for load, value in measured],
    }
    if first is None:
        return content, Text(f"Degradation: no point has `{tag}:{stat}`")
    where = "at no concurrency measured" if knee is None else f"from concurrency {knee[0]} on"
    return content, Text(f"{tag}:{stat} is more than {threshold:.0%} above that of the lowest concurrency {where}")


def _pareto(points: Sequence[RunPoint]) -> dict[str, object]:
    """TTFT p95 against output throughput: a cell is optimal if no other is as good in both and better in one."""
    cells = [
        {"isl": p.values.get(_ISL), "osl": p.values.get(_OSL), "concurrency": p.values.get(_LOAD), "x": x, "y": y}
        for p in points
        if (x := p.figure("time_to_first_token", "p95")) is not None
        and (y := p.figure("output_token_throughput")) is not None
    ]

    def beats(a: dict[str, float | None], b: dict[str, float | None]) -> bool:
        ax, ay, bx, by = (float(v or 0.0) for v in (a["x"], a["y"], b["x"], b["y"]))
        return ax <= bx and ay >= by and (ax < bx or ay > by)

    marked = [{**cell, "pareto_optimal": not any(beats(other, cell) for other in cells)} for cell in cells]
    axes = {"x_metric": "time_to_first_token", "x_stat": "p95", "y_metric": "output_token_throughput", "y_stat": "avg"}
    return {**axes, "cells": marked}


def _curve(points: Sequence[RunPoint]) -> dict[str, object]:
    """TTFT over the input length: the line through it, or the parabola where that explains more of what varies."""
    measured = _along(points, _ISL, "time_to_first_token")
    fit: dict[str, object]
    if len(measured) < 2:
        why = f"a curve needs two points with a TTFT, not {len(measured)}"
        fit = {"fit_form": "linear", "coefficients": [], "r_squared": 0.0, "below_floor": True, "error_reason": why}
    else:
        form, coefficients, r2 = "linear", *_fitted(measured, 1)
        if r2 < _R2_FLOOR and len(measured) > 2 and (curved := _fitted(measured, 2))[1] > r2:
            form, coefficients, r2 = "quadratic", *curved
        fit = {"fit_form": form, "coefficients": coefficients, "r_squared": r2, "below_floor": r2 < _R2_FLOOR}
    return {
        **fit,
        "r_squared_floor": _R2_FLOOR,
        "raw_points": [{"isl": isl, "ttft_ms": value} for isl, value in measured],
        "swept_metric": "time_to_first_token",
        "stat": "avg",
        "swept_param": _AS_AIPERF[_ISL],
    }


def _fitted(points: Sequence[tuple[float, float]], degree: int) -> tuple[list[float], float]:
    """Coefficients of least squares, the highest power first, and the share of the variance that they explain (0 without any)."""
    x, y = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    coefficients = np.polyfit(x, y, degree)
    left, all_of_it = float(((y - np.polyval(coefficients, x)) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    return [float(c) for c in coefficients], 1.0 - left / all_of_it if all_of_it else 0.0


def _surface(points: Sequence[RunPoint]) -> dict[str, object]:
    """ITL by concurrency (rows) and output length (columns); null where nothing was measured."""
    tag = "inter_token_latency"
    measured = sorted(
        (p.values[_LOAD], p.values[_OSL], itl)
        for p in points
        if _LOAD in p.values and _OSL in p.values and (itl := p.figure(tag)) is not None
    )
    is_surface = len(measured) > 1
    loads, lengths = (sorted({row[i] for row in measured}) if is_surface else [] for i in (0, 1))
    cells = {(load, length): itl for load, length, itl in measured}
    out: dict[str, object] = {
        "swept_metric": tag,
        "stat": "avg",
        "swept_params": [_AS_AIPERF[_LOAD], _AS_AIPERF[_OSL]],
        "raw_points": [{"concurrency": load, "osl": length, "itl_ms": itl} for load, length, itl in measured],
        "surface": {
            "concurrency_axis": loads,
            "osl_axis": lengths,
            "itl_grid": [[cells.get((load, length)) for length in lengths] for load in loads],
        },
        "surface_fit_failed": not is_surface,
    }
    return (
        out if is_surface else {**out, "error_reason": f"a surface needs two points with an ITL, not {len(measured)}"}
    )


def _breach(config: Config, points: Sequence[RunPoint]) -> dict[str, object]:
    """The highest concurrency whose metrics, as measured, meet every limit, and the lowest where one does not."""
    rows = []
    for point in sorted((q for q in points if _LOAD in q.values), key=lambda q: q.values[_LOAD]):
        missed = [c for c in config.sweep.slo if not holds(c, point)]
        breaches = [{**filter_json(c), "observed": point.figure(c.tag, c.stat or "avg")} for c in missed]
        rows.append((_whole(point.values[_LOAD]), breaches))
    passed = [load for load, breaches in rows if not breaches]
    failed = next((row for row in rows if row[1]), None)
    return {
        "swept_param": _AS_AIPERF[_LOAD],
        "max_passing_concurrency": max(passed, default=None),
        "first_failing_concurrency": failed and failed[0],
        "first_failing_breach": failed and failed[1][0],
        "all_points": [{"concurrency": load, "feasible": not b, "breaches": b} for load, b in rows],
        "monotonicity_check": failed is None or max(passed, default=failed[0]) <= failed[0],
        "filters": [filter_json(c) for c in config.sweep.slo],
    }

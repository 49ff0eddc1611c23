"""What recipes say of a finished sweep: lines for the screen, and AIPerf's files in `sweep_aggregate/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiperf.config.model import Config
from aiperf.config.recipes import parse_tiers
from aiperf.json_text import json_text
from aiperf.reports.writing import write_text
from aiperf.sweeps.aggregate_files import aggregate_folder
from aiperf.sweeps.judge import judge
from aiperf.sweeps.points import RunPoint
from aiperf.sweeps.trial import sample_of
from aiperf.terminal import Text

__all__ = ["finish_recipe"]

_LOAD, _ISL, _OSL = "load.concurrency", "prompt.isl_mean", "prompt.osl_mean"


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


def _knee(config: Config, points: Sequence[RunPoint]) -> tuple[dict[str, object], Text]:
    """The first concurrency whose metric is above the first point's by more than the threshold."""
    sweep = config.sweep
    tag, stat = sweep.degradation_metric_tag, sweep.degradation_stat
    measured = [
        (p.values[_LOAD], value) for p in points if _LOAD in p.values and (value := p.figure(tag, stat)) is not None
    ]
    limit = measured[0][1] * (1 + sweep.degradation_threshold) if measured else None
    knee = next((load for load, value in measured if limit is not None and value > limit), None)
    content: dict[str, object] = {
        "metric_tag": tag,
        "stat": stat,
        "degradation_threshold": sweep.degradation_threshold,
        "baseline_concurrency": measured[0][0] if measured else None,
        "baseline_value": measured[0][1] if measured else None,
        "knee_concurrency": knee,
        "points": [{"concurrency": load, "value": value} for load, value in measured],
    }
    if limit is None:
        return content, Text(f"Degradation: no point has `{tag}:{stat}`")
    share = f"{sweep.degradation_threshold:.0%}"
    where = "at no concurrency measured" if knee is None else f"from concurrency {knee:g} on"
    return content, Text(f"{tag}:{stat} is more than {share} above the first point's {where}")


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
    curve = [
        {"isl": p.values[_ISL], "ttft_ms": value}
        for p in points
        if _ISL in p.values and (value := p.figure("time_to_first_token")) is not None
    ]
    return {"metric_tag": "time_to_first_token", "stat": "avg", "points": curve}


def _surface(points: Sequence[RunPoint]) -> dict[str, object]:
    """ITL by concurrency (rows) and output length (columns); null where nothing was measured."""
    loads = sorted({p.values[_LOAD] for p in points if _LOAD in p.values})
    lengths = sorted({p.values[_OSL] for p in points if _OSL in p.values})
    found = {(p.values.get(_LOAD), p.values.get(_OSL)): p.figure("inter_token_latency") for p in points}
    grid = [[found.get((load, length)) for length in lengths] for load in loads]
    return {"metric_tag": "inter_token_latency", "stat": "avg", "concurrency": loads, "osl": lengths, "itl_ms": grid}


def _breach(config: Config, points: Sequence[RunPoint]) -> dict[str, object]:
    """The first concurrency that misses a condition, and the last before it."""
    rows = []
    for p in points:
        samples = [sample_of(r, is_open=False) for r in p.runs]
        missed = [str(c) for c in config.sweep.slo if judge(samples, c).verdict == "fail"]
        rows.append({"concurrency": p.values.get(_LOAD), "missed": missed})
    first = next((i for i, row in enumerate(rows) if row["missed"]), None)
    return {
        "sla": [str(c) for c in config.sweep.slo],
        "last_feasible_concurrency": None if first == 0 or not rows else rows[(first or len(rows)) - 1]["concurrency"],
        "first_breach_concurrency": None if first is None else rows[first]["concurrency"],
        "points": rows,
    }

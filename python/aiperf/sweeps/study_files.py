"""Files of a study: AIPerf's names and keys (`sweep_aggregate/`, `aggregate/`, `search_history.json`), and the table itself.

A metric is called `<tag>_<stat>` there and has `{mean, std, min, max, cv, se, ci_low, ci_high, t_critical, unit}` over the runs of a
point; with one run only mean, min and max exist, the rest is null.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from aiperf.json_text import json_text
from aiperf.metrics.confidence import t_quantile
from aiperf.run.data import RunData
from aiperf.sweeps.points import RunPoint, flag_name
from aiperf.sweeps.search import SearchResult
from aiperf.sweeps.table import SweepTable, winner_lines

__all__ = [
    "metric_statistics",
    "render_aggregate_csv",
    "render_aggregate_json",
    "render_search_history",
    "render_sweep_csv",
    "render_sweep_json",
    "render_table_csv",
    "table_json",
]

Statistics = dict[str, dict[str, float | str | None]]
_FIELDS = ("mean", "std", "min", "max", "cv", "se", "ci_low", "ci_high", "t_critical", "unit")


def metric_statistics(runs: Sequence[RunData], level: float = 0.95) -> Statistics:
    """`<tag>_<stat>` → statistics over the runs."""
    out: Statistics = {}
    for tag in sorted({t for r in runs for t in r.figures}):
        for stat in dict.fromkeys(s for r in runs for s in r.figures.get(tag, {})):
            values = np.array(
                [v for r in runs if (v := r.figures.get(tag, {}).get(stat)) is not None], dtype=np.float64
            )
            n, mean = len(values), float(values.mean())
            std = float(values.std(ddof=1)) if n > 1 else None
            se = std / math.sqrt(n) if std is not None else None
            t = t_quantile((1 + level) / 2, n - 1) if n > 1 else None
            half = se * t if se is not None and t is not None else None
            unit = next((r.units[tag] for r in runs if tag in r.units), "")
            out[f"{tag}_{stat}"] = {
                "mean": mean,
                "std": std,
                "min": float(values.min()),
                "max": float(values.max()),
                "cv": std / abs(mean) if std is not None and mean else None,
                "se": se,
                "ci_low": None if half is None else mean - half,
                "ci_high": None if half is None else mean + half,
                "t_critical": t,
                "unit": unit,
            }
    return out


def _parameters(point: RunPoint) -> dict[str, float]:
    return {flag_name(p): int(v) if float(v).is_integer() else v for p, v in point.values.items()}


def _best(points: Sequence[RunPoint], statistics: Sequence[Statistics]) -> dict[str, object]:
    """AIPerf's two: the highest request throughput, and the lowest p99 of TTFT (of the latency, without a stream)."""
    out: dict[str, object] = {}
    latency = (
        "time_to_first_token_p99" if any("time_to_first_token_p99" in s for s in statistics) else "request_latency_p99"
    )
    for name, key, sign in (("best_throughput", "request_throughput_avg", 1), ("best_latency_p99", latency, -1)):
        found = [
            (sign * float(m), i) for i, s in enumerate(statistics) if isinstance(m := s.get(key, {}).get("mean"), float)
        ]
        if found:
            index = max(found)[1]
            stats = statistics[index][key]
            out[name] = {"parameters": _parameters(points[index]), "metric": stats["mean"], "unit": stats["unit"]}
    return out


def table_json(table: SweepTable) -> dict[str, object]:
    """The table, the roles and the front, for machines."""
    rows = [
        {
            "label": r.point.label,
            "parameters": _parameters(r.point),
            "runs": [str(p) for p in r.point.paths],
            "role": r.role,
            "output_token_throughput": r.tps,
            "output_token_throughput_per_gpu": r.tps_per_gpu,
            "output_token_throughput_per_user": r.tps_per_user,
            "time_to_first_token": r.ttft_ms,
            "scaling_efficiency": r.scaling,
            "throughput_ratio": r.tps_ratio,
            "per_user_change": r.user_change,
            "time_to_first_token_ratio": r.ttft_ratio,
            "share_within_ttft_limit": r.within,
            "good_request_fraction": r.point.good_fraction,
            "cost_per_million_tokens": r.cost,
            "cost_per_million_good_tokens": r.good_cost,
            "requests_per_gpu_hour": r.requests_per_gpu_hour,
            "successful": r.point.num_ok,
            "failed": r.point.num_failed,
            "certificate": r.point.verdict,
            "on_pareto_front": i in table.pareto.on_front,
            "intervals": {f"{t}_{s}": list(v) for (t, s), v in r.point.intervals.items()},
        }
        for i, r in enumerate(table.rows)
    ]
    return {
        "axes": [flag_name(p) for p in table.axes],
        "ttft_limit_ms": table.ttft_limit_ms,
        "rows": rows,
        "winners": {goal: table.rows[i].point.label for goal, i in table.roles.winners},
        "winner_texts": winner_lines(table),
        "collapse": None
        if table.roles.collapse is None
        else {"label": table.rows[table.roles.collapse[0]].point.label, "text": table.roles.collapse[1]},
        "pareto": asdict(table.pareto),
        "notes": table.notes,
    }


def render_sweep_json(table: SweepTable, failed: Sequence[Mapping[str, object]] = (), level: float = 0.95) -> str:
    """`profile_export_aiperf_sweep.json`: AIPerf's keys, and ours under `sweep_table`."""
    points = table.points
    statistics = [metric_statistics(p.runs, level) for p in points]
    num_runs = sum(len(p.paths) for p in points)
    parameters = [
        {"name": flag_name(path), "values": sorted({p.values[path] for p in points if path in p.values})}
        for path in table.axes
    ]
    content = {
        "aggregation_type": "sweep",
        "num_profile_runs": num_runs + len(failed),
        "num_successful_runs": num_runs,
        "failed_runs": list(failed),
        "metadata": {"sweep_parameters": parameters, "num_combinations": len(points), "confidence_level": level},
        "per_combination_metrics": [
            {"parameters": _parameters(p), "metrics": s} for p, s in zip(points, statistics, strict=True)
        ],
        "best_configurations": _best(points, statistics),
        "pareto_optimal": [_parameters(points[i]) for i in table.pareto.on_front],
        "sweep_table": table_json(table),
    }
    return json_text(content, indent=2) + "\n"


def _cell(value: object, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def render_sweep_csv(table: SweepTable, level: float = 0.95) -> str:
    """`profile_export_aiperf_sweep.csv`: AIPerf's sections."""
    points = table.points
    statistics = [metric_statistics(p.runs, level) for p in points]
    names = [flag_name(p) for p in table.axes]
    metrics = sorted({m for s in statistics for m in s})
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write([*names, *(f"{m}_{f}" for m in metrics for f in ("mean", "std", "min", "max", "cv"))])
    for point, stats in zip(points, statistics, strict=True):
        parameters = _parameters(point)
        row: list[str] = [str(parameters.get(n, "")) for n in names]
        for m in metrics:
            found = stats.get(m, {})
            row += [_cell(found.get(f), 4 if f == "cv" else 2) for f in ("mean", "std", "min", "max", "cv")]
        write(row)
    best = _best(points, statistics)
    write([])
    write(["Best Configurations"])
    if best:
        write(["Configuration", *names, "Metric", "Unit"])
    for name, found_best in best.items():
        if isinstance(found_best, dict):
            chosen = found_best["parameters"]
            write(
                [
                    name.replace("_", " ").title(),
                    *(chosen.get(n, "") for n in names),
                    _cell(found_best["metric"]),
                    found_best["unit"],
                ]
            )
    write([])
    write(["Pareto Optimal Points"])
    write(names if table.pareto.on_front else ["None"])
    for index in table.pareto.on_front:
        parameters = _parameters(points[index])
        write([parameters.get(n, "") for n in names])
    write([])
    write(["Metadata"])
    write(["Field", "Value"])
    write(["Aggregation Type", "sweep"])
    write(["Sweep Parameters", ", ".join(names)])
    write(["Number of Combinations", len(points)])
    write(["Number of Profile Runs", sum(len(p.paths) for p in points)])
    write(["Number of Successful Runs", sum(len(p.paths) for p in points)])
    return out.getvalue()


def render_table_csv(table: SweepTable) -> str:
    """`sweep_table.csv`: one row per point, what the screen shows, full precision."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    names = [flag_name(p) for p in table.axes]
    columns = (
        "output_token_throughput",
        "output_token_throughput_per_gpu",
        "output_token_throughput_per_user",
        "time_to_first_token",
        "scaling_efficiency",
        "throughput_ratio",
        "per_user_change",
        "time_to_first_token_ratio",
        "share_within_ttft_limit",
        "good_request_fraction",
        "cost_per_million_tokens",
        "cost_per_million_good_tokens",
        "requests_per_gpu_hour",
        "successful",
        "failed",
        "certificate",
        "role",
        "on_pareto_front",
    )
    write([*names, *columns])
    rows = table_json(table)["rows"]
    for row in rows if isinstance(rows, list) else []:
        write([*(row["parameters"].get(n, "") for n in names), *("" if row[c] is None else row[c] for c in columns)])
    return out.getvalue()


def render_aggregate_json(
    runs: Sequence[RunData], failed: Sequence[Mapping[str, object]], level: float, version: str
) -> str:
    """`profile_export_aiperf_aggregate.json`: repeats of one configuration."""
    content = {
        "schema_version": "1.4",
        "aiperf_version": version,
        "metadata": {
            "aggregation_type": "confidence",
            "num_profile_runs": len(runs) + len(failed),
            "num_successful_runs": len(runs),
            "failed_runs": list(failed),
            "confidence_level": level,
            "run_labels": [r.path.name for r in runs],
        },
        "metrics": metric_statistics(runs, level),
    }
    return json_text(content, indent=2) + "\n"


def render_aggregate_csv(runs: Sequence[RunData], num_runs: int, level: float) -> str:
    """`profile_export_aiperf_aggregate.csv`."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(["Aggregation Type", "confidence"])
    write(["Total Runs", num_runs])
    write(["Successful Runs", len(runs)])
    write(["Confidence Level", level])
    write([])
    write(["metric", *_FIELDS])
    for name, stats in metric_statistics(runs, level).items():
        write([name, *(_cell(stats[f], 4) for f in _FIELDS)])
    return out.getvalue()


def render_search_history(
    result: SearchResult, parameter: str, conditions: Sequence[str], metric: str | None = None
) -> str:
    """`search_history.json`: AIPerf's `iterations` and `boundary_summary`, and every probe with its interval; enough for a plot."""
    passed = [p for p in result.probes if p.outcome.verdict == "pass"]
    content = {
        "config": {"parameter": parameter, "conditions": list(conditions), "objective_metric": metric},
        "iterations": [
            {
                "iteration_idx": i,
                "variation_values": {parameter: p.value},
                "objective_values": None if p.outcome.objective is None else [p.outcome.objective],
                "feasible": p.outcome.verdict == "pass",
                "verdict": p.outcome.verdict,
                "margin": p.outcome.margin,
                "margin_low": p.outcome.margin_low,
                "margin_high": p.outcome.margin_high,
                "over_saturated": p.outcome.is_hopeless,
                "figures": dict(p.outcome.figures),
                "reason": p.outcome.reason,
                "requests": p.requests,
                "runs": p.calls,
            }
            for i, p in enumerate(result.probes)
        ],
        "boundary_summary": {
            "swept_dim_path": parameter,
            "feasible_max": None if not passed else {"value": max(p.value for p in passed)},
            "infeasible_min": None if result.high is None else {"value": result.high},
            "convergence_reason": result.status,
        },
        "result": {
            "status": result.status,
            "value": result.value,
            "estimate": result.estimate,
            "low": result.low,
            "high": result.high,
            "requests": result.requests,
            "text": result.text,
        },
    }
    return json_text(content, indent=2) + "\n"

"""Files of a study: AIPerf's names and keys (`sweep_aggregate/`), and the table itself.

A point that was run once has AIPerf's `<tag>` with the run's own statistics, and `<tag>_<stat>` as points with repeats have it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aiperf.config.as_aiperf import aiperf_names, aiperf_values
from aiperf.config.conditions import Condition
from aiperf.config.model import Config
from aiperf.json_text import json_text
from aiperf.reports.writing import write_text
from aiperf.sweeps.aggregate_files import Statistics, aggregate_folder, metric_statistics
from aiperf.sweeps.limits import constraints_json
from aiperf.sweeps.points import RunPoint, flag_name
from aiperf.sweeps.recipe_files import recipe_axes
from aiperf.sweeps.table import SweepTable, winner_lines

__all__ = [
    "SweepFacts",
    "render_sweep_csv",
    "render_sweep_json",
    "render_table_csv",
    "table_json",
    "write_sweep_files",
]


def _parameters(point: RunPoint) -> dict[str, float]:
    """By our options."""
    return {flag_name(p): int(v) if float(v).is_integer() else v for p, v in point.values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFacts:
    """What the options say of a sweep. `mode`: of --parameter-sweep-mode; `recipe`: of --search-recipe; `slo`: of --slo."""

    level: float = 0.95
    mode: str = "repeated"
    recipe: str | None = None
    slo: tuple[Condition, ...] = ()

    @classmethod
    def of(cls, config: Config) -> SweepFacts:
        s = config.sweep
        return cls(level=s.confidence_level, mode=s.parameter_sweep_mode, recipe=s.search_recipe, slo=s.slo)


def write_sweep_files(
    config: Config, folder: Path, table: SweepTable, failed: Sequence[Mapping[str, object]] = ()
) -> None:
    """AIPerf's files over all points, where it has them."""
    target, facts = aggregate_folder(config, folder), SweepFacts.of(config)
    write_text(target / "profile_export_aiperf_sweep.json", render_sweep_json(table, failed, facts))
    write_text(target / "profile_export_aiperf_sweep.csv", render_sweep_csv(table, facts))


def _as_aiperf(point: RunPoint, recipe: str | None) -> dict[str, int | float]:
    """By AIPerf's names of parameters."""
    names, values = aiperf_names(point.values, recipe), aiperf_values(point.values, recipe)
    return dict(zip(names.values(), values.values(), strict=True))


def _best(points: Sequence[RunPoint], statistics: Sequence[Statistics], recipe: str | None) -> dict[str, object]:
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
            out[name] = {
                "parameters": _as_aiperf(points[index], recipe),
                "metric": stats["mean"],
                "unit": stats["unit"],
            }
    return out


def table_json(table: SweepTable) -> dict[str, object]:
    """The table, the roles and the front, for machines."""
    rows = [
        {
            "label": row.point.label,
            "parameters": _parameters(row.point),
            "runs": [str(p) for p in row.point.paths],
            "role": row.role,
            "output_token_throughput": row.tps,
            "output_token_throughput_per_gpu": row.tps_per_gpu,
            "output_token_throughput_per_user": row.tps_per_user,
            "time_to_first_token": row.ttft_ms,
            "scaling_efficiency": row.scaling,
            "throughput_ratio": row.tps_ratio,
            "per_user_change": row.user_change,
            "time_to_first_token_ratio": row.ttft_ratio,
            "share_within_ttft_limit": row.within,
            "good_request_fraction": row.point.good_fraction,
            "cost_per_million_tokens": row.cost,
            "cost_per_million_good_tokens": row.good_cost,
            "requests_per_gpu_hour": row.requests_per_gpu_hour,
            "successful": row.point.num_ok,
            "failed": row.point.num_failed,
            "certificate": row.point.verdict,
            "on_pareto_front": i in table.pareto.on_front,
            "intervals": {f"{t}_{s}": list(v) for (t, s), v in row.point.intervals.items()},
        }
        for i, row in enumerate(table.rows)
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


def _own_statistics(point: RunPoint) -> dict[str, dict[str, float | str | None]]:
    """Of a point that was run once: `<tag>` → the run's statistics, and `mean`. One run has no spread: null."""
    if len(point.runs) != 1:
        return {}
    run = point.runs[0]
    out: dict[str, dict[str, float | str | None]] = {}
    for tag, figures in run.figures.items():
        mean = figures.get("avg")
        spread = dict.fromkeys(("std", "cv", "ci_low", "ci_high"))
        out[tag] = {"mean": mean, "min": mean, "max": mean, **figures, **spread, "unit": run.units.get(tag, "")}
    return out


def render_sweep_json(
    table: SweepTable, failed: Sequence[Mapping[str, object]] = (), facts: SweepFacts | None = None
) -> str:
    """`profile_export_aiperf_sweep.json`: AIPerf's keys, and ours under `sweep_table`."""
    facts = facts or SweepFacts()
    points = table.points
    statistics = [metric_statistics(p.runs, facts.level) for p in points]
    num_runs = sum(len(p.paths) for p in points)
    paths = list(dict.fromkeys(path for p in points for path in p.values))
    names = aiperf_names(paths, facts.recipe)
    parameters = [
        {
            "name": name,
            "values": list(dict.fromkeys(_as_aiperf(p, facts.recipe)[name] for p in points if path in p.values)),
        }
        for path, name in names.items()
    ]
    content = {
        "aggregation_type": "sweep",
        "num_profile_runs": num_runs + len(failed),
        "num_successful_runs": num_runs,
        "failed_runs": list(failed),
        "metadata": {
            "sweep_parameters": parameters,
            "num_combinations": len(points),
            "sweep_mode": facts.mode,
            "num_trials_per_value": max((len(p.paths) for p in points), default=0),
            "aggregation_type": "sweep",
            "confidence_level": facts.level,
            **({"sla_constraints": constraints_json(facts.slo, points)} if facts.slo else {}),
            **({"pareto_axes": axes} if (axes := recipe_axes(facts.recipe)) else {}),
        },
        "per_combination_metrics": [
            {"parameters": _as_aiperf(p, facts.recipe), "metrics": {**s, **_own_statistics(p)}}
            for p, s in zip(points, statistics, strict=True)
        ],
        "best_configurations": _best(points, statistics, facts.recipe),
        "pareto_optimal": [_as_aiperf(points[i], facts.recipe) for i in table.pareto.on_front],
        "sweep_table": table_json(table),
    }
    return json_text(content, indent=2) + "\n"


def _cell(value: object, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def render_sweep_csv(table: SweepTable, facts: SweepFacts | None = None) -> str:
    """`profile_export_aiperf_sweep.csv`: AIPerf's sections."""
    facts = facts or SweepFacts()
    points = table.points
    statistics = [metric_statistics(p.runs, facts.level) | _own_statistics(p) for p in points]
    names = list(aiperf_names(dict.fromkeys(path for p in points for path in p.values), facts.recipe).values())
    metrics = sorted({m for s in statistics for m in s})
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write([*names, *(f"{m}_{f}" for m in metrics for f in ("mean", "std", "min", "max", "cv"))])
    for point, stats in zip(points, statistics, strict=True):
        parameters = _as_aiperf(point, facts.recipe)
        row: list[str] = [str(parameters.get(n, "")) for n in names]
        for m in metrics:
            found = stats.get(m, {})
            row += [_cell(found.get(f), 4 if f == "cv" else 2) for f in ("mean", "std", "min", "max", "cv")]
        write(row)
    best = _best(points, statistics, facts.recipe)
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
        parameters = _as_aiperf(points[index], facts.recipe)
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

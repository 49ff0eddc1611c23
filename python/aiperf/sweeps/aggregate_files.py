"""Files of repeats: AIPerf's `profile_export_aiperf_aggregate.{json,csv}` and `profile_export_aiperf_collated.json`.

A metric is called `<tag>_<stat>` there and has `{mean, std, min, max, cv, se, ci_low, ci_high, t_critical, unit}` over the runs of a
point; with one run only mean, min and max exist, the rest is null.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiperf.config.as_aiperf import aiperf_values, aiperf_version
from aiperf.config.model import Config
from aiperf.json_text import json_text
from aiperf.metrics import Floats
from aiperf.metrics.confidence import t_quantile
from aiperf.reports.writing import write_text
from aiperf.run.data import RunData
from aiperf.sweeps.points import RunPoint
from aiperf.sweeps.submission import submission_metadata

__all__ = [
    "AggregateFacts",
    "Statistics",
    "aggregate_folder",
    "metric_statistics",
    "render_aggregate_csv",
    "render_aggregate_json",
    "render_collated_json",
    "write_aggregates",
]

Statistics = dict[str, dict[str, float | str | None]]
_FIELDS = ("mean", "std", "min", "max", "cv", "se", "ci_low", "ci_high", "t_critical", "unit")
_SCHEMA = "1.0"
"""AIPerf's of its aggregates, which has nothing to do with that of the summary."""
_COLLATED = (
    "Values of single requests of all runs, pooled, and their percentiles; "
    "profile_export_aiperf_aggregate.json has statistics over the runs' own figures."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateFacts:
    """What there is to say of the runs of a point besides their figures.

    `failed`: runs without a successful request, `{label, error}`. `variation`: of a sweep's point, AIPerf's keys.
    """

    version: str
    level: float = 0.95
    cooldown_s: float = 0.0
    failed: Sequence[Mapping[str, object]] = ()
    variation: Mapping[str, object] | None = None
    scenario: str | None = None
    prefix: str | None = None


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
            critical = t_quantile((1 + level) / 2, n - 1) if n > 1 else None
            half = se * critical if se is not None and critical is not None else None
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
                "t_critical": critical,
                "unit": unit,
            }
    return out


def _metadata(runs: Sequence[RunData], facts: AggregateFacts) -> dict[str, object]:
    return {
        "confidence_level": facts.level,
        "run_labels": [_label(r) for r in runs],
        **({"single_run": True} if len(runs) == 1 else {}),
        "cooldown_seconds": facts.cooldown_s,
        **submission_metadata(
            [r.path for r in runs],
            scenario=facts.scenario,
            failed=len(facts.failed),
            is_sweep=facts.variation is not None,
            prefix=facts.prefix,
        ),
        **(facts.variation or {}),
    }


def _label(run: RunData) -> str:
    """`run_0001` of `profile_runs/run_0001`, `trial_0001` of either mode of a sweep with repeats: the repeat's number."""
    name = next((part for part in reversed(run.path.parts) if part.startswith(("run_", "trial_"))), "")
    number = name.rpartition("_")[2]
    return f"run_{number}" if number.isdigit() else "run_0001"


def render_aggregate_json(runs: Sequence[RunData], facts: AggregateFacts) -> str:
    """`profile_export_aiperf_aggregate.json`: repeats of one configuration."""
    content = {
        "schema_version": _SCHEMA,
        "aiperf_version": facts.version,
        "metadata": {
            "aggregation_type": "confidence",
            "num_profile_runs": len(runs) + len(facts.failed),
            "num_successful_runs": len(runs),
            "failed_runs": list(facts.failed),
            **_metadata(runs, facts),
        },
        "metrics": metric_statistics(runs, facts.level),
    }
    return json_text(content, indent=2) + "\n"


def render_aggregate_csv(runs: Sequence[RunData], facts: AggregateFacts) -> str:
    """`profile_export_aiperf_aggregate.csv`: the table first, so that it is read as one; what is known of the runs behind it."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(["metric", *_FIELDS])
    for name, stats in metric_statistics(runs, facts.level).items():
        write([name, *(_cell(stats[f], 4) for f in _FIELDS)])
    write([])
    write(["Aggregation Type", "confidence"])
    write(["Total Runs", len(runs) + len(facts.failed)])
    write(["Successful Runs", len(runs)])
    for key, value in _metadata(runs, facts).items():
        write([key.replace("_", " ").title(), value])
    return out.getvalue()


def render_collated_json(runs: Sequence[RunData], facts: AggregateFacts) -> str:
    """`profile_export_aiperf_collated.json` (with --convergence-metric): values of all runs' requests pooled, per metric."""
    metrics: dict[str, object] = {}
    found = [(r, _values(r)) for r in runs]
    for tag in sorted({t for _, of_run in found for t in of_run}):
        parts = [(r, values) for r, of_run in found if len(values := of_run.get(tag, np.zeros(0)))]
        if not parts:
            continue
        pooled = np.concatenate([values for _, values in parts])
        metrics[tag] = {
            "combined": {
                "mean": float(pooled.mean()),
                "std": float(pooled.std(ddof=1)) if len(pooled) > 1 else None,
                **{f"p{p}": float(np.percentile(pooled, p)) for p in (50, 90, 95, 99)},
                "count": len(pooled),
            },
            "per_run": [
                {"label": _label(r), "mean": float(values.mean()), "count": len(values)} for r, values in parts
            ],
        }
    content = {
        "schema_version": "1.0.0",
        "aiperf_version": facts.version,
        "description": _COLLATED,
        "metadata": {
            "aggregation_type": "detailed",
            "num_profile_runs": len(runs) + len(facts.failed),
            "num_successful_runs": len(runs),
            "failed_runs": list(facts.failed),
            "run_labels": [_label(r) for r in runs],
            "cooldown_seconds": facts.cooldown_s,
        },
        "metrics": metrics,
    }
    return json_text(content, indent=2) + "\n"


def _values(run: RunData) -> dict[str, Floats]:
    """By metric, of each measured request that succeeded: all that its line of `profile_export.jsonl` says; what was read of the run
    where there is no such file (`--export-level summary`).
    """
    path = None if run.origin is None else run.origin.files.jsonl
    if path is None or not path.is_file():
        return {tag: values[np.isfinite(values)] for tag, values in run.series.items()}
    out: dict[str, list[float]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record["metadata"]["benchmark_phase"] != "profiling" or "error" in record:
                continue
            for tag, entry in record["metrics"].items():
                if isinstance(value := entry["value"], int | float):
                    out.setdefault(tag, []).append(value)
    return {tag: np.array(values, dtype=np.float64) for tag, values in out.items()}


def _cell(value: object, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def aggregate_folder(config: Config, folder: Path) -> Path:
    """Where AIPerf puts what is said of all points of a sweep."""
    s = config.sweep
    is_inside = s.num_profile_runs > 1 and s.parameter_sweep_mode == "repeated"
    return folder / "aggregate" / "sweep_aggregate" if is_inside else folder / "sweep_aggregate"


def write_aggregates(
    config: Config,
    folder: Path,
    points: Sequence[tuple[str, RunPoint]],
    failed: Sequence[Mapping[str, object]],
) -> None:
    """Statistics over the repeats of each point, in AIPerf's folders. `points`: with the name of its folder, empty without a sweep."""
    sweep = config.sweep
    for name, point in points:
        if not name:
            target = folder / "aggregate"
        elif sweep.parameter_sweep_mode == "repeated":
            target = folder / "aggregate" / name
        else:
            target = folder / name / "aggregate"
        facts = AggregateFacts(
            version=aiperf_version(config),
            level=sweep.confidence_level,
            cooldown_s=sweep.profile_run_cooldown_seconds,
            failed=[f for f in failed if not name or name in str(f["label"]).split("/")],
            variation=_variation(config, point) if name else None,
            scenario=config.agentic.scenario,
            prefix=config.output.profile_export_prefix,
        )
        write_text(target / "profile_export_aiperf_aggregate.json", render_aggregate_json(point.runs, facts))
        write_text(target / "profile_export_aiperf_aggregate.csv", render_aggregate_csv(point.runs, facts))
        if sweep.convergence_metric is not None and not name:
            write_text(target / "profile_export_aiperf_collated.json", render_collated_json(point.runs, facts))


def _variation(config: Config, point: RunPoint) -> dict[str, object]:
    values = aiperf_values(point.values, config.sweep.search_recipe)
    return {
        "variation_label": point.label
        if config.sweep.scenarios
        else ", ".join(f"{k}={v}" for k, v in values.items()) or point.label,
        "variation_values": values,
        "sweep_mode": config.sweep.parameter_sweep_mode,
        "model": config.endpoint.model_names[0],
    }

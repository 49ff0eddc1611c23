"""`search_history.json`: what a search tried and found, in AIPerf's keys, with ours beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiperf.config.as_aiperf import aiperf_values
from aiperf.config.model import Config
from aiperf.json_text import json_text
from aiperf.sweeps.limits import filter_json
from aiperf.sweeps.optimise import SpaceTrial, parse_space
from aiperf.sweeps.points import flag_name
from aiperf.sweeps.search import SearchResult

__all__ = ["render_bracket", "render_trials"]


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """One value, or one point. `more`: our own keys."""

    values: Mapping[str, float]
    objective: float | None
    feasible: bool
    more: Mapping[str, object] = field(default_factory=dict)


def render_bracket(config: Config, result: SearchResult, path: str, *, maximised: bool) -> str:
    """Of a search along one option: every probe with its interval, enough for a plot. `path`: of the option."""
    tried = [
        _Tried(
            values={path: probe.value},
            objective=probe.outcome.objective,
            feasible=probe.outcome.verdict == "pass",
            more={
                "verdict": probe.outcome.verdict,
                "margin": probe.outcome.margin,
                "margin_low": probe.outcome.margin_low,
                "margin_high": probe.outcome.margin_high,
                "over_saturated": probe.outcome.is_hopeless,
                "figures": dict(probe.outcome.figures),
                "reason": probe.outcome.reason,
                "requests": probe.requests,
                "runs": probe.calls,
            },
        )
        for probe in result.probes
    ]
    metric = "goodput" if maximised else flag_name(path)
    content = _content(config, tried, metric, maximised=True, reason=result.status)
    content["config"] = {**_config(config, metric, maximised=True), "parameter": flag_name(path)}
    # A value that passed only in part is no limit; the search's own interval says more.
    boundary = content["boundary_summary"]
    if isinstance(boundary, dict):
        boundary["infeasible_min"] = None if result.high is None else {"value": result.high}
        boundary["convergence_reason"] = result.status
    content["result"] = {
        "status": result.status,
        "value": result.value,
        "estimate": result.estimate,
        "low": result.low,
        "high": result.high,
        "requests": result.requests,
        "text": result.text,
    }
    return json_text(content, indent=2) + "\n"


def render_trials(config: Config, trials: Sequence[SpaceTrial], metric: str, *, maximised: bool) -> str:
    """Of a search over `--search-space`."""
    tried = [
        _Tried(values=t.values, objective=t.objective, feasible=t.feasible, more={"requests": t.requests})
        for t in trials
    ]
    content = _content(config, tried, metric, maximised=maximised, reason="max_iterations")
    content["result"] = {"requests": sum(t.requests for t in trials)}
    return json_text(content, indent=2) + "\n"


def _content(
    config: Config, tried: Sequence[_Tried], metric: str, *, maximised: bool, reason: str
) -> dict[str, object]:
    return {
        "config": _config(config, metric, maximised=maximised),
        "iterations": [
            {
                "iteration_idx": number,
                "variation_values": aiperf_values(trial.values),
                "objective_values": None if trial.objective is None else [trial.objective],
                "feasible": trial.feasible,
                "non_monotonic_warning": _is_out_of_order(tried[: number + 1]),
                **trial.more,
            }
            for number, trial in enumerate(tried)
        ],
        "best_trials": _best(tried, maximised=maximised),
        "boundary_summary": _boundary(tried),
        "recipe": config.sweep.search_recipe,
        "convergence_reason": reason,
    }


def _config(config: Config, metric: str, *, maximised: bool) -> dict[str, object]:
    sweep = config.sweep
    return {
        "planner": sweep.search_planner or ("bayesian" if sweep.search == "space" else "monotonic_sla"),
        "objectives": [
            {
                "metric": metric,
                "stat": sweep.search_stat,
                "direction": "MAXIMIZE" if maximised else "MINIMIZE",
                "threshold": None,
            }
        ],
        "outcome_constraints": [],
        "max_iterations": sweep.search_max_iterations,
        "n_initial_points": sweep.search_initial_points,
        "random_seed": sweep.search_random_seed,
        "search_space": [
            {
                "path": next(iter(aiperf_values({dimension.path: dimension.low}))),
                "lo": dimension.low,
                "hi": dimension.high,
                "kind": "int" if dimension.is_whole else "real",
            }
            for dimension in parse_space(sweep.search_space)
        ],
        "sla_filters": [filter_json(c) for c in sweep.slo],
        "conditions": [str(c) for c in sweep.slo],
        "objective_metric": f"{metric}:{sweep.search_stat}",
    }


def _is_out_of_order(tried: Sequence[_Tried]) -> bool:
    """Along one option: a higher value met the conditions and a lower one did not."""
    if not tried or len(tried[0].values) != 1:
        return False
    points = [(next(iter(t.values.values())), t.feasible) for t in tried]
    failed = [value for value, feasible in points if not feasible]
    return bool(failed) and any(feasible and value > min(failed) for value, feasible in points)


def _best(tried: Sequence[_Tried], *, maximised: bool) -> list[dict[str, object]]:
    """The best of those that meet the conditions; none if none does: a point that misses them is no answer."""
    good = [(i, t) for i, t in enumerate(tried) if t.feasible]
    scored = [(t.objective, i, t) for i, t in good if t.objective is not None]
    if not scored:
        return []
    _, index, best = (max if maximised else min)(scored, key=lambda entry: entry[0])
    return [
        {
            "iteration_idx": index,
            "objective_values": [best.objective],
            "variation_values": aiperf_values(best.values),
            "feasible": True,
            "feasible_count": len(good),
            "pareto_rank": 0,
        }
    ]


def _boundary(tried: Sequence[_Tried]) -> dict[str, object] | None:
    """Along one option: the highest value that meets the conditions, and the lowest that does not."""
    if not tried or len(tried[0].values) != 1:
        return None
    (path,) = tried[0].values
    points = [(t.values[path], i, t) for i, t in enumerate(tried)]
    passed = max((p for p in points if p[2].feasible), key=lambda p: p[0], default=None)
    failed = min((p for p in points if not p[2].feasible), key=lambda p: p[0], default=None)
    return {
        "swept_dim_path": next(iter(aiperf_values({path: 0.0}))),
        "feasible_max": None
        if passed is None
        else {"value": passed[0], "iteration_idx": passed[1], "objective_value": passed[2].objective},
        "infeasible_min": None if failed is None else {"value": failed[0], "iteration_idx": failed[1]},
    }

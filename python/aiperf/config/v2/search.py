"""`sweep: {type: adaptive_search}` of AIPerf's YAML as our search options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiperf.config.v2.reader import Place, Reader, plain_number
from aiperf.config.v2.tables import Note, Table

__all__ = ["read_search"]

_OPTIONS: Final[Table] = {
    "planner": "--search-planner",
    "max_iterations": "--search-max-iterations",
    "n_initial_points": "--search-initial-points",
    "random_seed": "--search-random-seed",
    "optuna_sampler": "--optuna-sampler",
    "optuna_acquisition": "--optuna-acquisition",
    "optuna_terminator": "--optuna-terminator",
    "objective_pooling": "--search-percentile-pooling",
    "constraint_mode": "--bo-constraint-mode",
    "plateau_window": Note("the search ends by its own intervals"),
    "plateau_threshold": Note("the search ends by its own intervals"),
    "improvement_patience": Note("the search ends by its own intervals"),
    "monotonic_stability_trials": Note("a point is measured until it is known on which side of the limit it is"),
    "sla_replicates": Note("a point is measured until it is known on which side of the limit it is"),
    "sla_precision": Note("the search ends by its own intervals"),
    "sla_warmup_seconds": Note("each point has the warm-up of the measured phase"),
}
_DONE: Final = frozenset({"type", "cooldown_seconds", "post_process", "recipe_name", "iteration_order", "same_seed"})


def read_search(reader: Reader, sweep: Mapping[str, Any], place: Place) -> None:
    rest = {k: v for k, v in sweep.items() if k not in _DONE}
    special = ["search_space", "objectives", "outcome_constraints", "sla_filters", "sla_tiers"]
    left = reader.take(rest, _OPTIONS, place, special)
    for at, dimension in enumerate(_rows(left.get("search_space"))):
        kind = str(dimension.get("kind", "int"))
        bounds = ",".join(plain_number(dimension.get(k)) for k in ("lo", "hi"))
        text = f"{dimension.get('path')}:{bounds}:{kind}"
        reader.put("--search-space", [text], (*place, "search_space", at))
    for at, objective in enumerate(_rows(left.get("objectives"))):
        where: Place = (*place, "objectives", at)
        if at:
            reader.note(where, "a search has one objective: the first; the others are in its table")
            continue
        reader.put("--search-metric", objective.get("metric"), where)
        reader.put("--search-stat", objective.get("stat"), where)
        reader.put("--search-direction", objective.get("direction"), where)
    for name, keys in (("sla_filters", ("metric_tag", "threshold")), ("outcome_constraints", ("metric", "bound"))):
        for at, entry in enumerate(_rows(left.get(name))):
            words = (entry.get(keys[0]), entry.get("stat", "avg"), entry.get("op", "lt"), entry.get(keys[1]))
            reader.put("--slo", ":".join(plain_number(w) for w in words), (*place, name, at))
    for at, tier in enumerate(_rows(left.get("sla_tiers"))):
        filters = ",".join(
            ":".join(
                plain_number(f.get(k, d))
                for k, d in (("metric_tag", ""), ("stat", "avg"), ("op", "lt"), ("threshold", ""))
            )
            for f in _rows(tier.get("filters"))
        )
        reader.put("--search-sla-tier", [f"{tier.get('label', at)}:{filters}"], (*place, "sla_tiers", at))


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []

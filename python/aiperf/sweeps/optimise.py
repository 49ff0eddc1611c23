"""Several options at once: the best value of a figure over `--search-space`, with Optuna (extra `search`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from aiperf.config.flag import normalise_key
from aiperf.config.model import specs
from aiperf.errors import ConfigError

__all__ = ["Dimension", "SpaceTrial", "has_botorch", "optimise", "parse_space"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One option: values from `low` to `high`; `is_log`: drawn by their logarithm (ranges of more than a factor of ten)."""

    path: str
    low: float
    high: float
    is_whole: bool
    is_log: bool


@dataclass(frozen=True, slots=True)
class SpaceTrial:
    """`objective` None: the run has no such figure. `feasible`: all --slo conditions held."""

    values: Mapping[str, float]
    objective: float | None
    feasible: bool
    requests: int


def parse_space(texts: Sequence[str]) -> list[Dimension]:
    """`concurrency:1,256`, `request_rate:1,64:log`; checked before by `aiperf.config.check`."""
    out: list[Dimension] = []
    for text in texts:
        name, _, rest = text.partition(":")
        bounds, _, kind = rest.partition(":")
        key = normalise_key(name).rpartition(".")[2]
        spec = next(
            s
            for s in specs().values()
            if s.is_sweepable and (s.name == key or any(normalise_key(n) == key for n in s.flag.names))
        )
        low, high = (float(v) for v in bounds.split(","))
        out.append(
            Dimension(
                path=spec.path,
                low=low,
                high=high,
                is_whole=spec.kind == "int",
                is_log=kind == "log" or (not kind and low > 0 and high / low > 10),
            )
        )
    return out


def has_botorch() -> bool:
    """Whether Optuna's sampler of that name can be had."""
    return all(find_spec(name) is not None for name in ("optuna_integration", "botorch"))


def optimise(
    ask: Callable[[int, Mapping[str, float]], SpaceTrial],
    space: Sequence[Dimension],
    *,
    maximised: bool,
    sampler: str,
    seed: int,
    initial: int,
    iterations: int,
) -> list[SpaceTrial]:
    """All trials in order. `ask(number, values)` runs one. The first `initial` are spread at random, then the sampler decides.

    ConfigError if Optuna is missing.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("`--search space` needs Optuna", "pip install 'aiperf[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    first = min(initial, iterations)
    # From version 5 on a trial is told its constraint; before, and in BoTorch's sampler, it is asked for by a function.
    is_told = hasattr(optuna.trial.Trial, "set_constraint")
    asked: dict[str, Any] = {} if is_told else {"constraints_func": _constraints}
    chosen: optuna.samplers.BaseSampler
    if sampler == "random":
        chosen = optuna.samplers.RandomSampler(seed=seed)
    elif sampler == "botorch":
        made = import_module("optuna_integration").BoTorchSampler
        chosen = made(seed=seed, n_startup_trials=first, constraints_func=_constraints)
    elif sampler == "gp":
        chosen = optuna.samplers.GPSampler(seed=seed, n_startup_trials=first, **asked)
    else:
        chosen = optuna.samplers.TPESampler(seed=seed, n_startup_trials=first, **asked)
    study = optuna.create_study(direction="maximize" if maximised else "minimize", sampler=chosen)
    trials: list[SpaceTrial] = []
    for number in range(iterations):
        trial = study.ask()
        values: dict[str, float] = {}
        for d in space:
            if d.is_whole:
                values[d.path] = trial.suggest_int(d.path, int(d.low), int(d.high), log=d.is_log)
            else:
                values[d.path] = float(f"{trial.suggest_float(d.path, d.low, d.high, log=d.is_log):.4g}")
        known = next((t for t in trials if t.values == values), None)
        tried = known if known is not None else ask(number, values)
        violation = 0.0 if tried.feasible else 1.0
        trial.set_user_attr("violation", violation)
        if is_told:
            trial.set_constraint("conditions", violation)
        if tried.objective is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, tried.objective)
        if known is None:
            trials.append(tried)
    return trials


def _constraints(trial: object) -> tuple[float, ...]:
    attributes = getattr(trial, "user_attrs", {})
    return (float(attributes.get("violation", 0.0)),)

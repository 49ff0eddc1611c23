"""What is wrong with a search: what it needs, and the space it searches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec

from aiperf.config.model import Config, specs
from aiperf.config.rules import Asked
from aiperf.errors import Problem, did_you_mean
from aiperf.registry import normalise

__all__ = ["search_problems"]


def search_problems(asked: Asked, config: Config) -> Iterator[Problem]:
    sweep = config.sweep
    if sweep.search is None:
        if sweep.slo and not sweep.has_points:
            yield Problem("needs `--search` or a sweep", asked.at("sweep.slo"), "`--assert` checks a single run")
    else:
        for axis in sweep.axes:
            if axis.field in {"load.concurrency", "load.request_rate"}:
                yield Problem("cannot be combined with `--search`: it chooses the load itself", axis.flag)
        if sweep.search in {"max-concurrency", "max-rate"} and not sweep.slo:
            yield Problem(
                f"`{sweep.search}` needs a condition to stay within",
                asked.at("sweep.search"),
                "as `--slo 'time_to_first_token:p95<400ms'`",
            )
        if sweep.search == "max-goodput" and not config.slo.goodput:
            yield Problem(
                "`max-goodput` needs objectives", asked.at("sweep.search"), "as `--goodput 'time_to_first_token:370'`"
            )
        if sweep.search == "space":
            for name in ("search_space", "search_metric"):
                if name == "search_metric" and sweep.search_planner == "monotone":
                    continue
                if not config.value(f"sweep.{name}"):
                    yield Problem(f"`space` needs `{specs()[f'sweep.{name}'].shown}`", asked.at("sweep.search"))
        if sweep.search == "space" and sweep.search_planner == "monotone":
            yield from _monotone_space(asked, config)
        for text in sweep.search_space:
            yield from _space_problem(text, asked.at("sweep.search_space"))
        if sweep.optuna_sampler == "botorch" and not all(map(find_spec, ("optuna_integration", "botorch"))):
            yield Problem(
                "`botorch` is not installed",
                asked.at("sweep.optuna_sampler"),
                "`pip install optuna-integration botorch`",
            )


def _monotone_space(asked: Asked, config: Config) -> Iterator[Problem]:
    """The highest load within a condition is one option's; what else is searched over has no order."""
    names = [normalise(text.partition(":")[0]).rpartition(".")[2] for text in config.sweep.search_space]
    if len(names) != 1 or names[0] not in {"concurrency", "request_rate"} or not config.sweep.slo:
        yield Problem(
            "`monotone` searches the highest `concurrency` or `request_rate` within `--slo`",
            asked.at("sweep.search_planner"),
            "as `--search-space concurrency:1,256 --slo 'time_to_first_token:p95<400ms'`; other spaces are for `bayesian` and `optuna`",
        )


def _space_problem(text: str, where: str) -> Iterator[Problem]:
    name, _, bounds = text.partition(":")
    key = normalise(name).rpartition(".")[2]
    known = {s.name: s for s in specs().values() if s.is_sweepable} | {
        normalise(n.lstrip("-")): s for s in specs().values() if s.is_sweepable for n in s.flag.names
    }
    if key not in known:
        yield Problem(f"no numeric option is named `{name}`", where, did_you_mean(key, known, ""))
    found = re.fullmatch(r"([0-9.]+),([0-9.]+)(?::(int|float|real|log))?", bounds)
    if found is None or float(found[1]) >= float(found[2]):
        yield Problem(f"`{text}` is not `option:low,high`", where)

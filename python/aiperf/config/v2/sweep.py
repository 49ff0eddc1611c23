"""`sweep:` of AIPerf's YAML: a grid, lists paired, scenarios, samples of a space, or a search.

Every point is the `benchmark:` block with some of its values replaced; what differs in our options makes the point. Where that is
one number per parameter, it is a sweep of that option like any other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from aiperf.config.v2.reader import Place, Reader, plain_number
from aiperf.config.v2.shape import snake_case
from aiperf.json_text import json_text

__all__ = ["Variation", "option_of", "replaced", "variations"]

_OF_A_PHASE: Final = frozenset(
    {
        "concurrency",
        "prefill_concurrency",
        "rate",
        "requests",
        "duration",
        "sessions",
        "users",
        "smoothness",
        "grace_period",
        "concurrency_ramp",
        "prefill_ramp",
        "rate_ramp",
        "rate_series",
    }
)
_FIRST: Final = frozenset({"default", "main", "profiling"})
_SHAPES: Final = ("peaks", "points", "value", "median", "stddev")


@dataclass(frozen=True, slots=True)
class Variation:
    """A point: its name, and the block it runs. `values`: parameter as written → value; empty of scenarios."""

    name: str
    body: dict[str, Any]
    values: Mapping[str, object]
    place: Place


def variations(reader: Reader, sweep: Mapping[str, Any], body: Mapping[str, Any], place: Place) -> list[Variation]:
    """The points of a `grid`, `zip`, `scenarios`, `sobol` or `latin_hypercube`; problems go to the reader."""
    kind = sweep.get("type", "scenarios" if "runs" in sweep else "grid")
    if kind == "scenarios":
        return _scenarios(reader, sweep, body, place)
    if kind in {"sobol", "latin_hypercube"}:
        rows, at = list(_samples(sweep, kind)), (*place, "dimensions")
    else:
        parameters = sweep.get("parameters")
        at = (*place, "parameters")
        if not isinstance(parameters, Mapping) or not parameters:
            reader.problem(at, "the sweep has no `parameters`, as `{concurrency: [1, 8, 64]}`")
            return []
        lists = {str(k): v if isinstance(v, list) else [v] for k, v in parameters.items()}
        if kind == "zip":
            if len({len(v) for v in lists.values()}) > 1:
                reader.problem(at, "with `zip`, all lists must have the same length")
                return []
            rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        elif kind == "grid":
            rows = [dict(zip(lists, row, strict=True)) for row in itertools.product(*lists.values())]
        else:
            reader.problem(
                (*place, "type"), f"`{kind}` is not a type of sweep", "`grid`, `zip`, `scenarios` or `adaptive_search`"
            )
            return []
    out = []
    for row in rows:
        changed = dict(deepcopy(body))
        for path, value in row.items():
            try:
                changed = replaced(changed, path, value)
            except KeyError as error:
                reader.problem((*at, path), f"the sweep's `{path}` names nothing in `benchmark`: {error.args[0]}")
                return []
        name = "-".join(f"{path.split('.')[-1]}_{_word(value)}" for path, value in row.items())
        out.append(Variation(name, changed, row, at))
    return out


def _word(value: object) -> str:
    text = plain_number(value) if not isinstance(value, Mapping | list) else json_text(value)
    return re.sub(r"[^\w.]+", "_", text).strip("_")


def _scenarios(reader: Reader, sweep: Mapping[str, Any], body: Mapping[str, Any], place: Place) -> list[Variation]:
    runs = sweep.get("runs")
    if not isinstance(runs, list) or not runs:
        reader.problem((*place, "runs"), "the sweep has no `runs`, as `[{name: chat, benchmark: {…}}]`")
        return []
    out = []
    for number, run in enumerate(runs):
        at = (*place, "runs", number)
        if not isinstance(run, Mapping):
            reader.problem(at, "a scenario is a mapping with `name` and `benchmark`")
            continue
        change = run.get("benchmark", {k: v for k, v in run.items() if k not in {"name", "benchmark"}})
        name = str(run.get("name", f"scenario_{number + 1}"))
        out.append(Variation(name, merged(dict(deepcopy(body)), change or {}), {}, at))
    return out


def _samples(sweep: Mapping[str, Any], kind: str) -> Iterator[dict[str, object]]:
    """Points of a space, evenly spread: a Latin hypercube, or for `sobol` Halton's sequence, which covers it as evenly."""
    count = int(sweep.get("samples", 8))
    rng = np.random.default_rng(int(sweep.get("seed") or 0))
    dimensions = [d for d in sweep.get("dimensions") or [] if isinstance(d, Mapping)]
    columns: list[Sequence[float]] = []
    for index, _ in enumerate(dimensions):
        if kind == "sobol":
            columns.append(_radical_inverse(count, _PRIMES[index % len(_PRIMES)]))
        else:
            columns.append(((rng.permutation(count) + rng.random(count)) / count).tolist())
    for row in range(count):
        point: dict[str, object] = {}
        for dimension, column in zip(dimensions, columns, strict=True):
            at = float(column[row])
            if dimension.get("choices"):
                choices = list(dimension["choices"])
                value: object = choices[min(int(at * len(choices)), len(choices) - 1)]
            else:
                low, high = float(dimension["lo"]), float(dimension["hi"])
                number = low * (high / low) ** at if dimension.get("scale") == "log" else low + (high - low) * at
                value = round(number) if dimension.get("kind", "int") == "int" else round(number, 6)
            point[str(dimension.get("path"))] = value
        yield point


_PRIMES: Final = (2, 3, 5, 7, 11, 13, 17, 19)


def _radical_inverse(count: int, base: int) -> Sequence[float]:
    """The first `count` numbers of van der Corput's sequence, from 0.5 on: a column of Halton's points."""
    out = []
    for number in range(1, count + 1):
        value, scale, rest = 0.0, 1.0 / base, number
        while rest:
            rest, digit = divmod(rest, base)
            value += digit * scale
            scale /= base
        out.append(value)
    return out


def replaced(body: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """The block with `value` at a dotted path: `rate` (of the measured phases), `phases.NAME.rate`, `datasets.NAME.prompts.isl`.

    KeyError says what there is not.
    """
    parts = [snake_case(part) for part in path.removeprefix("benchmark.").split(".")]
    if parts[0] in _OF_A_PHASE:
        for phase in _measured(body):
            phase[parts[0]] = value
        return body
    if parts[0] in {"isl", "osl"}:
        parts = ["datasets", "default", "prompts", *parts]
    node: Any = body
    parts = _at_home(body, parts)
    for part in parts[:-1]:
        node = _child(node, part)
    last = parts[-1]
    if not isinstance(node, dict):
        raise KeyError(f"`{last}` is not below a mapping")
    node[last] = value
    return body


def _at_home(body: Mapping[str, Any], parts: list[str]) -> list[str]:
    """`datasets.NAME.…` where the block has one `dataset`, `phases.profiling.…` where it has `profiling`, and the other way round."""
    first, rest = parts[0], parts[1:]
    if first in {"dataset", "datasets"}:
        if isinstance(body.get("dataset"), Mapping):
            parts = ["dataset", *(rest[1:] if first == "datasets" else rest)]
            shape = body["dataset"]
            if parts[1:2] == ["prompts"] and len(parts) == 3 and "prompts" not in shape and parts[2] in shape:
                parts = ["dataset", parts[2]]
        elif first == "dataset":
            parts = ["datasets", "default", *rest]
    elif first == "phases" and "phases" not in body:
        if rest[:1] and rest[0] not in body:
            raise KeyError(f"there is no phase `{rest[0]}`")
        parts = rest
    elif first == "phases" and isinstance(body["phases"], Mapping) and "type" in body["phases"]:
        parts = ["phases", *rest[1:]]
    elif first in {"profiling", "warmup"} and first not in body:
        parts = ["phases", *parts]
    return parts


def _child(node: Any, part: str) -> Any:
    if isinstance(node, list):
        if part.isdigit() and int(part) < len(node):
            return node[int(part)]
        for item in node:
            if isinstance(item, dict) and item.get("name") == part:
                return item
        if part in _FIRST and node:
            chosen = [n for n in node if isinstance(n, dict) and not _is_warmup(n)] or node
            return chosen[0]
        names = ", ".join(str(n.get("name")) for n in node if isinstance(n, dict))
        raise KeyError(f"there is no `{part}` (there is {names or 'none'})")
    if not isinstance(node, dict):
        raise KeyError(f"`{part}` is not below a mapping")
    inner = node.setdefault(part, {})
    if inner is not None and not isinstance(inner, dict | list):
        node[part] = inner = {}
    return inner


def _is_warmup(phase: Mapping[str, Any]) -> bool:
    return bool(phase.get("exclude_from_results")) or phase.get("kind") == "warmup" or phase.get("name") == "warmup"


def _measured(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    measured = [body["profiling"]] if isinstance(body.get("profiling"), dict) else []
    phases = body.get("phases")
    if isinstance(phases, list):
        measured += [p for p in phases if isinstance(p, dict) and not _is_warmup(p)]
    elif isinstance(phases, dict):
        inner = (
            [phases]
            if "type" in phases or not all(isinstance(v, dict) for v in phases.values())
            else [p for n, p in phases.items() if isinstance(p, dict) and n != "warmup" and not _is_warmup(p)]
        )
        measured += inner
    if not measured:
        raise KeyError("no phase is measured")
    return measured


def merged(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`change` laid over `base`: mappings key by key, lists of named things by name, a distribution as a whole."""
    out = dict(base)
    for key, value in change.items():
        old = out.get(key)
        name = key
        if key == "datasets" and key not in out and "dataset" in out:
            name, old, value = "dataset", out["dataset"], value[0] if isinstance(value, list) and value else value  # noqa: PLW2901
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            out[name] = dict(value) if _is_distribution(old, value) else merged(dict(old), value)
        elif _are_named(old) and _are_named(value):
            out[name] = _by_name(old, value)
        elif key == "phases" and isinstance(value, list) and old is None:
            for phase in value:
                home = "warmup" if phase.get("name") == "warmup" else "profiling"
                out[home] = merged(dict(out.get(home) or {}), {k: v for k, v in phase.items() if k != "name"})
        else:
            out[name] = deepcopy(value)
    return out


def _is_distribution(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    keys = {*old, *new}
    return ("mean" in keys and any(k in keys for k in _SHAPES)) or bool({"peaks", "points"} & keys)


def _are_named(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) and "name" in v for v in value)


def _by_name(old: Any, new: Any) -> list[Any]:
    changes = {v["name"]: v for v in new}
    out = [merged(dict(v), changes.pop(v["name"])) if v["name"] in changes else v for v in old]
    return [*out, *(dict(v) for v in changes.values())]


def option_of(path: str) -> str | None:
    """The numeric option that a parameter of a search is, where it is one: `phases.profiling.concurrency` → `--concurrency`."""
    last = snake_case(path.rsplit(".", maxsplit=1)[-1])
    return {
        "concurrency": "--concurrency",
        "prefill_concurrency": "--prefill-concurrency",
        "rate": "--request-rate",
        "requests": "--request-count",
        "users": "--num-users",
        "isl": "--isl",
        "osl": "--osl",
        "smoothness": "--arrival-smoothness",
    }.get(last)

"""AIPerf's own YAML (schema 2): `schemaVersion`, `benchmark`, `sweep`, `multiRun`, `variables`. Keys in camelCase or snake_case.

It becomes the same options that flags set, each with the file and line it came from (`aiperf.config.v2.tables` says which). What has no
effect here is a note, what is wrong a problem; nothing is raised.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiperf.config.flag import Given
from aiperf.config.secrets import MASK, mask_headers
from aiperf.config.sections.load import NamedPhase
from aiperf.config.sections.sweep import Scenario
from aiperf.config.v2.body import BODY_KEYS, read_body
from aiperf.config.v2.points import read_points
from aiperf.config.v2.reader import Place, Reader
from aiperf.config.v2.search import read_search
from aiperf.config.v2.shape import is_v2, snake_case
from aiperf.config.v2.sweep import variations
from aiperf.config.v2.tables import MULTI_RUN, Note, Table
from aiperf.config.v2.template import KEPT, Undefined, fill_variables, render_templates
from aiperf.errors import Problem

__all__ = ["V2Values", "expand", "load_tree", "read_v2"]

_OWN_NAMES: Final = frozenset(
    {
        "headers",
        "extra",
        "variables",
        "parameters",
        "content",
        "filters",
        "slos",
        "custom_resource_attributes",
        "plot",
        "records",
    }
)
"""Mappings whose keys are the user's: they stay as they are."""
_ENVELOPE: Final = frozenset(
    {"schema_version", "benchmark", "sweep", "multi_run", "plot", "variables", "random_seed", "no_sweep_table"}
)
_SWEEP_OPTIONS: Final[Table] = {
    "cooldown_seconds": "--parameter-sweep-cooldown-seconds",
    "same_seed": "--parameter-sweep-same-seed",
    "iteration_order": "--parameter-sweep-mode",
    "recipe_name": Note("the sweep is given in full"),
    "post_process": Note("`aiperf compare` and the table of the sweep evaluate the points"),
}


@dataclass(slots=True, kw_only=True)
class V2Values:
    """`tree`: the file with variables filled in, keys in snake_case."""

    given: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    phases: tuple[NamedPhase, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    tree: dict[str, Any] = field(default_factory=dict)


def read_v2(root: Any, loader: Any, path: Path, env: Mapping[str, str] | None = None) -> V2Values:
    """`root`: the file's mapping node, of `loader`. `env`: for `${…}`; None: this process's."""
    reader, tree = _load(root, loader, path, os.environ if env is None else env)
    if tree is not None:
        phases, scenarios = _envelope(reader, tree)
        return V2Values(
            given=reader.given,
            problems=reader.problems,
            notes=reader.notes,
            phases=phases,
            scenarios=scenarios,
            tree=tree,
        )
    return V2Values(problems=reader.problems)


def load_tree(path: Path) -> dict[str, Any] | None:
    """The file with its variables filled in and keys in snake_case, secrets masked; None if it is not AIPerf's YAML.

    ConfigError if it cannot be read.
    """
    import yaml

    loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode) or not is_v2(root):
            return None
        _, tree = _load(root, loader, path, os.environ)
    finally:
        loader.dispose()
    endpoint = (tree or {}).get("benchmark", {}).get("endpoint")
    if isinstance(endpoint, dict):
        if endpoint.get("api_key"):
            endpoint["api_key"] = MASK
        headers = endpoint.get("headers")
        if isinstance(headers, Mapping):
            endpoint["headers"] = dict(mask_headers(tuple((str(k), str(v)) for k, v in headers.items())))
    return tree


def expand(tree: Mapping[str, Any], path: Path) -> tuple[list[tuple[str, dict[str, Any]]], list[Problem]]:
    """The points of the tree's sweep, each as a file of its own: (name, tree without sweep); one without a sweep."""
    reader = Reader(file=path, lines={})
    body = dict(tree.get("benchmark") or {})
    rest = {k: v for k, v in tree.items() if k not in {"sweep", "benchmark"}}
    sweep = tree.get("sweep")
    if not isinstance(sweep, Mapping) or sweep.get("type") == "adaptive_search":
        return [("base", dict(tree))], []
    points = variations(reader, sweep, body, ("sweep",))
    return [(p.name, {**rest, "benchmark": p.body}) for p in points], reader.problems


def _load(root: Any, loader: Any, path: Path, env: Mapping[str, str]) -> tuple[Reader, dict[str, Any] | None]:
    import yaml

    lines: dict[Place, int] = {}
    reader = Reader(file=path, lines=lines)

    def value_of(node: Any, place: Place, *, own: bool = False, kept: bool = False) -> Any:
        lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            out: dict[str, Any] = {}
            for key, inner in node.value:
                text = str(key.value)
                name = text if own or "." in text else snake_case(text)
                lines[(*place, name)] = key.start_mark.line + 1
                if name in out:
                    reader.problem((*place, name), f"the key `{text}` is there twice")
                is_own = own or name in _OWN_NAMES
                out[name] = value_of(inner, (*place, name), own=is_own, kept=kept or name in KEPT)
            return out
        if isinstance(node, yaml.SequenceNode):
            return [value_of(inner, (*place, i), own=own, kept=kept) for i, inner in enumerate(node.value)]
        if "${" in str(node.value) and not kept:
            try:
                return fill_variables(str(node.value), env)
            except Undefined as error:
                reader.problem(place, str(error))
                return None
        return loader.construct_object(node, deep=True)

    tree = value_of(root, ())
    if any(k in tree for k in BODY_KEYS) and "benchmark" not in tree:
        body = {k: tree.pop(k) for k in list(tree) if k in BODY_KEYS}
        lines |= {("benchmark", *p): n for p, n in list(lines.items()) if p and p[0] in BODY_KEYS}
        tree["benchmark"] = body
    body = tree.get("benchmark")
    try:
        tree = render_templates(tree, body if isinstance(body, Mapping) else {})
    except ValueError as error:
        reader.problem((), str(error))
        return reader, None
    return reader, tree


def _envelope(reader: Reader, tree: dict[str, Any]) -> tuple[tuple[NamedPhase, ...], tuple[Scenario, ...]]:
    version = str(tree.get("schema_version", "2.0"))
    if not version.startswith("2"):
        reader.problem(("schema_version",), f"schema `{version}` is not known", "AIPerf's schema 2 is read")
    for key, value in tree.items():
        if key not in _ENVELOPE:
            reader.take({key: value}, {}, (), sorted(_ENVELOPE))
    body = tree.get("benchmark")
    if not isinstance(body, Mapping):
        reader.problem(("benchmark",), "the file has no `benchmark` block")
        return (), ()
    reader.put("--random-seed", tree.get("random_seed"), ("random_seed",))
    reader.put("--no-sweep-table", tree.get("no_sweep_table"), ("no_sweep_table",))
    reader.take(tree.get("multi_run"), MULTI_RUN, ("multi_run",))
    if tree.get("plot") is not None:
        reader.note(("plot",), f"charts are drawn by `aiperf plot --config {reader.file}`")
    sweep = tree.get("sweep")
    variables = tree.get("variables") or {}
    phases = read_body(reader, deepcopy(dict(body)), ("benchmark",), variables)
    if not isinstance(sweep, Mapping):
        return phases, ()
    own = {k: v for k, v in sweep.items() if k in _SWEEP_OPTIONS}
    reader.take(own, _SWEEP_OPTIONS, ("sweep",))
    if sweep.get("type") == "adaptive_search":
        read_search(reader, sweep, ("sweep",))
        return phases, ()
    return phases, read_points(reader, sweep, dict(body), phases, variables)

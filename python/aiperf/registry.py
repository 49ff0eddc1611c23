"""Finds plug-ins by file name, without importing them.

A built-in is a file in its group's folder, which holds nothing but plug-ins. A third party's is an entry point in the group
`aiperf.<group>` whose value is a module (`their_package.api`) or an object in one (`their_package.api:THING`). Names use underscores;
dashes are the same. `load` is told how a plug-in of the group is recognised, so what it returns is typed and checked.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final, TypeGuard, TypeVar

from aiperf.errors import ConfigError, did_you_mean

__all__ = ["FOLDERS", "NOUNS", "described", "is_known", "load", "names", "normalise", "target_of"]

_Plugin = TypeVar("_Plugin")

FOLDERS: Final[Mapping[str, str]] = {
    "endpoints": "endpoints/apis",
    "datasets": "datasets/formats",
    "traces": "traces/formats",
    "charts": "plots/charts",
    "telemetry": "telemetry/families",
    "exporters": "reports/exporters",
}
"""Group → folder of its built-ins, below the package."""
NOUNS: Final[Mapping[str, str]] = {"telemetry": "server family"}
"""Groups whose plug-in is not called by the group's name without its `s`."""


def normalise(name: str) -> str:
    return name.strip().replace("-", "_").lower()


@cache
def _files(group: str) -> dict[str, str]:
    folder = Path(__file__).parent / FOLDERS[group]
    package = "aiperf." + FOLDERS[group].replace("/", ".")
    return {f.stem: f"{package}.{f.stem}" for f in sorted(folder.glob("*.py")) if f.stem != "__init__"}


@cache
def _entry_points(group: str) -> dict[str, str]:
    from importlib.metadata import entry_points  # reads mail, and the metadata of everything that is installed

    return {normalise(e.name): e.value for e in entry_points(group=f"aiperf.{group}")}


def names(group: str) -> tuple[str, ...]:
    """Names known in a group, sorted; nothing is imported. A built-in wins over a third party's plug-in of its name."""
    return tuple(sorted({**_files(group), **_entry_points(group)}))


def is_known(group: str, name: str) -> bool:
    """Whether `names(group)` has it; a built-in is found without a look at what is installed."""
    key = normalise(name)
    return key in _files(group) or key in _entry_points(group)


def described(group: str, name: str) -> str:
    """The first sentence of its module's docstring, without importing it; empty where there is none."""
    target = {**_entry_points(group), **_files(group)}[normalise(name)]
    spec = importlib.util.find_spec(target.partition(":")[0])
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(":.")


def target_of(group: str, name: str) -> str:
    """`module` or `module:attribute` behind a known name."""
    key = normalise(name)
    return {**_entry_points(group), **_files(group)}[key]


def load(group: str, name: str, attribute: str | None, is_one: Callable[[object], TypeGuard[_Plugin]]) -> _Plugin:
    """The object called `attribute` in the plug-in `name`; with None, the plug-in's module itself.

    ConfigError, with the nearest name, if there is none, or if what the entry point names is no such plug-in.
    """
    key = normalise(name)
    target = _files(group).get(key) or _entry_points(group).get(key)
    noun = NOUNS.get(group, group.rstrip("s"))
    if target is None:
        hint = did_you_mean(key, names(group))
        raise ConfigError(f"no {noun} is named `{name}`", hint)
    module, _, own = target.partition(":")
    plugin: object = importlib.import_module(module)
    wanted = None if attribute is None else own or attribute
    if wanted is not None:
        plugin = getattr(plugin, wanted, None)
    if not is_one(plugin):
        what = (
            f"its `{wanted}` is missing or of another kind" if wanted else "it lacks what the group's protocol asks for"
        )
        raise ConfigError(f"`{target}` is not a usable {noun}: {what}", f"entry point `{name}` of `aiperf.{group}`")
    return plugin

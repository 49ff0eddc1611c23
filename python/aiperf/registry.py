"""Finds plug-ins by file name, without importing them: endpoints, datasets, traces, exporters, plots, server families.

A built-in is `aiperf/<group>/<name>.py`; a third party's is an entry point in the group `aiperf.<group>`. Names use
underscores; dashes are the same. A module's one object is named by `OBJECTS`.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from aiperf.errors import ConfigError

__all__ = ["load", "names", "normalise"]


def normalise(name: str) -> str:
    return name.strip().replace("-", "_").lower()


@cache
def _files(group: str) -> dict[str, str]:
    folder = Path(__file__).parent / group.replace(".", "/")
    return {f.stem: f"aiperf.{group}.{f.stem}" for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")}


@cache
def _entry_points(group: str) -> dict[str, str]:
    return {normalise(e.name): e.value for e in entry_points(group=f"aiperf.{group}")}


def names(group: str) -> tuple[str, ...]:
    """Names known in a group, sorted; nothing is imported."""
    return tuple(sorted({**_files(group), **_entry_points(group)}))


def load(group: str, name: str, attribute: str) -> object:
    """The object called `attribute` in the plug-in `name`. ConfigError, with the nearest name, if there is none."""
    key = normalise(name)
    target = _files(group).get(key) or _entry_points(group).get(key)
    if target is None:
        from difflib import get_close_matches

        near = get_close_matches(key, names(group), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "known: " + ", ".join(f"`{n}`" for n in names(group))
        raise ConfigError(f"no {group.rstrip('s')} is named `{name}`", hint)
    module, _, wanted = target.partition(":")
    return getattr(importlib.import_module(module), wanted or attribute)

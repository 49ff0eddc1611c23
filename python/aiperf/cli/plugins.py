"""`aiperf plugins`: endpoints, formats, charts and the rest by group, built-in and installed; and AIPerf's, which are not loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from aiperf.config.flag import Flag

__all__ = ["command", "foreign_plugins"]

_INSTEAD = {
    "nvidia_rag": "`--endpoint-type chat --endpoint /v1/generate`",
    "dynamo": "the server's own metrics are read from `/metrics`",
}
"""What serves in place of a known package of AIPerf's plug-ins."""


def command(
    group: Annotated[str | None, Flag(help="Group: endpoints, datasets, traces, …; none: all groups")] = None,
    name: Annotated[str | None, Flag(help="Plug-in to describe")] = None,
    /,
    *,
    show_all: Annotated[bool, Flag("--all", "-a", help="List all plug-ins of all groups")] = False,
    validate: Annotated[
        bool, Flag("--validate", "-v", help="Load every plug-in; exit code 2 if one cannot be used")
    ] = False,
) -> int:
    """List plug-ins, or load all of them to check that they can be used."""
    from aiperf import registry
    from aiperf.errors import ConfigError, did_you_mean

    groups = tuple(registry.FOLDERS)
    key = None if group is None else registry.normalise(group)
    if key is not None and key not in groups:
        key = f"{key}s" if f"{key}s" in groups else key
        if key not in groups:
            raise ConfigError(
                f"there is no group `{group}`", did_you_mean(key, groups) or f"groups: {', '.join(groups)}"
            )
    chosen = groups if key is None else (key,)
    if name is not None and not registry.is_known(chosen[0], name):
        hint = did_you_mean(registry.normalise(name), registry.names(chosen[0]))
        raise ConfigError(f"no {registry.NOUNS.get(chosen[0], chosen[0].rstrip('s'))} is named `{name}`", hint)
    code = 0
    for one in chosen:
        listed = registry.names(one) if name is None else (registry.normalise(name),)
        if validate:
            code = max(code, _validate(one, listed))
        elif key is None and not show_all:
            print(f"{one.ljust(10)}  {len(listed)}")
        else:
            width = max(map(len, listed), default=0)
            print(
                "\n".join(
                    [
                        *([one] if key is None else []),
                        *(f"  {n.ljust(width)}  {registry.described(one, n)}" for n in listed),
                    ]
                )
            )
    for line in foreign_plugins():
        print(line)
    return code


def _validate(group: str, plugins: tuple[str, ...]) -> int:
    from importlib import import_module

    from aiperf import registry
    from aiperf.errors import AIPerfError

    code = 0
    for name in plugins:
        try:
            target = registry.target_of(group, name)
            import_module(target.partition(":")[0])
        except (AIPerfError, ImportError, AttributeError) as error:
            print(f"{group}/{name}: cannot be loaded: {error}")
            code = 2
    print(f"{group}: {len(plugins)} checked")
    return code


def foreign_plugins() -> Iterator[str]:
    """One line for each installed package with plug-ins for AIPerf: they are not loaded, and what serves instead."""
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group="aiperf.plugins"), key=lambda e: e.name):
        package = entry.dist.name if entry.dist is not None else entry.value
        instead = next((text for word, text in _INSTEAD.items() if word in entry.name.lower().replace("-", "_")), None)
        yield (
            f"`{entry.name}` (package `{package}`) is a plug-in for AIPerf, which calls Python on every chunk: it is not loaded; "
            + (f"instead: {instead}" if instead else "docs/guide/plugins.md shows how it is ported")
        )

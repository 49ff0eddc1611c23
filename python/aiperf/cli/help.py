"""Help texts from the options themselves: by group, aligned, readable without colour."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from aiperf.cli.style import bold
from aiperf.config.flag import FieldSpec
from aiperf.number_text import exact
from aiperf.registry import names

__all__ = ["default_text", "metavar", "render_help"]

_COLUMN = 32
_METAVARS = {
    "int": "N",
    "float": "X",
    "str": "TEXT",
    "path": "PATH",
    "secret": "KEY",
    "strings": "TEXT",
    "ints": "N",
    "floats": "X",
    "paths": "PATH",
    "pairs": "NAME:VALUE",
    "mapping": "NAME:VALUE",
    "tiers": "SLOS",
    "conditions": "CONDITION",
    "precisions": "PRECISION",
    "bool": "",
}
_UNITS = {"s": "SECONDS", "ms": "MS", "%": "PERCENT", "share": "SHARE"}


def metavar(spec: FieldSpec) -> str:
    """What stands for the value in the help; empty for a switch."""
    if spec.kind == "choice":
        return "|".join(spec.choices)
    if spec.flag.metavar is not None:
        return spec.flag.metavar
    if spec.flag.unit is not None:
        return _UNITS[spec.flag.unit]
    return _METAVARS[spec.kind]


def default_text(spec: FieldSpec) -> str:
    """The default in words, empty where saying it adds nothing."""
    value = spec.default
    if spec.kind == "bool":
        return "on" if value is True else ""
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return exact(value) if isinstance(value, float) else str(value)


def _heading(spec: FieldSpec) -> str:
    long = [n for n in spec.flag.names if n.startswith("--")]
    short = [n for n in spec.flag.names if not n.startswith("--")]
    if not spec.flag.names:
        return spec.shown
    shown = ", ".join([*short[:1], *long[:1]]) if long else ", ".join(short)
    if spec.kind == "bool" and spec.default is not False and not long[0].startswith("--no-"):
        shown += f", --no-{long[0][2:]}"
    value = metavar(spec)
    return f"{shown} {value}" if value else shown


def _text(spec: FieldSpec) -> str:
    extra = []
    if spec.flag.plugins:
        extra.append("one of " + ", ".join(n for group in spec.flag.plugins for n in names(group)))
    if default := default_text(spec):
        extra.append(f"default {default}")
    if also := [n for n in spec.flag.names if n.startswith("--")][1:]:
        extra.append("also " + ", ".join(also))
    return spec.flag.help + (f" [{'; '.join(extra)}]" if extra else "")


def render_help(
    usage: str, intro: Sequence[str], specs: Iterable[FieldSpec], outro: Sequence[str] = (), width: int | None = None
) -> str:
    """`width` None: the terminal's, at most 120 columns."""
    columns = min(width or shutil.get_terminal_size((100, 24)).columns, 120)
    groups: dict[str, list[FieldSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.flag.group or "Options", []).append(spec)
    lines = [f"{bold('Usage:')} {usage}", "", *intro]
    for group, members in groups.items():
        lines += ["", bold(group)]
        for spec in members:
            heading = f"  {_heading(spec)}"
            body = textwrap.wrap(_text(spec), max(columns - _COLUMN, 40), break_on_hyphens=False)
            if len(heading) < _COLUMN - 1:
                lines.append(heading.ljust(_COLUMN) + body[0])
                body = body[1:]
            else:
                lines.append(heading)
            lines += [" " * _COLUMN + line for line in body]
    return "\n".join([*lines, *(["", *outro] if outro else [])])

"""Keys of a tree become options with the place they stand at; what cannot is a problem or a note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aiperf.config.aiperf_options import FOREIGN
from aiperf.config.flag import FieldSpec, Given, normalise_key
from aiperf.config.model import specs
from aiperf.config.v2.tables import Note, Table
from aiperf.errors import Problem, nearest
from aiperf.json_text import json_text
from aiperf.number_text import exact

__all__ = ["Place", "Reader", "option", "plain_number"]

Place = tuple[str | int, ...]
"""Keys from the file's root to a value."""


def option(name: str) -> FieldSpec | None:
    """The option with this spelling, `--request-rate`."""
    return _options().get(normalise_key(name))


@cache
def _options() -> dict[str, FieldSpec]:
    return {normalise_key(n): spec for spec in specs().values() for n in spec.flag.names}


def plain_number(value: object) -> str:
    """`16.0` is 16: options that count take no fraction."""
    return exact(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


@dataclass(slots=True, kw_only=True)
class Reader:
    """`lines`: of each place; a place that came from a sweep has that of its nearest parent."""

    file: Path
    lines: Mapping[Place, int]
    given: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def where(self, place: Place) -> str:
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.file}:{self.lines.get(place, 1)}"

    def problem(self, place: Place, text: str, hint: str | None = None) -> None:
        self.problems.append(Problem(text, self.where(place), hint))

    def note(self, place: Place, reason: str) -> None:
        self.notes.append(f"`{_shown(place)}` ({self.where(place)}) has no effect: {reason}")

    def put(self, name: str, value: object, place: Place) -> None:
        """The option `name` (a spelling) has the value; absent values leave it as it is."""
        if value is None or value in ({}, []):
            return
        spec = option(name)
        if spec is None:
            foreign = next((f for f in FOREIGN if name in f.names), None)
            if value is False:
                return
            if foreign is not None and foreign.state == "note":
                self.note(place, foreign.reason)
            else:
                reason = None if foreign is None else foreign.reason
                self.problem(place, f"`{_shown(place)}` of AIPerf is not supported", reason)
            return
        texts = self._texts(spec, value)
        if texts is None:
            self.problem(place, f"`{_shown(place)}` takes a single value, not {_kind(value)}")
            return
        self.given.append(Given(spec, texts, self.where(place)))

    def take(self, tree: object, table: Table, place: Place, special: Sequence[str] = ()) -> dict[str, Any]:
        """Put what the table names; the rest, if `special` names it, is returned, and is a problem if not."""
        if not isinstance(tree, Mapping):
            if tree is not None:
                self.problem(place, f"`{_shown(place)}` is a mapping of options, not {_kind(tree)}")
            return {}
        left: dict[str, Any] = {}
        for key, value in _unfolded(tree, table):
            entry = table.get(key)
            at = (*place, *key.split("."))
            if key in special:
                left[key] = value
            elif entry is None:
                near = nearest(key, (*table, *special))
                hint = f"did you mean `{near}`?" if near else f"keys there: {', '.join(sorted({*table, *special}))}"
                self.problem(at, f"no key is named `{key}` in `{_shown(place)}`", hint)
            elif isinstance(entry, Note):
                if value not in (None, False, {}, []):
                    self.note(at, entry.reason)
            else:
                self.put(entry, value, at)
        return left

    def _texts(self, spec: FieldSpec, value: object) -> tuple[str, ...] | None:
        if isinstance(value, bool):
            return ("true" if value else "false",)
        if isinstance(value, Mapping):
            if spec.kind in {"mapping", "pairs"}:
                return (json_text(value),)
            return (json_text(value),) if spec.kind == "str" else None
        if isinstance(value, list):
            if spec.is_list:
                return tuple(plain_number(v) for v in value)
            return (json_text(value),) if spec.kind == "str" else None
        return (plain_number(value),)


def _unfolded(tree: Mapping[str, Any], table: Table) -> list[tuple[str, Any]]:
    """`audio: {codec: x}` as `audio.codec` where the table has such keys."""
    out: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and any(k.startswith(f"{key}.") for k in table):
            out += [(f"{key}.{inner}", v) for inner, v in value.items()]
        else:
            out.append((str(key), value))
    return out


def _shown(place: Place) -> str:
    return ".".join(str(p) for p in place)


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else f"`{value}`"

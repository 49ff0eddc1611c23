"""Points of a sweep as our options: one number per parameter is a sweep of options, anything else a list of scenarios."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from aiperf.config.flag import FieldSpec, Given
from aiperf.config.model import specs
from aiperf.config.parse import parse_list, parse_scalar
from aiperf.config.sections.load import NamedPhase
from aiperf.config.sections.sweep import Scenario
from aiperf.config.v2.body import read_body
from aiperf.config.v2.reader import Place, Reader, plain_number
from aiperf.config.v2.sweep import Variation, variations

__all__ = ["read_points"]

_Values = dict[str, tuple[FieldSpec, tuple[str, ...]]]


def read_points(
    reader: Reader,
    sweep: Mapping[str, Any],
    body: dict[str, Any],
    phases: tuple[NamedPhase, ...],
    variables: Mapping[str, Any],
) -> tuple[Scenario, ...]:
    """Puts axes, or returns scenarios: by option, what differs from the file's own block."""
    place: Place = ("sweep",)
    _conditions(reader, sweep.get("sla_filters"), place)
    points = variations(reader, sweep, body, place)
    base = _options(reader.given)
    read: list[tuple[Variation, _Values, tuple[NamedPhase, ...]]] = []
    known = set(reader.problems)
    for point in points:
        part = Reader(file=reader.file, lines=reader.lines)
        named = read_body(part, point.body, ("benchmark",), variables)
        for problem in part.problems:
            if problem not in known:
                known.add(problem)
                reader.problems.append(problem)
        reader.notes += [n for n in part.notes if n not in reader.notes]
        read.append((point, base | _options(part.given) | _missing(base, part.given), named))
    kind = sweep.get("type", "grid")
    if not phases and kind in {"grid", "zip"} and read and _put_axes(reader, read, base, kind):
        return ()
    return tuple(_scenario(reader, point, values, named, base, phases) for point, values, named in read)


def _conditions(reader: Reader, filters: object, place: Place) -> None:
    for entry in filters if isinstance(filters, list) else []:
        if isinstance(entry, Mapping):
            words = (entry.get("metric_tag"), entry.get("stat", "avg"), entry.get("op", "lt"), entry.get("threshold"))
            reader.put("--slo", ":".join(plain_number(w) for w in words), (*place, "sla_filters"))


def _options(given: Sequence[Given]) -> _Values:
    out: _Values = {}
    for entry in given:
        before = out.get(entry.spec.path)
        texts = (*before[1], *entry.texts) if before is not None and entry.spec.is_list else entry.texts
        out[entry.spec.path] = (entry.spec, texts)
    return out


def _missing(base: _Values, given: Sequence[Given]) -> _Values:
    """Options of the block that a point does not have any more: they are absent there."""
    there = {entry.spec.path for entry in given}
    gone = ("prompt.", "load.", "warmup.", "conversation.")
    return {p: (spec, ()) for p, (spec, _) in base.items() if p not in there and p.startswith(gone)}


def _put_axes(
    reader: Reader,
    read: Sequence[tuple[Variation, _Values, tuple[NamedPhase, ...]]],
    base: _Values,
    kind: str,
) -> bool:
    """Whether each parameter of the sweep is one number of one option."""
    parameters = list(read[0][0].values)
    lists: dict[str, list[object]] = {p: [] for p in parameters}
    for point, _, _ in read:
        for name, value in point.values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            if value not in lists[name] or kind == "zip":
                lists[name].append(value)
    option: dict[str, FieldSpec] = {}
    for point, values, _ in read:
        changed = {p: v for p, v in values.items() if base.get(p) != v}
        for path, (spec, texts) in changed.items():
            owners = [n for n, v in point.values.items() if texts == (plain_number(v),)]
            if not spec.is_sweepable or not owners:
                return False
            if len(owners) == 1:
                option.setdefault(owners[0], specs()[path])
    if set(option) != set(parameters) or len({s.path for s in option.values()}) != len(parameters):
        return False
    if any(len(set(map(str, v))) != len(v) for v in lists.values()):
        return False  # an axis has each value once
    for name in parameters:
        spec = option[name]
        reader.given[:] = [g for g in reader.given if g.spec is not spec]
        place: Place = ("sweep", "parameters", name)
        reader.given.append(Given(spec, (",".join(plain_number(v) for v in lists[name]),), reader.where(place)))
    if kind == "zip":
        reader.put("--sweep-type", "zip", ("sweep", "type"))
    return all(len(v) > 1 for v in lists.values()) or len(list(itertools.chain(*lists.values()))) > len(lists)


def _scenario(
    reader: Reader,
    point: Variation,
    values: _Values,
    named: tuple[NamedPhase, ...],
    base: _Values,
    phases: tuple[NamedPhase, ...],
) -> Scenario:
    settings: dict[str, object] = {}
    for path, (spec, texts) in values.items():
        if base.get(path) == (spec, texts):
            continue
        try:
            settings[path] = (
                spec.default
                if not texts
                else parse_list(texts, spec)
                if spec.is_list
                else parse_scalar(texts[-1], spec)
            )
        except ValueError as error:
            reader.problem(point.place, f"{error} (`{spec.shown}` of the point `{point.name}`)")
    if named != phases:
        settings["load.phases"] = named
    return Scenario(name=point.name, values=settings)

"""Phases of AIPerf's YAML. One warm-up before one measured phase are our own options; any other list is kept as `load.phases`,
each phase with the options of a measured one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from aiperf.config.flag import Given
from aiperf.config.parse import parse_list, parse_scalar
from aiperf.config.sections.load import NamedPhase
from aiperf.config.v2 import tables
from aiperf.config.v2.reader import Place, Reader
from aiperf.json_text import json_text

__all__ = ["read_phases"]

_RATES: Final = frozenset({"poisson", "gamma", "constant"})
_TYPES: Final = ("concurrency", "constant", "fixed_schedule", "gamma", "poisson", "user_centric")
_PLAIN_NAMES: Final = frozenset({"profiling", "default"})
_ADAPTIVE: Final = ("adaptive_", "sla")


@dataclass(frozen=True, slots=True)
class _Phase:
    name: str
    is_warmup: bool
    tree: Mapping[str, Any]
    place: Place

    @property
    def type(self) -> str:
        default = "concurrency" if self.tree.get("rate") is None else "poisson"
        return str(self.tree.get("type", default))


def read_phases(reader: Reader, body: Mapping[str, Any], place: Place) -> tuple[NamedPhase, ...]:
    """Puts the options of the measured phase, and of the warm-up before it; all phases where that does not say it all."""
    phases = [p for p in _listed(reader, body, place) if _is_known(reader, p)]
    warmups = [p for p in phases if p.is_warmup]
    measured = [p for p in phases if not p.is_warmup]
    if not measured:
        if phases:
            reader.problem(phases[0].place, "no phase is measured: all are warm-ups")
        return ()
    plain = (
        len(measured) == 1
        and measured[0].name in _PLAIN_NAMES
        and len(warmups) <= 1
        and all(w.type in {"concurrency", *_RATES} and w is phases[0] for w in warmups)
    )
    _put(reader, measured[0], is_warmup=False)
    if plain:
        for warmup in warmups:
            _put(reader, warmup, is_warmup=True)
        return ()
    return _named(reader, phases)


def _listed(reader: Reader, body: Mapping[str, Any], place: Place) -> list[_Phase]:
    out: list[_Phase] = []

    def add(tree: object, at: Place, name: str | None) -> None:
        if not isinstance(tree, Mapping):
            reader.problem(at, "a phase is a mapping, as `{type: concurrency, concurrency: 8, requests: 100}`")
            return
        kind = tree.get("kind")
        named = str(tree.get("name", name or "profiling"))
        is_warmup = kind == "warmup" if kind else bool(tree.get("exclude_from_results")) or named == "warmup"
        out.append(_Phase(named, is_warmup, tree, at))

    if body.get("warmup") is not None:
        add(body["warmup"], (*place, "warmup"), "warmup")
    phases = body.get("phases")
    at = (*place, "phases")
    if isinstance(phases, list):
        for number, phase in enumerate(phases):
            add(phase, (*at, number), None)
    elif isinstance(phases, Mapping) and phases and all(isinstance(v, Mapping) for v in phases.values()):
        for name, phase in phases.items():
            add(phase, (*at, name), str(name))
    elif phases is not None:
        add(phases, at, None)
    if body.get("profiling") is not None:
        add(body["profiling"], (*place, "profiling"), "profiling")
    return out


def _is_known(reader: Reader, phase: _Phase) -> bool:
    if phase.type in _TYPES:
        return True
    reader.problem((*phase.place, "type"), f"`{phase.type}` is not a type of phase", f"types: {', '.join(_TYPES)}")
    return False


def _put(reader: Reader, phase: _Phase, *, is_warmup: bool) -> None:
    """The phase as options: of the warm-up, or of the load."""
    tree, place = phase.tree, phase.place
    own = ["name", "kind", "type", "exclude_from_results", "cancellation", "rate_series", "rate"]
    own += ["concurrency_ramp", "prefill_ramp", "rate_ramp", "adaptive_scale"]
    adaptive = {k for k in tree if k.startswith(_ADAPTIVE)}
    if tree.get("adaptive_scale") not in (None, False):
        reader.problem(
            (*place, "adaptive_scale"), "`adaptive_scale` is not supported", "`--search max-concurrency` finds the load"
        )
    table = (
        {**{k: tables.Note("it is that of the measured phase") for k in tables.PHASE_ONLY}, **tables.WARMUP}
        if is_warmup
        else {**tables.PHASE_ONLY, **tables.PHASE}
    )
    plain = {k: v for k, v in tree.items() if k not in {*adaptive, *(k for k in own if k in table)}}
    left = reader.take(plain, table, place, own)
    _rate(reader, phase, table)
    for name in ("concurrency_ramp", "prefill_ramp", "rate_ramp"):
        _ramp(reader, tree.get(name), str(table[name]), (*place, name))
    if phase.type == "concurrency" and tree.get("concurrency") is None:
        reader.put(str(table["concurrency"]), 1, place)
    if phase.type in _RATES:
        reader.put("--warmup-arrival-pattern" if is_warmup else "--arrival-pattern", phase.type, (*place, "type"))
    if phase.type == "fixed_schedule":
        reader.put("--fixed-schedule", True, (*place, "type"))
    cancel = left.get("cancellation")
    if cancel is not None and not is_warmup:
        table = {"rate": "--request-cancellation-rate", "delay": "--request-cancellation-delay"}
        reader.take(cancel, table, (*place, "cancellation"))
    series = left.get("rate_series")
    if isinstance(series, Mapping) and not is_warmup:
        points = [
            {"time_s": p.get("time_s"), "qps": p.get("qps")}
            for p in series.get("points") or []
            if isinstance(p, Mapping)
        ]
        value = series.get("path") or (json_text({"points": points}) if points else None)
        reader.put("--request-rate-series", value, (*place, "rate_series"))


def _rate(reader: Reader, phase: _Phase, table: tables.Table) -> None:
    rate = phase.tree.get("rate")
    if phase.type == "user_centric":
        reader.put("--user-centric-rate", rate, (*phase.place, "rate"))
    elif phase.type in _RATES:
        if rate is None and phase.tree.get("rate_series") is None:
            reader.problem(phase.place, f"the phase `{phase.name}` of type `{phase.type}` has no `rate`")
        reader.put(str(table["rate"]), rate, (*phase.place, "rate"))
    elif rate is not None:
        reader.note((*phase.place, "rate"), f"a phase of type `{phase.type}` has no rate")


def _ramp(reader: Reader, value: object, name: str, place: Place) -> None:
    if not isinstance(value, Mapping):
        reader.put(name, value, place)
        return
    reader.put(name, value.get("duration"), (*place, "duration"))
    strategy = value.get("strategy")
    if strategy == "poisson":
        reader.note((*place, "strategy"), "ramps are linear or exponential; this one is linear")
    else:
        reader.put("--ramp-shape", strategy, (*place, "strategy"))


def _named(reader: Reader, phases: list[_Phase]) -> tuple[NamedPhase, ...]:
    """Each with the options of a measured phase; those that another phase has and this one does not are absent in it."""
    seen: set[str] = set()
    out: list[tuple[_Phase, dict[str, object]]] = []
    for phase in phases:
        name, number = phase.name, 2
        while name in seen:
            name, number = f"{phase.name}_{number}", number + 1
        seen.add(name)
        part = Reader(file=reader.file, lines=reader.lines)
        _put(part, phase, is_warmup=False)
        if phase is not next(p for p in phases if not p.is_warmup):
            reader.problems += part.problems
            reader.notes += part.notes
        values = _parsed(reader, part.given)
        bounds = ("load.request_count", "load.benchmark_duration", "conversation.num_sessions")
        if phase.type != "fixed_schedule" and not any(b in values for b in bounds):
            reader.problem(phase.place, f"the phase `{name}` has no end: give it `requests`, `sessions` or `duration`")
        out.append((replace(phase, name=name), values))
    used = {path: None for _, values in out for path in values}
    return tuple(
        NamedPhase(
            name=phase.name,
            kind="warmup" if phase.is_warmup else "profiling",
            values={path: values.get(path) for path in used},
        )
        for phase, values in out
    )


def _parsed(reader: Reader, given: list[Given]) -> dict[str, object]:
    out: dict[str, object] = {}
    for entry in given:
        try:
            spec = entry.spec
            value = parse_list(entry.texts, spec) if spec.is_list else parse_scalar(entry.texts[-1], spec)
        except ValueError as error:
            reader.problem((), f"{error} (`{entry.where}`)")
            continue
        out[spec.path] = value
    return out

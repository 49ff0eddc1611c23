"""defaults < file < environment < flags → `Config`, with the origin of every value.

`configure` is what commands call: it raises one `ConfigError` with every problem. `config_from` makes a configuration in
Python; `at_point` moves one to another point of a sweep, so that what follows from the load follows again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from aiperf.config.check import AllTags
from aiperf.config.check import check as find_problems
from aiperf.config.context_overflow import PHRASES, RATE_LIMIT
from aiperf.config.defaults import Values, derive
from aiperf.config.flag import FieldSpec, Given, normalise_key
from aiperf.config.model import SECTIONS, Config, Origin, specs
from aiperf.config.parse import parse_axis, parse_list, parse_scalar
from aiperf.config.secrets import mask_argv
from aiperf.config.sections.sweep import Axis
from aiperf.config.yaml_file import read_config_file
from aiperf.errors import ConfigError, Problem, did_you_mean, nearest
from aiperf.number_text import exact

__all__ = ["ENV_PREFIX", "at_point", "config_from", "configure", "resolve"]

ENV_PREFIX = "AIPERF_"

_FROM_CORRELATION_ID: Final = {
    f"AIPERF_HTTP_{name.upper().replace('-', '_')}_FROM_CORRELATION_ID": name
    for name in ("X-Session-Affinity", "X-Session-ID", "X-SMG-Routing-Key", "X-Dynamo-Session-ID")
}
"""AIPerf's variables that switch headers with the session's id on or off; the first is on without it."""
_AIPERF_SECTIONS: Final = (
    "agentx_",
    "api_server_",
    "cli_runner_",
    "compression_",
    "config_",
    "credit_",
    "dataset_",
    "dev_",
    "gpu_",
    "http_",
    "kube_",
    "logging_",
    "metrics_",
    "network_latency_",
    "otel_",
    "record_",
    "server_metrics_",
    "service_",
    "timing_",
    "ui_",
    "worker_",
    "zmq_",
)
"""Prefixes of AIPerf's own variables, which are about its processes."""
READ_ELSEWHERE = frozenset(
    {
        *("AIPERF_CACHE_DIR", "AIPERF_CONFIG", "AIPERF_REQUIRE", "AIPERF_TRACEBACK"),
        *(RATE_LIMIT, PHRASES, "AIPERF_DATASET_MMAP_CACHE_ENABLED"),
        *(
            f"AIPERF_DATASET_WEKA_{name}"
            for name in (
                *("AUX_CROSS_MODEL", "AUX_ISL_FLOOR", "AUX_ISL_RATIO", "AUX_MAX_REQUESTS", "AUX_REDUCTION_OSL_MAX"),
                *("AUX_REDUCTION_RATIO", "FORK_PARENT_MESSAGES", "LIVE_ASSISTANT_RESPONSES", "SEAM_MAX_GAP_SECONDS"),
                *("SEAM_MIN_OVERLAP_RATIO", "SPLIT_FLATTENED_AGENTS", "TOOL_SHAPED_MESSAGES", "WORKER_GROUP_MIN"),
            )
        ),
    }
)
"""Variables that are no option and have an effect all the same."""


def configure(
    given: Sequence[Given] = (),
    *,
    env: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    command: Sequence[str] = (),
    problems: Sequence[Problem] = (),
    notes: Sequence[str] = (),
    all_tags: AllTags | None = None,
) -> Config:
    """The checked configuration. `problems`, `notes`: those found before, in the command line. `env` None: this process's.
    `all_tags`: see `check`.

    ConfigError with all problems.
    """
    config, found = resolve(given, env=env, config_file=config_file, command=command)
    bad_paths = {p.where for p in found} | {p.where for p in problems}
    checked, more = find_problems(config, skip=frozenset(w for w in bad_paths if w), all_tags=all_tags)
    everything = [*problems, *found, *checked]
    if everything:
        raise ConfigError(tuple(dict.fromkeys(everything)))
    return config.with_notes((*notes, *config.notes, *more))


def resolve(
    given: Sequence[Given] = (),
    *,
    env: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    command: Sequence[str] = (),
    seed: int | None = None,
) -> tuple[Config, list[Problem]]:
    """The configuration without what is wrong with it, and what is wrong. `seed`: instead of one drawn."""
    variables = os.environ if env is None else env
    problems: list[Problem] = []
    notes: list[str] = []
    ready: dict[str, object] = {}
    layers: list[tuple[Literal["file", "environment", "flag"], Sequence[Given]]] = []
    path = config_file or (Path(variables["AIPERF_CONFIG"]) if variables.get("AIPERF_CONFIG") else None)
    if path is not None:
        read = read_config_file(path)
        problems += read.problems
        notes += read.notes
        ready |= read.ready
        layers.append(("file", read.given))
    from_env, more = _environment(variables)
    notes += more
    layers += [("environment", from_env), ("flag", given)]

    values: dict[str, object] = dict(ready)
    origins: dict[str, Origin] = {}
    axes: dict[str, Axis] = {}
    for kind, layer in layers:
        for spec, entries in _by_option(layer):
            origin = Origin(kind, entries[-1].where)
            try:
                value, axis = _parse(spec, entries)
            except ValueError as error:
                problems.append(Problem(str(error), origin.where))
                continue
            values[spec.path] = value
            origins[spec.path] = origin
            axes.pop(spec.path, None)
            if axis is not None:
                axes[spec.path] = axis
    if axes:
        values["sweep.axes"] = tuple(axes.values())
    config, invalid = _build(values, origins, seed)
    return config.with_notes((*notes, *config.notes), mask_argv(command)), [*problems, *invalid]


def config_from(values: Mapping[str, object] | None = None, *, check: bool = True, **flat: object) -> Config:
    """A resolved configuration from Python: keys are field paths, or flags without dashes; values as they are or as text.

    `config_from(model="m", url="localhost:8000", concurrency="10,50")`. ConfigError with all problems. The environment does
    not count.
    """
    by_name: dict[str, FieldSpec] = {}
    for spec in specs().values():
        by_name |= {normalise_key(n): spec for n in spec.flag.names} | {spec.path: spec}
    given: list[Given] = []
    problems: list[Problem] = []
    ready: dict[str, object] = {}
    for key, value in {**(values or {}), **flat}.items():
        option = by_name.get(key) or by_name.get(normalise_key(key))
        if option is None:
            hint = did_you_mean(normalise_key(key), by_name, "")
            problems.append(Problem(f"no option is named `{key}`", None, hint))
        elif isinstance(value, str) and (option.kind not in {"str", "secret"}):
            given.append(Given(option, (value,), key))
        elif option.is_list and isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
            given.append(Given(option, tuple(value), key))
        elif option.is_sweepable and isinstance(value, list | tuple):
            given.append(Given(option, (",".join(map(str, value)),), key))
        else:
            ready[option.path] = value
    parsed, bad = resolve(given, env={})
    base = {p: parsed.value(p) for p, o in parsed.origins.items() if o.kind != "default"}
    origins = {p: o for p, o in parsed.origins.items() if o.kind != "default"}
    origins |= {p: Origin("flag", specs()[p].shown) for p in ready}
    if axes := _axes(given):
        base["sweep.axes"] = axes
    config, invalid = _build({**base, **ready}, origins, None)
    problems += [*bad, *invalid]
    if check:
        checked, more = find_problems(config)
        problems += checked
        config = config.with_notes((*config.notes, *more))
    if problems:
        raise ConfigError(tuple(dict.fromkeys(problems)))
    return config


def at_point(config: Config, values: Mapping[str, object]) -> Config:
    """The configuration of one point of a sweep: values by field path are set, the axes are gone, and what depends on them
    (request count, warm-up, …) is derived again. Seed and folder stay. ConfigError if a value is not allowed.
    """
    given = {p: config.value(p) for p, o in config.origins.items() if o.kind != "default"}
    origins = {p: o for p, o in config.origins.items() if o.kind != "default"}
    for path in ("input.random_seed", "output.artifact_dir"):
        if path in config.origins:
            given[path], origins[path] = config.value(path), config.origins[path]
    for path in ("sweep.axes", "sweep.scenarios", "sweep.search_recipe", "sweep.variants"):
        given.pop(path, None)
    if config.load.phases:
        given["load.phases"] = config.load.phases
    for name in ("concurrency", "isl", "osl"):
        given.pop(f"sweep.{name}_steps", None)
        origins.pop(f"sweep.{name}_steps", None)
    given |= values
    origins |= {p: Origin("flag", f"{specs()[p].shown}={v}") for p, v in values.items()}
    new, problems = _build(given, origins, config.input.random_seed)
    if problems:
        raise ConfigError(problems)
    return new.with_notes(config.notes, config.command)


def _axes(given: Sequence[Given]) -> tuple[Axis, ...]:
    """Of the options that were given a list; those that are wrong are left out."""
    axes: list[Axis] = []
    for spec, entries in _by_option(given):
        with suppress(ValueError):  # told when the value is read
            _, axis = _parse(spec, entries)
            axes += [] if axis is None else [axis]
    return tuple(axes)


def _by_option(layer: Iterable[Given]) -> Iterable[tuple[FieldSpec, list[Given]]]:
    grouped: dict[str, list[Given]] = {}
    for entry in layer:
        grouped.setdefault(entry.spec.path, []).append(entry)
    return ((entries[0].spec, entries) for entries in grouped.values())


def _parse(spec: FieldSpec, entries: Sequence[Given]) -> tuple[object, Axis | None]:
    """Lists collect what was given in one layer, of the rest the last counts."""
    if spec.is_list:
        return parse_list([t for e in entries for t in e.texts], spec), None
    text = entries[-1].texts[-1] if entries[-1].texts else ""
    if spec.kind == "secret":
        from pydantic import SecretStr

        return SecretStr(text), None
    values = parse_axis(text, spec)
    if values is None:
        return parse_scalar(text, spec), None
    return values[0], Axis(field=spec.path, flag=spec.shown, values=values) if len(values) > 1 else None


def _affinity(variables: Mapping[str, str]) -> list[Given]:
    """`AIPERF_HTTP_X_…_FROM_CORRELATION_ID` as the option they mean; none of them: no option."""
    set_ones = [v for v in _FROM_CORRELATION_ID if variables.get(v)]
    if not set_ones:
        return []
    default = next(iter(_FROM_CORRELATION_ID))
    off = {"0", "false", "no", "off"}
    wanted = [
        name
        for v, name in _FROM_CORRELATION_ID.items()
        if variables.get(v, str(v == default)).strip().lower() not in off
    ]
    return [Given(specs()["endpoint.affinity_headers"], tuple(wanted) or ("none",), ", ".join(set_ones))]


def _environment(variables: Mapping[str, str]) -> tuple[list[Given], list[str]]:
    table: dict[str, FieldSpec] = {}
    for spec in specs().values():
        table[spec.path.replace(".", "_")] = spec
    for spec in specs().values():
        table |= {normalise_key(n): spec for n in spec.flag.names if n.startswith("--")}
    given, notes = _affinity(variables), []
    unused: list[str] = []
    for variable, text in sorted(variables.items()):
        if (
            variable in _FROM_CORRELATION_ID
            or not variable.startswith(ENV_PREFIX)
            or variable in READ_ELSEWHERE
            or not text
        ):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        option = table.get(name)
        if option is None:
            near = None if name.startswith(_AIPERF_SECTIONS) else nearest(name, tuple(table))
            if near is None:
                unused.append(variable)
            else:
                notes.append(f"the variable `{variable}` is not known here; did you mean `{ENV_PREFIX}{near.upper()}`?")
        else:
            given.append(Given(option, tuple(text.splitlines()) if option.is_list else (text,), variable))
    if unused:
        names = ", ".join(f"`{name}`" for name in unused)
        text = "variables {} are ignored: they set" if len(unused) > 1 else "variable {} is ignored: it sets"
        notes.append(f"the environment {text.format(names)} something of AIPerf that this tool does not have")
    return given, notes


def _build(
    values: Mapping[str, object], origins: Mapping[str, Origin], seed: int | None
) -> tuple[Config, list[Problem]]:
    """Derive, validate by section, and leave out what is not valid, so that the rest can be checked as well."""
    kept = {path: None if _is_off(path, value) else value for path, value in values.items()}
    problems: list[Problem] = []
    while True:
        work = Values(kept, origins)
        notes = derive(work, seed=seed)
        sections: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
        for path, value in work.given.items():
            section, _, name = path.partition(".")
            sections[section][name] = value
        parts: dict[str, Any] = {}
        bad: set[str] = set()
        for section, content in sections.items():
            try:
                model = SECTIONS[section]
                parts[section] = model.model_validate(content) if content else model.model_construct()
            except ValidationError as error:
                for item in error.errors():
                    path = f"{section}.{item['loc'][0]}"
                    bad.add(path)
                    origin = work.origins.get(path)
                    problems.append(Problem(_reason(item, specs().get(path)), str(origin) if origin else path))
        if not bad:
            config = Config.assemble(parts, origins=work.origins, notes=notes)
            return config, _bad_axes(config, problems)
        axes = kept.get("sweep.axes", ())
        kept = {p: v for p, v in kept.items() if p not in bad}
        if isinstance(axes, tuple):
            kept["sweep.axes"] = tuple(a for a in axes if a.field not in bad)


def _is_off(path: str, value: object) -> bool:
    spec = specs().get(path)
    return spec is not None and spec.flag.zero_is_off and value == 0 and not isinstance(value, bool)


def _bad_axes(config: Config, problems: list[Problem]) -> list[Problem]:
    """Each further value of an axis must be one the option may have."""
    for axis in config.sweep.axes:
        section, _, name = axis.field.partition(".")
        for value in (v for v in axis.values[1:] if not _is_off(axis.field, v)):
            try:
                SECTIONS[section].model_validate({name: value})
            except ValidationError as error:
                origin = config.origins.get(axis.field)
                problems.append(
                    Problem(_reason(error.errors()[0], specs()[axis.field]), str(origin) if origin else axis.flag)
                )
    return problems


def _reason(item: Any, spec: FieldSpec | None) -> str:
    """A pydantic error in our words."""
    value = item["input"]
    shown = f"`{exact(value)}`" if isinstance(value, float) else f"`{value}`"
    unit = {"s": " s", "ms": " ms", "%": " %"}.get(spec.flag.unit or "", "") if spec else ""
    context = item.get("ctx", {})
    match item["type"]:
        case "greater_than":
            return f"{shown} must be greater than {exact(context['gt'])}{unit}"
        case "greater_than_equal":
            return f"{shown} must be at least {exact(context['ge'])}{unit}"
        case "less_than":
            return f"{shown} must be less than {exact(context['lt'])}{unit}"
        case "less_than_equal":
            hint = ", or written with `%`" if spec and spec.flag.unit == "share" else ""
            return f"{shown} must be at most {exact(context['le'])}{unit}{hint}"
        case _:
            return f"{shown}: {item['msg'][:1].lower()}{item['msg'][1:]}"

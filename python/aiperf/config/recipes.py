"""`--search-recipe`: AIPerf's presets, as the sweep or search of ours that they mean; and `--variant`, points with names.

Recipes set what the user did not: `aiperf profile … --search-recipe max-throughput-ttft-sla --ttft-sla-ms 200` is a search over the
concurrency for the most output tokens with p95 TTFT below 200 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from aiperf.config.conditions import Condition, Tier, parse_condition
from aiperf.config.flag import FieldSpec, normalise_key
from aiperf.config.model import Config, Origin, specs
from aiperf.config.option_values import Values
from aiperf.config.parse import parse_list, parse_scalar
from aiperf.config.rules import Asked
from aiperf.config.sections.sweep import Axis, Scenario
from aiperf.errors import Problem, did_you_mean
from aiperf.number_text import exact

__all__ = ["derive_recipe", "log_steps", "parse_pairs", "parse_tiers", "parse_variant", "recipe_problems"]

_FIRST, _LAST = 1, 1000
"""Concurrency of the recipes that search, as AIPerf's."""
_OBJECTIVES: Final = {
    "sweep.ttft_sla_ms": "time_to_first_token",
    "sweep.itl_sla_ms": "inter_token_latency",
    "sweep.e2e_sla_ms": "request_latency",
}
_PLANNERS: Final = {"smooth_isotonic": "monotone", "monotonic": "monotone", "bo": "bayesian", "optuna": "optuna"}


_DRAWN: Final = frozenset({"concurrency-ramp", "prefill-ttft-curve", "decode-itl-curve"})
"""Recipes whose charts are drawn, as AIPerf's, unless `--no-auto-plot` is given."""


def log_steps(low: float, high: float, steps: int) -> tuple[int, ...]:
    """`steps` whole numbers from `low` to `high`, evenly spaced in their logarithm, each once."""
    return tuple(dict.fromkeys(round(low * (high / low) ** (i / (steps - 1))) for i in range(steps)))


def parse_pairs(text: str) -> list[tuple[int, int]]:
    """`128/128,512/256` as (input, output) lengths. ValueError."""
    out = []
    for part in text.split(","):
        left, slash, right = part.partition("/")
        if not slash or not left.strip().isdigit() or not right.strip().isdigit() or int(left) < 1 or int(right) < 1:
            raise ValueError(f"`{part.strip()}` is not a pair of lengths such as `512/256`")
        out.append((int(left), int(right)))
    return out


def parse_tiers(texts: tuple[str, ...]) -> list[tuple[str, tuple[Condition, ...]]]:
    """`LABEL:FILTER,FILTER` or `FILTER,FILTER`, a filter as `metric:stat:op:value`. ValueError."""
    out = []
    for number, text in enumerate(texts, 1):
        first = text.partition(",")[0]
        label, rest = f"tier_{number}", text
        if first.count(":") != 3 or first.split(":")[2] not in {"lt", "le", "gt", "ge"}:
            label, _, rest = text.partition(":")
        out.append((label.strip(), tuple(parse_condition(part.strip()) for part in rest.split(",") if part.strip())))
        if not out[-1][1]:
            raise ValueError(f"the tier `{text}` has no condition")
    return out


def parse_variant(text: str, number: int) -> Scenario:
    """`[name:] key=value, key=value`: keys are options without dashes. `number`: of the variant, from 0; it is `v0` without a name. ValueError."""
    head, colon, rest = text.partition(":")
    name, body = (head.strip(), rest) if colon and "=" not in head else (f"v{number}", text)
    table = {normalise_key(n): spec for spec in specs().values() for n in spec.flag.names}
    values: dict[str, object] = {}
    for part in body.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"`{part.strip()}` of the variant `{name}` is not `option=value`")
        spec = table.get(normalise_key(key.strip()))
        if spec is None:
            hint = did_you_mean(normalise_key(key.strip()), tuple(table))
            raise ValueError(f"no option is named `{key.strip()}`" + (f"; {hint}" if hint else ""))
        values[spec.path] = _value(spec, value.strip())
    return Scenario(name=name, values=values)


def _value(spec: FieldSpec, text: str) -> object:
    return parse_list([text], spec) if spec.is_list else parse_scalar(text, spec)


def derive_recipe(values: Values, notes: list[str]) -> None:
    """Before the rules of searches and sweeps: fills in what the recipe means. What is wrong is told by `recipe_problems`."""
    variants = values["sweep.variants"]
    if isinstance(variants, tuple) and len(variants) > 1:
        try:
            values.given["sweep.scenarios"] = tuple(parse_variant(t, i) for i, t in enumerate(variants))
        except ValueError:
            return
    recipe = values["sweep.search_recipe"]
    if not isinstance(recipe, str):
        return
    why = f"--search-recipe {recipe}"
    match recipe:
        case "max-throughput-ttft-sla" | "max-throughput-itl-sla":
            _space(values, "output_token_throughput", why)
        case "max-concurrency-under-sla":
            style = str(values["sweep.search_style"] or "smooth_isotonic")
            if style == "grid":
                _axis(values, "load.concurrency", "concurrency", (_FIRST, _LAST, 8), why)
            else:
                values.default("sweep.search", "max-concurrency", why)
                values.default("sweep.search_planner", _PLANNERS[style], why)
                values.default("sweep.concurrency_max", _LAST, why)
                _first_tier(values, why, notes)
        case "max-goodput-under-slo":
            limits = tuple((tag, value) for p, tag in _OBJECTIVES.items() if (value := values.number(p)) is not None)
            if limits:
                _give(values, "slo.goodput", (Tier(limits=limits),), why)
            _give(values, "sweep.slo_attainment_fraction", 0.95, why)
            for path in _OBJECTIVES:
                # They are limits of each request here, not of the percentiles of a run.
                values.given.pop(path, None)
            _space(values, "goodput", why)
        case "concurrency-ramp":
            _axis(values, "load.concurrency", "concurrency", (_FIRST, _LAST, 8), why)
        case "prefill-ttft-curve":
            _give(values, "load.concurrency", 1, why)
            _give(values, "prompt.osl_mean", 1.0, why)
            _axis(values, "prompt.isl_mean", "isl", (256, 32_768, 8), why)
            _hold(values, "load.concurrency")
        case "decode-itl-curve":
            _axis(values, "load.concurrency", "concurrency", (1, 200, 6), why)
            _axis(values, "prompt.osl_mean", "osl", (64, 1024, 4), why)
        case "pareto-sweep":
            _pairs(values)
        case _:
            return
    if recipe in _DRAWN:
        values.default("output.auto_plot", True, why)
    notes.append(f"`{why}` is {_meaning(values)}")


def _first_tier(values: Values, why: str, notes: list[str]) -> None:
    """Tiers alone: the search is within the first one's limits."""
    try:
        tiers = parse_tiers(_texts(values["sweep.sla_tiers"]))
    except ValueError:
        return
    if not tiers or values.has("sweep.error_rate_sla", *_OBJECTIVES):
        return
    label, conditions = tiers[0]
    values.default("sweep.slo", conditions, why)
    if values["sweep.slo"] == conditions:
        notes.append(
            f"the search is for the tier `{label}`; of each other tier the best point that was run is reported"
        )


def _meaning(values: Values) -> str:
    if values["sweep.search"]:
        return f"`--search {values['sweep.search']}`"
    if values.given.get("sweep.scenarios"):
        return "a sweep of named points"
    axes = values.given.get("sweep.axes", ())
    names = [a.flag for a in axes if isinstance(a, Axis)] if isinstance(axes, tuple) else []
    return f"a sweep of {' and '.join(f'`{n}`' for n in names)}"


def _give(values: Values, path: str, value: object, why: str) -> None:
    """As if the user had given it: it holds at every point of the sweep."""
    if path not in values.given:
        values.given[path], values.origins[path] = value, Origin("flag", why)


def _space(values: Values, metric: str, why: str) -> None:
    low, high = values.number("sweep.concurrency_min") or _FIRST, values.number("sweep.concurrency_max") or _LAST
    values.default("sweep.search", "space", why)
    values.default("sweep.search_space", (f"concurrency:{exact(low)},{exact(high)}",), why)
    values.default("sweep.search_metric", metric, why)
    values.default("sweep.search_direction", "maximize", why)


def _axis(values: Values, path: str, name: str, default: tuple[int, int, int], why: str) -> None:
    """An axis, unless the user gave the option a list."""
    axes = values.given.get("sweep.axes", ())
    axes = axes if isinstance(axes, tuple) else ()
    if any(isinstance(a, Axis) and a.field == path for a in axes):
        return
    ends = (values.number(f"sweep.{name}_{end}") for end in ("min", "max", "steps"))
    low, high, steps = (given if given is not None else d for given, d in zip(ends, default, strict=True))
    if low >= high or steps < 2:
        return
    loads = log_steps(low, high, int(steps))
    values.given["sweep.axes"] = (*axes, Axis(field=path, flag=specs()[path].shown, values=loads))
    values.given.pop(path, None)
    values.default(path, loads[0], why)


def _hold(values: Values, path: str) -> None:
    """An axis of one value: it is in the name of each point, as AIPerf has it."""
    axes = values.given.get("sweep.axes", ())
    axes = axes if isinstance(axes, tuple) else ()
    if axes and not any(isinstance(a, Axis) and a.field == path for a in axes):
        held = Axis(field=path, flag=specs()[path].shown, values=(values.number(path) or 1,))
        values.given["sweep.axes"] = (*axes, held)


def _pairs(values: Values) -> None:
    """Each pair of lengths with each concurrency."""
    try:
        pairs = [p for text in _texts(values["sweep.isl_osl_pairs"]) for p in parse_pairs(text)]
    except ValueError:
        return
    axes = values.given.pop("sweep.axes", ())
    axes = axes if isinstance(axes, tuple) else ()
    given = next((a.values for a in axes if isinstance(a, Axis) and a.field == "load.concurrency"), None)
    loads = given or (values.number("load.concurrency") or 1,)
    values.given["sweep.scenarios"] = tuple(
        Scenario(
            name=f"isl_{isl}__osl_{osl}__concurrency_{exact(load)}",
            values={"prompt.isl_mean": float(isl), "prompt.osl_mean": float(osl), "load.concurrency": int(load)},
        )
        for isl, osl in pairs
        for load in loads
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(t) for t in value) if isinstance(value, tuple) else ()


_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "max-throughput-ttft-sla": ("sweep.ttft_sla_ms",),
    "max-throughput-itl-sla": ("sweep.itl_sla_ms",),
    "pareto-sweep": ("sweep.isl_osl_pairs",),
}
_STREAMED: Final = frozenset(
    {"max-throughput-ttft-sla", "max-throughput-itl-sla", "pareto-sweep", "prefill-ttft-curve", "decode-itl-curve"}
)


def recipe_problems(asked: Asked, config: Config) -> Iterator[Problem]:
    """What a recipe, pairs, tiers or variants lack."""
    sweep = config.sweep
    where = asked.at("sweep.search_recipe")
    if sweep.search_recipe is not None:
        for path in _NEEDED.get(sweep.search_recipe, ()):
            if not config.value(path):
                yield Problem(f"`{sweep.search_recipe}` needs `{specs()[path].shown}`", where)
        if sweep.search_recipe in _STREAMED and not config.endpoint.streaming:
            yield Problem(f"`{sweep.search_recipe}` needs `--streaming`", where)
        if sweep.search_recipe == "max-concurrency-under-sla" and not (sweep.slo or sweep.sla_tiers):
            yield Problem(
                f"`{sweep.search_recipe}` needs a limit",
                where,
                "as `--ttft-sla-ms 200` or `--slo 'request_latency:p95 < 2s'`",
            )
    for path, read in (
        ("sweep.isl_osl_pairs", lambda: [parse_pairs(t) for t in sweep.isl_osl_pairs]),
        ("sweep.sla_tiers", lambda: parse_tiers(sweep.sla_tiers)),
        ("sweep.variants", lambda: [parse_variant(t, i) for i, t in enumerate(sweep.variants)]),
    ):
        try:
            read()
        except ValueError as error:
            yield Problem(str(error), asked.at(path))
    if len(sweep.variants) == 1:
        yield Problem(
            "one variant is no sweep",
            asked.at("sweep.variants"),
            "give its options as options, or a second `--variant`",
        )
    if sweep.variants and (sweep.axes or sweep.search is not None):
        yield Problem("cannot be combined with a sweep or a search", asked.at("sweep.variants"))
    if sweep.sla_tiers and not 2 <= len(sweep.sla_tiers) <= 10:
        yield Problem(f"needs 2 to 10 tiers, not {len(sweep.sla_tiers)}", asked.at("sweep.sla_tiers"))

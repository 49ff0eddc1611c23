"""JSON Schema of AIPerf's YAML as it is read here, for editors: keys, types, help texts. Made from the same tables that read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from aiperf.config.v2 import tables
from aiperf.config.v2.body import SWITCHES
from aiperf.config.v2.reader import option
from aiperf.config.v2.tables import Note, Table

__all__ = ["build_schema"]

_ID: Final = "https://json-schema.org/draft/2020-12/schema"
_NUMBER: Final[Mapping[str, Any]] = {"type": ["number", "string"]}
_ANY_MAPPING: Final[Mapping[str, Any]] = {"type": "object"}


def build_schema() -> dict[str, Any]:
    """A text stands for any value: `${VARIABLE:default}`, `{{ variable }}`."""
    definitions = {
        "distribution": _distribution(),
        "ramp": {
            "oneOf": [
                {"type": ["number", "string"]},
                _mapping({"duration": _NUMBER, "strategy": {"enum": ["linear", "exponential", "poisson"]}}),
            ]
        },
        "endpoint": _endpoint(),
        "dataset": _dataset(),
        "phase": _phase(),
        "benchmark": _benchmark(),
    }
    top = {
        "schema_version": {"type": ["string", "number"], "description": "2.0"},
        "random_seed": _of("--random-seed"),
        "variables": {**_ANY_MAPPING, "description": "Names for `{{ … }}` in the rest of the file"},
        "no_sweep_table": _of("--no-sweep-table"),
        "multi_run": _table(tables.MULTI_RUN),
        "sweep": _sweep(),
        "plot": {**_ANY_MAPPING, "description": "Charts of `aiperf plot --config`"},
        "benchmark": {"$ref": "#/$defs/benchmark"},
    }
    return {
        "$schema": _ID,
        "title": "aiperf profile --config",
        **_mapping(top, required=["benchmark"]),
        "$defs": definitions,
    }


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _mapping(properties: Mapping[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """Both spellings of each key, and no other key."""
    both: dict[str, Any] = {}
    for name, shape in properties.items():
        both[_camel(name)] = shape
        both[name] = shape
    found: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": both}
    return found | ({"required": required} if required else {})


def _of(name: str) -> dict[str, Any]:
    spec = option(name)
    if spec is None:
        return {}
    help_text = {"description": spec.flag.help}
    match spec.kind:
        case "bool":
            return {"type": ["boolean", "string"], **help_text}
        case "int":
            return {"type": ["integer", "string", "null"], **help_text}
        case "float":
            return {"type": ["number", "string", "null"], **help_text}
        case "choice":
            words = [*spec.choices, *spec.flag.synonyms]
            return {"anyOf": [{"enum": words}, {"type": "string"}], **help_text}
        case "pairs" | "mapping":
            return {"type": "object", **help_text}
        case "str" | "path" | "secret":
            return {"type": ["string", "number", "null"], **help_text}
        case _:
            return {"type": ["array", "string", "number"], **help_text}


def _table(table: Table, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for key, entry in table.items():
        shape = {"description": f"no effect: {entry.reason}"} if isinstance(entry, Note) else _of(entry)
        outer, _, name = key.partition(".")
        if name:
            inner.setdefault(outer, {})[name] = shape
        else:
            properties[key] = shape
    properties |= {outer: _mapping(shapes) for outer, shapes in inner.items()}
    return _mapping({**properties, **(more or {})})


def _distribution() -> dict[str, Any]:
    bounds = {"type": {"type": "string"}, "min": _NUMBER, "max": _NUMBER}
    weighted = {"type": "array", "minItems": 1, "items": _ANY_MAPPING}
    return {
        "description": "A number, or what it is drawn from",
        "anyOf": [
            {"type": ["number", "string"]},
            _mapping({"mean": _NUMBER, "stddev": _NUMBER, **bounds}, ["mean"]),
            _mapping({"mean": _NUMBER, "median": _NUMBER, **bounds}, ["mean", "median"]),
            _mapping({"value": _NUMBER, **bounds}, ["value"]),
            _mapping({"peaks": weighted, **bounds}, ["peaks"]),
            _mapping({"points": weighted, **bounds}, ["points"]),
        ],
    }


def _endpoint() -> dict[str, Any]:
    switches = {name: {"anyOf": [{"type": "boolean"}, _table(table)]} for name, table in SWITCHES.items()}
    template = _mapping({"body": {"type": "string"}, "response_field": {"type": "string"}})
    return _table(tables.ENDPOINT, {**switches, "template": template})


def _dataset() -> dict[str, Any]:
    length = {"$ref": "#/$defs/distribution"}
    bust = {"anyOf": [{"type": "string"}, _mapping({"target": {"type": "string"}})]}
    pair = _mapping(
        {"isl": length, "osl": length, "isl_stddev": _NUMBER, "osl_stddev": _NUMBER, "probability": _NUMBER}
    )
    prompts = {
        "isl": length,
        "osl": length,
        "cache_bust": bust,
        "sequence_distribution": {"type": "array", "items": pair},
    }
    return _table(
        tables.DATASET,
        {
            "name": {"type": "string"},
            "type": {"enum": ["synthetic", "file", "public"]},
            "records": {"type": ["array", "object"], "description": "The dataset itself, instead of a file"},
            "random_seed": _of("--random-seed"),
            "isl": length,
            "osl": length,
            "cache_bust": bust,
            "prompts": _table(tables.PROMPTS, prompts),
            "prefix_prompts": _table(tables.PREFIXES),
            "turns": length,
            "turn_delay": length,
            "synthesis": _table(tables.SYNTHESIS),
            "filters": _ANY_MAPPING,
            "images": _table(tables.IMAGES, {"width": length, "height": length}),
            "audio": _table(tables.AUDIO, {"length": length}),
            "video": _table(tables.VIDEO),
            "rankings": _mapping(dict.fromkeys(tables.RANKINGS, length)),
        },
    )


def _phase() -> dict[str, Any]:
    ramp = {"$ref": "#/$defs/ramp"}
    point = _mapping({"time_s": _NUMBER, "qps": _NUMBER})
    return _table(
        {**tables.PHASE_ONLY, **tables.PHASE},
        {
            "name": {"type": "string"},
            "kind": {"enum": ["warmup", "profiling", None]},
            "type": {"enum": ["concurrency", "constant", "fixed_schedule", "gamma", "poisson", "user_centric"]},
            "exclude_from_results": {"type": "boolean", "description": "The phase is a warm-up"},
            "cancellation": _mapping({"rate": _NUMBER, "delay": _NUMBER}),
            "rate_series": _mapping({"path": {"type": "string"}, "points": {"type": "array", "items": point}}),
            "concurrency_ramp": ramp,
            "prefill_ramp": ramp,
            "rate_ramp": ramp,
        },
    )


def _benchmark() -> dict[str, Any]:
    words = {"type": ["string", "array"]}
    models = {"anyOf": [words, _mapping({"strategy": _of("--model-selection-strategy"), "items": {"type": "array"}})]}
    phase, dataset = {"$ref": "#/$defs/phase"}, {"$ref": "#/$defs/dataset"}
    telemetry: dict[str, Any] = {
        "anyOf": [
            {"type": ["boolean", "string", "array"]},
            _mapping(
                {
                    "enabled": {"type": "boolean"},
                    "urls": words,
                    "url": words,
                    "collector": {"type": "string"},
                    "mode": {"type": "string"},
                    "formats": words,
                    "interval": _NUMBER,
                    "discovery": _ANY_MAPPING,
                    "metrics_file": {"type": "string"},
                }
            ),
        ]
    }
    artifacts: dict[str, Any] = {"summary": {"type": ["array", "boolean"]}, "records": {"type": ["array", "boolean"]}}
    artifacts |= {"raw": {"type": "boolean"}, "user_files": {"type": "array", "items": _ANY_MAPPING}}
    return _mapping(
        {
            "model": models,
            "models": models,
            "endpoint": {"$ref": "#/$defs/endpoint"},
            "dataset": dataset,
            "datasets": {"anyOf": [{"type": "array", "items": dataset}, _ANY_MAPPING]},
            "phases": {"anyOf": [{"type": "array", "items": phase}, phase, _ANY_MAPPING]},
            "warmup": phase,
            "profiling": phase,
            "artifacts": _table(tables.ARTIFACTS, artifacts),
            "slos": {**_ANY_MAPPING, "description": "Metric tag → limit, in the unit it is shown in"},
            "tokenizer": _table(tables.TOKENIZER),
            "gpu_telemetry": telemetry,
            "server_metrics": telemetry,
            "network_latency": _table(tables.NETWORK),
            "runtime": _table(tables.RUNTIME),
            "logging": _mapping({"level": _of("--log-level"), "verbose": _of("--verbose")}),
            "scenario": {"type": ["string", "null"]},
            "unsafe_override": {"type": "boolean"},
            **dict.fromkeys(("metrics", "otel", "mlflow", "wandb", "accuracy"), _ANY_MAPPING),
        }
    )


def _sweep() -> dict[str, Any]:
    kinds = ["grid", "zip", "scenarios", "sobol", "latin_hypercube", "adaptive_search"]
    return {
        "type": "object",
        "description": "Several runs: points of a grid, lists paired, named scenarios, samples of a space, or a search",
        "properties": {
            "type": {"enum": kinds},
            "parameters": {**_ANY_MAPPING, "description": "Dotted path within `benchmark` → list of values"},
            "runs": {"type": "array", "items": _ANY_MAPPING},
        },
    }

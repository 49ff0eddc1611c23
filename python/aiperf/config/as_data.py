"""The configuration as plain data, secrets masked: `input_config` of the exports, and `run.json` with origins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, SecretStr

from aiperf.config.conditions import Condition, Precision, Tier
from aiperf.config.model import SECTIONS, Config, Origin, specs
from aiperf.config.secrets import MASK, mask_authority, mask_headers, mask_mapping, mask_url
from aiperf.json_text import fingerprint_of
from aiperf.number_text import exact

__all__ = ["WITHOUT_FLAG", "config_dict_for_export", "config_dict_for_run", "config_from_run", "fingerprint", "shown"]

WITHOUT_FLAG: Final = ("load.phases", "sweep.axes", "sweep.scenarios")
"""Options that only a file sets, or that follow from others."""
_WORKLOAD = ("input", "prompt", "conversation", "tokenizer")


def _plain(path: str, value: object) -> object:
    if isinstance(value, SecretStr):
        return MASK
    if path == "endpoint.headers" and isinstance(value, tuple):
        return [list(pair) for pair in mask_headers(value)]
    if path == "endpoint.urls" and isinstance(value, tuple):
        return [mask_url(str(url)) for url in value]
    if path == "endpoint.proxy" and isinstance(value, str):
        return mask_authority(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Tier | Condition | Precision):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [_plain("", v) for v in value]
    if isinstance(value, Mapping):
        return mask_mapping(value)
    return value


def shown(config: Config, path: str) -> str:
    """The value for people: `–` if absent, secrets masked."""
    value = _plain(path, config.value(path))
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(": ".join(map(str, v)) if isinstance(v, list) else str(v) for v in value) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items()) or "–"
    return exact(value) if isinstance(value, float) else str(value)


def config_dict_for_export(config: Config) -> dict[str, dict[str, object]]:
    """`{section: {field: value}}` of the options the user gave, JSON types, secrets masked."""
    result: dict[str, dict[str, object]] = {}
    for path, spec in specs().items():
        if config.is_set(path):
            result.setdefault(spec.section, {})[spec.name] = _plain(path, config.value(path))
    return result


def config_dict_for_run(config: Config) -> dict[str, dict[str, dict[str, object]]]:
    """`{section: {field: {"value", "origin"}}}` of all options, JSON types, secrets masked; those without a flag among them."""
    result: dict[str, dict[str, dict[str, object]]] = {}
    for path, spec in specs().items():
        origin = config.origins.get(path, Origin("default", ""))
        entry = {"value": _plain(path, config.value(path)), "origin": str(origin), "kind": origin.kind}
        result.setdefault(spec.section, {})[spec.name] = entry
    for path in WITHOUT_FLAG:
        section, _, name = path.partition(".")
        value = _plain(path, config.value(path))
        result[section][name] = {"value": value, "origin": "from the options", "kind": "default"}
    return result


def config_from_run(data: Mapping[str, Mapping[str, Mapping[str, object]]]) -> Config:
    """The configuration of `config_dict_for_run` again, without its secrets (the API key is None); unknown fields of a newer
    or older version are left out. For `aiperf report`, which takes new goals for old records.
    """
    from aiperf.config.conditions import parse_condition, parse_precision, parse_tier

    parsers = {"tiers": parse_tier, "conditions": parse_condition, "precisions": parse_precision}
    sections: dict[str, dict[str, object]] = {}
    origins: dict[str, Origin] = {}
    for path, spec in specs().items():
        entry = data.get(spec.section, {}).get(spec.name)
        if entry is None or spec.kind == "secret":
            continue
        value = entry.get("value")
        if spec.kind in parsers and isinstance(value, list):
            value = tuple(parsers[spec.kind](str(v)) for v in value)
        sections.setdefault(spec.section, {})[spec.name] = value
        kind, where = entry.get("kind"), str(entry.get("origin", ""))
        if kind == "file" or kind == "environment" or kind == "flag":  # noqa: PLR1714 - so that mypy sees the literals
            origins[path] = Origin(kind, where)
        elif where.startswith("default: "):
            origins[path] = Origin("default", where.removeprefix("default: "))
    for path in WITHOUT_FLAG:
        section, _, name = path.partition(".")
        entry = data.get(section, {}).get(name)
        if entry is not None:
            sections.setdefault(section, {})[name] = entry.get("value", ())
    parts = {name: SECTIONS[name].model_validate(content) for name, content in sections.items()}
    return Config.assemble(parts, origins=origins)


def fingerprint(config: Config) -> str:
    """Equal for runs with the same workload: dataset, prompts, conversations, tokenizer, and the body's options. 16 hex digits."""
    parts: dict[str, object] = {p: _plain(p, config.value(p)) for p, s in specs().items() if s.section in _WORKLOAD}
    for path in ("endpoint.endpoint_type", "endpoint.streaming", "endpoint.extra_inputs", "endpoint.ignore_eos"):
        parts[path] = _plain(path, config.value(path))
    return fingerprint_of(parts)

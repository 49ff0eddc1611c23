"""Manifests against the schemas of Kubernetes, KubeRay and JobSet, rules in CEL included."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["KUBERNETES", "validate"]

DATA = Path(__file__).parents[2] / "data" / "kubernetes"
KUBERNETES = ("1.31", "1.34", "1.37")
"""From the first that knows a Job's success policy to the newest whose schema is published."""
_CUSTOM = {"RayJob": "rayjob", "RayCronJob": "raycronjob", "JobSet": "jobset"}


def validate(item: dict[str, Any], version: str) -> None:
    """Raises with what is wrong. Unknown fields are wrong too: the API server drops them without a word."""
    if item["kind"] in _CUSTOM:
        _custom(item)
        return
    import kubernetes_validate

    kubernetes_validate.validate(item, version, strict=True)


def _custom(item: dict[str, Any]) -> None:
    import jsonschema

    read = json.loads(gzip.decompress((DATA / f"{_CUSTOM[item['kind']]}.json.gz").read_bytes()))
    assert item["apiVersion"] == f"{read['group']}/{read['version']}"
    jsonschema.validate(item, _closed(read["schema"]))
    broken = list(_broken_rules(read["schema"], item, item["kind"]))
    assert not broken, broken


def _closed(schema: Any) -> Any:
    """Objects with properties have no others, and quantities may be numbers or text, as the API server has it."""
    if isinstance(schema, list):
        return [_closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {k: _closed(v) for k, v in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or not schema.get("properties")
    if schema.get("type") == "object" and not is_open:
        closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


def _broken_rules(schema: Any, value: Any, path: str) -> Iterator[str]:
    """Rules of creation; those about the value before (`oldSelf`) are of updates."""
    if not isinstance(schema, dict):
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{path}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        for key, inner in value.items():
            below = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            yield from _broken_rules(below, inner, f"{path}.{key}")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _broken_rules(schema.get("items"), inner, f"{path}[{at}]")


def _holds(rule: str, value: Any) -> bool:
    import celpy
    from celpy.adapter import json_to_cel

    environment = celpy.Environment()
    program = environment.program(environment.compile(rule))
    return bool(program.evaluate({"self": json_to_cel(value)}))

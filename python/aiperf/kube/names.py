"""Kubernetes' grammars: names, labels, quantities, images, schedules. Each gives what is wrong in one line, or None."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = [
    "MAX_NAME",
    "bad_image",
    "bad_label",
    "bad_name",
    "bad_object_name",
    "bad_quantity",
    "bad_run_name",
    "bad_schedule",
    "bad_time_zone",
    "bad_variable",
    "key_values",
    "run_name",
    "secret_key",
    "toleration",
]

MAX_NAME: Final = 40
"""Leaves room in 63 characters for what the controllers append: an index, a schedule's time, KubeRay's random letters."""

_LABEL_1035: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_1123: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_VARIABLE: Final = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_OPERATORS: Final = ("Exists", "Equal", "Lt", "Gt")
_OF_A_TOLERATION: Final = {"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int}
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_KEY: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUANTITY: Final = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?")
_IMAGE: Final = re.compile(
    r"([A-Za-z0-9.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[a-z0-9]+:[0-9a-f]{32,})?"
)
_CRON_FIELD: Final = re.compile(
    r"(\*|\?|[A-Za-z0-9]+(-[A-Za-z0-9]+)?)(/\d+)?(,(\*|[A-Za-z0-9]+(-[A-Za-z0-9]+)?)(/\d+)?)*"
)
_CRON_WORDS: Final = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_CRON_RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def bad_run_name(text: str) -> str | None:
    """RFC 1035 label: the rule for Services, JobSets and RayJobs, which bear the name of the run; short enough for what is appended."""
    if wrong := bad_name(text, MAX_NAME):
        return wrong
    return (
        None if _LABEL_1035.fullmatch(text) else f"`{text}` does not begin with a letter, as the name of a Service must"
    )


def bad_variable(text: str) -> str | None:
    """Names of environment variables, as all versions of Kubernetes take them."""
    if _VARIABLE.fullmatch(text):
        return None
    return f"`{text}` is not the name of an environment variable: letters, digits, `_`, `-`, `.`, no digit in front"


def bad_time_zone(text: str) -> str | None:
    """A name of the IANA database; where this machine has none, only what no cluster takes is refused."""
    import zoneinfo

    known = zoneinfo.available_timezones()
    if text == "Local" or (known and text not in known):
        return f"`{text}` is not a time zone; for example `Europe/Berlin`, `Etc/UTC`"
    return None


def bad_name(text: str, longest: int = 63) -> str | None:
    """RFC 1123 label: the rule for names of namespaces."""
    if len(text) > longest:
        return f"`{text}` has {len(text)} characters, at most {longest} are allowed"
    if not _LABEL_1123.fullmatch(text):
        return f"`{text}` is not a Kubernetes name: lower-case letters, digits and `-`, a letter or digit at both ends"
    return None


def bad_object_name(text: str) -> str | None:
    """RFC 1123 subdomain: the rule for Secrets, ConfigMaps, claims and the like."""
    if len(text) > 253 or not _SUBDOMAIN.fullmatch(text):
        return f"`{text}` is not the name of a Kubernetes object: lower-case letters, digits, `-` and `.`"
    return None


def bad_label(key: str, value: str | None) -> str | None:
    """`value` None: only the key is checked, as for annotations."""
    prefix, slash, name = key.rpartition("/")
    if slash and not _SUBDOMAIN.fullmatch(prefix):
        return f"`{key}`: the part before `/` must be a DNS name"
    if len(name) > 63 or not _LABEL_KEY.fullmatch(name):
        return f"`{key}` is not a label key: letters, digits, `-`, `_`, `.`, at most 63 characters"
    if value is not None and (len(value) > 63 or not _LABEL_VALUE.fullmatch(value)):
        return f"`{value}` is not a label value: letters, digits, `-`, `_`, `.`, at most 63 characters"
    return None


def bad_quantity(text: str) -> str | None:
    if not _QUANTITY.fullmatch(text):
        return f"`{text}` is not a quantity; for example `2`, `500m`, `4Gi`"
    if not float(re.sub(r"[A-Za-z].*$", "", text)):
        return f"`{text}` is not a quantity above 0"
    return None


def bad_image(text: str) -> str | None:
    if not _IMAGE.fullmatch(text):
        return f"`{text}` is not an image reference; for example `registry.example.com/team/aiperf:1.2`"
    return None


def bad_schedule(text: str) -> str | None:
    if text in _CRON_WORDS:
        return None
    fields = text.split()
    if len(fields) != len(_CRON_RANGES) or not all(_CRON_FIELD.fullmatch(f) for f in fields):
        return f"`{text}` is not a cron schedule: minute, hour, day, month, weekday; for example `0 3 * * *`"
    for field, (low, high) in zip(fields, _CRON_RANGES, strict=True):
        for number in re.findall(r"(?<!/)\b\d+", re.sub(r"/\d+", "", field)):
            if not low <= int(number) <= high:
                return f"`{text}`: {number} in `{field}` is not between {low} and {high}"
    return None


def run_name(text: str) -> str:
    """A Kubernetes name made of any text, as `aiperf-meta-llama-3-8b`."""
    word = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return f"aiperf-{word}"[:MAX_NAME].rstrip("-")


def key_values(texts: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` words, or a JSON object; ValueError for anything else."""
    pairs: dict[str, str] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            pairs |= {str(k): str(v) for k, v in _json(text).items()}
            continue
        key, equals, value = text.partition("=")
        if not equals or not key:
            msg = f"`{text}` is not of the form KEY=VALUE"
            raise ValueError(msg)
        pairs[key] = value
    return pairs


def secret_key(text: str) -> tuple[str, str]:
    """`NAME/KEY` → name and key of a Secret or ConfigMap; ValueError."""
    name, slash, key = text.partition("/")
    wrong = bad_object_name(name)
    if wrong or not slash or not re.fullmatch(r"[-._A-Za-z0-9]+", key):
        msg = f"`{text}` is not of the form NAME/KEY" if wrong is None else wrong
        raise ValueError(msg)
    return name, key


def toleration(text: str) -> list[dict[str, Any]]:
    """`KEY[=VALUE][:EFFECT]`, or a JSON object or array of Kubernetes' own form; ValueError."""
    if text.lstrip().startswith(("{", "[")):
        return _tolerations(text)
    rest, colon, effect = text.rpartition(":")
    if not colon:
        rest, effect = text, ""
    key, equals, value = rest.partition("=")
    if effect and effect not in _EFFECTS:
        msg = f"`{effect}` is not an effect of a taint: {', '.join(_EFFECTS)}"
        raise ValueError(msg)
    wrong = bad_label(key, value)
    if wrong and key:
        raise ValueError(wrong)
    rule: dict[str, Any] = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    if key:
        rule["key"] = key
    if effect:
        rule["effect"] = effect
    return [rule]


def _tolerations(text: str) -> list[dict[str, Any]]:
    """Kubernetes' own form, of which what it would refuse is named."""
    try:
        read = json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"`{text}` is not JSON: {error.msg}"
        raise ValueError(msg) from error
    items = read if isinstance(read, list) else [read]
    for item in items:
        wrong = None
        if not isinstance(item, dict):
            wrong = "is not a JSON object"
        elif unknown := [k for k, v in item.items() if type(v) is not _OF_A_TOLERATION.get(k)]:
            wrong = f"has `{unknown[0]}`, which is not a field of a toleration or not of its type"
        elif item.get("operator", "Equal") not in _OPERATORS:
            wrong = f"has the operator `{item['operator']}`, which is none of {', '.join(_OPERATORS)}"
        elif item.get("effect", "") not in {*_EFFECTS, ""}:
            wrong = f"has the effect `{item['effect']}`, which is none of {', '.join(_EFFECTS)}"
        elif not item.get("key") and item.get("operator") != "Exists":
            wrong = "has no key, which only the operator `Exists` does without"
        if wrong is not None:
            msg = f"`{json.dumps(item, allow_nan=False)}` {wrong}"
            raise ValueError(msg)
    return items


def _json(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"`{text}` is not JSON: {error.msg}"
        raise ValueError(msg) from error
    if not isinstance(read, dict):
        msg = f"`{text}` is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 - the caller treats all bad text alike
    return read

"""Small languages of the flags: goodput tiers, conditions on a figure, and how sure a figure has to be.

* `time_to_first_token:250 request_latency:500`, optionally `strict=` in front: a goodput tier.
* `time_to_first_token:p99 < 500ms`, AIPerf's `time_to_first_token:p99:lt:500`, `good_request_fraction >= 95%`, `certificate = trustworthy`: a condition; `server:queue_time:p99 < 200ms`: one on a metric of the server's own.
* `time_to_first_token:p99:±5%`: a precision.

Tags are only checked against the known ones in `aiperf.config.check`: nothing is imported here.
"""

from __future__ import annotations

import re
from typing import Literal

from aiperf.config.sections import Section
from aiperf.number_text import exact
from aiperf.units import TIME_NS, split_number, time_in

__all__ = ["ALIASES", "Condition", "Precision", "Tier", "parse_condition", "parse_precision", "parse_tier"]

Op = Literal["<", "<=", ">", ">=", "=", "!="]

_STAT = r"avg|mean|min|max|std|sum|count|rate|median|p\d+(?:\.\d+)?"
_CONDITION = re.compile(
    rf"^\s*((?:server:)?[A-Za-z_][\w-]*)(?:\s*:\s*({_STAT}))?\s*(<=|>=|!=|==|=|<|>|≤|≥)\s*(\S+)\s*$"
)
_AIPERF = re.compile(rf"^\s*((?:server:)?[A-Za-z_][\w-]*)\s*:\s*({_STAT})\s*:\s*(lt|le|gt|ge)\s*:\s*(\S+)\s*$")
_PRECISION = re.compile(rf"^\s*([A-Za-z_][\w-]*)(?:\s*:\s*({_STAT}))?\s*:\s*(?:±|\+-|\+/-)?\s*(\d+(?:\.\d+)?)\s*%\s*$")
ALIASES = {
    "ttft": "time_to_first_token",
    "ttst": "time_to_second_token",
    "itl": "inter_token_latency",
    "tpot": "inter_token_latency",
    "icl": "inter_chunk_latency",
    "osl": "output_sequence_length",
    "isl": "input_sequence_length",
    "latency": "request_latency",
    "error_rate": "request_error_rate",
    "rps": "request_throughput",
}


class Tier(Section):
    """A set of service level objectives. `limits`: (metric tag, threshold in the metric's display unit); `timed`: tags whose threshold
    was written with a unit of time, and is in ms. `name` None: the only one.
    """

    name: str | None = None
    limits: tuple[tuple[str, float], ...]
    timed: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = " ".join(f"{tag}:{exact(value)}{'ms' if tag in self.timed else ''}" for tag, value in self.limits)
        return text if self.name is None else f"{self.name}={text}"


class Condition(Section):
    """`tag:stat op value`. `stat` None: the metric's only value, or its average. Times are ms (`unit` "ms"); `unit` "%": as
    written, so 95 for `95%`; `unit` None: the metric's display unit. A text value (`certificate = trustworthy`) has no unit.
    """

    tag: str
    stat: str | None = None
    op: Op
    value: float | str
    unit: Literal["ms", "%"] | None = None

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{exact(self.value)}{self.unit or ''}"
        return f"{self.tag}{':' + self.stat if self.stat else ''} {self.op} {value}"


class Precision(Section):
    """Half width of the 95 % interval of a figure, as a share of it: 0.05 for ±5 %."""

    tag: str
    stat: str | None = None
    relative: float

    def __str__(self) -> str:
        return f"{self.tag}{':' + self.stat if self.stat else ''}:±{exact(self.relative * 100)}%"


def _tag(text: str) -> str:
    """`server:` in front stays: it is a metric of the server's own."""
    side, colon, name = text.strip().replace("-", "_").lower().rpartition(":")
    return side + colon + ALIASES.get(name, name)


def _stat(text: str | None) -> str | None:
    return {"mean": "avg", "median": "p50"}.get(text, text) if text else None


def _number(text: str) -> tuple[float, Literal["ms", "%"] | None]:
    """Value and unit of `500ms`, `0.5s`, `95%`, `12`; ValueError for anything else."""
    found = split_number(text)
    if found is None:
        raise ValueError(f"`{text}` is not a number with an optional unit")
    value, unit = found
    if not unit:
        return value, None
    if unit == "%":
        return value, "%"
    if unit in TIME_NS:
        return time_in(value, unit, "ms"), "ms"
    if unit in {"k", "K", "M"}:
        return value * (1e3 if unit in "kK" else 1e6), None
    raise ValueError(f"`{unit}` in `{text}` is not a known unit; known: ms, s, %, k, M")


def parse_tier(text: str) -> Tier:
    """ValueError says what is wrong. Thresholds may carry a time unit; a bare number is in the metric's display unit."""
    name, sep, rest = text.partition("=")
    limits: list[tuple[str, float]] = []
    timed: list[str] = []
    for word in (rest if sep else text).replace(",", " ").split():
        tag, colon, value = word.partition(":")
        if not colon or not tag or not value:
            raise ValueError(f"`{word}` is not `metric:threshold`, as in `time_to_first_token:370`")
        number, unit = _number(value)
        if number < 0:
            raise ValueError(f"the threshold of `{word}` is negative")
        if unit == "%":
            raise ValueError(f"the threshold of `{word}` is a value per request, not a share")
        limits.append((_tag(tag), number))
        if unit == "ms":
            timed.append(_tag(tag))
    if not limits:
        raise ValueError("a goodput tier needs at least one `metric:threshold`")
    return Tier(name=name.strip() or None if sep else None, limits=tuple(limits), timed=tuple(timed))


def parse_condition(text: str) -> Condition:
    """ValueError says what is wrong."""
    parts = _CONDITION.match(text) or _AIPERF.match(text)
    if parts is None:
        raise ValueError(f"`{text}` is not a condition such as `time_to_first_token:p99 < 500ms`")
    op = {"==": "=", "≤": "<=", "≥": ">=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.get(parts[3], parts[3])
    value: float | str
    try:
        value, unit = _number(parts[4])
    except ValueError:
        if op not in {"=", "!="} or parts[4][:1].isdigit():
            raise
        value, unit = parts[4].lower(), None
    return Condition.model_validate(
        {"tag": _tag(parts[1]), "stat": _stat(parts[2]), "op": op, "value": value, "unit": unit}
    )


def parse_precision(text: str) -> Precision:
    """ValueError says what is wrong."""
    parts = _PRECISION.match(text)
    if parts is None:
        raise ValueError(f"`{text}` is not a precision such as `time_to_first_token:p99:±5%`")
    relative = float(parts[3]) / 100
    if not 0 < relative < 1:
        raise ValueError(f"`{parts[3]}%` must lie between 0 and 100 %")
    return Precision(tag=_tag(parts[1]), stat=_stat(parts[2]), relative=relative)

"""Text → value, for flags, environment variables and files alike. Every function raises ValueError with what is wrong.

`1k`, `2M`, `1_000`; `500ms`, `2m`, `1h`; `20%`. A bare number keeps the option's own unit (AIPerf's). A list or range for a
numeric option is a sweep: `10,50,100`, `1:64:x2`, `10:100:+10`.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiperf.config.conditions import parse_condition, parse_precision, parse_tier
from aiperf.config.flag import FieldSpec, Unit
from aiperf.errors import nearest
from aiperf.number_text import exact
from aiperf.units import TIME_NS, split_number, time_in

__all__ = [
    "MAX_POINTS",
    "parse_axis",
    "parse_bool",
    "parse_json",
    "parse_list",
    "parse_number",
    "parse_rate_series",
    "parse_scalar",
    "parse_value",
]

MAX_POINTS = 1000
"""Most values one axis of a sweep may have."""

_SCALE = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
_COMPOUND = re.compile(r"^(?:\d+(?:\.\d+)?(?:h|min|ms|m|s))+$")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|min|ms|m|s)")


def parse_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise ValueError(f"`{text}` is neither true nor false")


def parse_number(text: str, *, unit: Unit | None = None, whole: bool = False) -> float:
    """The number in the option's unit. `whole`: it must have no fraction."""
    word = text.strip()
    what = {
        "s": "a duration such as `30`, `500ms` or `2m`",
        "ms": "a duration such as `500` (ms) or `2s`",
        "%": "a percentage",
        "share": "a share such as `0.1` or `10%`",
    }.get(unit or "", "a whole number" if whole else "a number")
    if unit in {"s", "ms"} and _COMPOUND.match(word):
        return sum(time_in(float(n), u, unit or "s") for n, u in _PART.findall(word))
    found = split_number(word)
    if found is None:
        raise ValueError(f"`{text}` is not {what}")
    value, suffix = found
    if suffix and unit in {"s", "ms"}:
        if suffix not in TIME_NS:
            raise ValueError(f"`{text}` is not {what}")
        value = time_in(value, suffix, unit or "s")
    elif suffix == "%" and unit in {"%", "share"}:
        value = value if unit == "%" else round(value / 100, 12)
    elif suffix in _SCALE and unit is None:
        value = round(value * _SCALE[suffix], 9)
    elif suffix:
        raise ValueError(f"`{text}` is not {what}")
    if not math.isfinite(value):
        raise ValueError(f"`{text}` is not {what}")
    if whole and not value.is_integer():
        raise ValueError(f"`{text}` is not a whole number")
    return value


def _choice(text: str, spec: FieldSpec) -> str:
    def plain(word: str) -> str:
        return word.strip().replace("-", "_").lower()

    known = {plain(c): c for c in spec.choices} | {plain(s): c for s, c in spec.flag.synonyms.items()}
    if plain(text) in known:
        return known[plain(text)]
    near = nearest(plain(text), tuple(known))
    listed = ", ".join(f"`{c}`" for c in spec.choices)
    raise ValueError(f"`{text}` is not one of {listed}" + (f"; did you mean `{known[near]}`?" if near else ""))


def parse_scalar(text: str, spec: FieldSpec) -> object:
    """One value of an option that is not a list."""
    match spec.kind:
        case "bool":
            return parse_bool(text)
        case "int" | "float" if spec.optional and text.strip().lower() in {"inf", "infinity", "none"}:
            return None
        case "int":
            return int(parse_number(text, unit=spec.flag.unit, whole=True))
        case "float":
            return parse_number(text, unit=spec.flag.unit)
        case "choice":
            return _choice(text, spec)
        case "path":
            if not text:
                raise ValueError("the path is empty")
            return Path(text).expanduser()
        case _:
            if not text.strip():
                raise ValueError("the value is empty")
            return text


def _steps(text: str, spec: FieldSpec) -> list[float]:
    parts = text.split(":")
    whole = spec.kind == "int"
    if len(parts) == 1:
        return [parse_number(text, unit=spec.flag.unit, whole=whole)]
    if len(parts) != 3:
        raise ValueError(f"`{text}` is not a range; write `start:stop:xFACTOR` or `start:stop:+STEP`, as in `1:64:x2`")
    start, stop = (parse_number(p, unit=spec.flag.unit, whole=whole) for p in parts[:2])
    factor = parts[2].startswith(("x", "*"))
    step = parse_number(parts[2].lstrip("x*+"), unit=None if factor else spec.flag.unit)
    if start > stop or (factor and (step <= 1 or start <= 0)) or (not factor and step <= 0):
        raise ValueError(f"the range `{text}` never gets from `{parts[0]}` to `{parts[1]}`")
    values, n = [], 0
    while (value := start * step**n if factor else start + step * n) <= stop * (1 + 1e-9):
        values.append(float(round(value)) if whole else round(value, 9))
        n += 1
        if n > MAX_POINTS:
            raise ValueError(f"the range `{text}` has more than {MAX_POINTS:,} values")
    return values


def parse_axis(text: str, spec: FieldSpec) -> tuple[int | float, ...] | None:
    """The values of a sweep, each once, in the order given; None if the text is a single value."""
    if not spec.is_sweepable or ("," not in text and ":" not in text):
        return None
    values = [v for part in text.split(",") if part.strip() for v in _steps(part.strip(), spec)]
    if not values:
        raise ValueError(f"`{text}` holds no value")
    return tuple(int(v) if spec.kind == "int" else v for v in dict.fromkeys(values))


def _pair(text: str, separators: str, example: str) -> tuple[str, str]:
    at = min((i for i in (text.find(s) for s in separators) if i > 0), default=-1)
    if at < 0:
        raise ValueError(f"`{text}` is not {example}")
    return text[:at].strip(), text[at + 1 :].strip()


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"`{text}` is no number of JSON")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"`{text}` is no value of JSON")


_JSON = json.JSONDecoder(parse_float=_finite, parse_constant=_constant)
"""Python's own reader takes `NaN` and `1e400`, which no server does."""
_JSON_NUMBER = re.compile(r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


def parse_json(text: str) -> object:
    """ValueError with what is wrong, also of `NaN` and of numbers that are too large."""
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`{text}` is not JSON: {error.msg} at character {error.pos + 1}") from error


def parse_value(text: str) -> object:
    """The value of a body's field as AIPerf reads it: `true`, `None` in any case, numbers; JSON in brackets or quotes; else text.

    `0123`, `10.0.0.1:80`, `NaN` and `1e400` are text: they are no numbers of JSON.
    """
    word = text.strip()
    plain = {"true": True, "false": False, "none": None, "null": None}
    if word.lower() in plain:
        return plain[word.lower()]
    if _JSON_NUMBER.fullmatch(word):
        number = float(word)
        is_whole = re.fullmatch(r"-?\d+", word) is not None
        return int(word) if is_whole else number if math.isfinite(number) else word
    if word[:1] in {"{", "[", '"'}:
        try:
            return _JSON.decode(word)
        except json.JSONDecodeError:
            return word
    return word


_NEXT_FIELD = re.compile(r",(?=\s*[A-Za-z_][\w.-]*\s*[:=])")


def _fields(text: str) -> dict[str, object]:
    """`a:1,b:2` is two fields, as in AIPerf; `stop:a,b` is one, as `b` has no value; a comma within JSON separates nothing."""
    fields: dict[str, object] = {}
    rest = text
    while rest.strip():
        name, value = _pair(rest, ":=", "`name:value` or a JSON object")
        if value[:1] in {"{", "[", '"'}:
            try:
                fields[name], end = _JSON.raw_decode(value)
            except json.JSONDecodeError:
                end = 0
            after = value[end:].lstrip()
            if end and after[:1] in {"", ","}:
                rest = after[1:]
                continue
        cut = _NEXT_FIELD.search(value)
        fields[name] = parse_value(value if cut is None else value[: cut.start()])
        rest = "" if cut is None else value[cut.end() :]
    return fields


def _mapping(text: str, spec: FieldSpec) -> dict[str, object]:
    if text.lstrip().startswith("{"):
        found = parse_json(text)
        return dict(found) if isinstance(found, dict) else {}
    if spec.name == "dataset_options":
        name, value = _pair(text, "=:", "`name=value` or a JSON object")
        return {name: parse_value(value)}
    return _fields(text)


def _headers(text: str) -> list[tuple[str, str]]:
    if text.lstrip().startswith("{"):
        try:
            rows = _JSON.decode(text)
        except ValueError:
            raise ValueError("the headers are not JSON") from None  # the text may be a secret
        if not isinstance(rows, dict) or not all(isinstance(v, str | int | float) for v in rows.values()):
            raise ValueError("the value of a header is a text or a number")
        return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in rows.items()]
    try:
        return [_pair(text, ":", "`Name: value`")]
    except ValueError:
        raise ValueError("a header is `Name: value`") from None


def _ints(text: str) -> list[int]:
    low, dash, high = text.partition("-")
    first = int(parse_number(low, whole=True))
    last = int(parse_number(high, whole=True)) if dash else first
    if first < 0 or last < first or last - first > MAX_POINTS:
        raise ValueError(f"`{text}` is not a range of numbers")
    return list(range(first, last + 1))


def parse_list(texts: Sequence[str], spec: FieldSpec) -> object:
    """All values given for a list option: a tuple, or a dict for a mapping."""
    pieces = [p.strip() for t in texts for p in (t.split(",") if spec.flag.split else (t,))]
    pieces = [p for p in pieces if p]
    match spec.kind:
        case "mapping":
            merged: dict[str, object] = {}
            for piece in pieces:
                merged |= _mapping(piece, spec)
            return merged
        case "pairs":
            return tuple(pair for p in pieces for pair in _headers(p))
        case "ints":
            return tuple(dict.fromkeys(n for p in pieces for n in _ints(p)))
        case "floats":
            return tuple(dict.fromkeys(parse_number(p.removeprefix("p")) for p in pieces))
        case "paths":
            return tuple(Path(p).expanduser() for p in pieces)
        case "tiers":
            return tuple(parse_tier(p) for p in pieces)
        case "conditions":
            return tuple(parse_condition(p) for p in pieces)
        case "precisions":
            return tuple(parse_precision(p) for p in pieces)
        case _:
            return tuple(pieces)


def parse_rate_series(text: str) -> tuple[tuple[float, float], ...]:
    """(time in s, requests per s) points from JSON or a JSON or CSV file, linear between; two at one time are a step.

    JSON: `[{"time_s": 0, "qps": 1}, …]`, `[[0, 1], …]`, or either under the key `points`; CSV: two columns, a header allowed.
    Stages, each a constant rate: `[{"duration_s": 30, "qps": 5}, …]`, or under the key `stages`; at the end of the last one the
    rate is 0. ValueError; OSError if it is a file that cannot be read.
    """
    raw = text.strip()
    if not raw.startswith(("[", "{")):
        raw = Path(raw).expanduser().read_text(encoding="utf-8").strip()
    if raw.startswith(("[", "{")):
        try:
            data = json.loads(raw)
        except json.JSONDecodeError as error:
            raise ValueError(f"the rate series is not JSON: {error.msg} at character {error.pos + 1}") from error
        rows = data.get("points", data.get("stages", [])) if isinstance(data, Mapping) else data
    else:
        lines = [line.split(",") for line in raw.splitlines() if line.strip()]
        rows = lines[1:] if lines and split_number(lines[0][0]) is None else lines
    if isinstance(rows, Sequence) and rows and all(isinstance(r, Mapping) and "duration_s" in r for r in rows):
        return _stages(rows)
    points: list[tuple[float, float]] = []
    for number, row in enumerate(rows, 1):
        try:
            time_s, rate = (row["time_s"], row["qps"]) if isinstance(row, Mapping) else row
            points.append((float(time_s), float(rate)))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"point {number} of the rate series is not a `time_s` and a `qps`: `{row}`") from error
    return _checked(points)


def _stages(rows: Sequence[Mapping[str, object]]) -> tuple[tuple[float, float], ...]:
    points: list[tuple[float, float]] = []
    end = 0.0
    for number, row in enumerate(rows, 1):
        try:
            length, rate = float(str(row["duration_s"])), float(str(row["qps"]))
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"stage {number} of the rate series has no `duration_s` and `qps`: `{dict(row)}`"
            ) from error
        if length <= 0:
            raise ValueError(f"stage {number} of the rate series lasts {exact(length)} s: it must be more than 0")
        points += [(end, rate), (end + length, rate)]
        end += length
    return _checked([*points, (end, 0.0)])


def _checked(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    if not points:
        raise ValueError("the rate series has no points")
    if any(b[0] < a[0] for a, b in itertools.pairwise(points)) or points[0][0] < 0:
        raise ValueError("rate-series timestamps must be increasing and start at 0")
    if any(rate < 0 for _, rate in points) or not any(rate > 0 for _, rate in points):
        raise ValueError("the rates of the series must not be negative, nor all 0")
    return tuple(points)

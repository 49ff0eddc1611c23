"""Distributions of lengths: pairs of them (`--seq-dist`, in the three forms AIPerf takes), and one alone (`--isl-dist`), in the
forms of its YAML.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aiperf.number_text import exact

__all__ = ["Distribution", "LengthPair", "parse_distribution", "parse_seq_dist"]

_PLAIN = re.compile(r"^(\d+)(?:\|(\d+(?:\.\d+)?))?,(\d+)(?:\|(\d+(?:\.\d+)?))?:(\d+(?:\.\d+)?)$")
_BRACKET = re.compile(r"\((\d+)(?:\|(\d+(?:\.\d+)?))?,(\d+)(?:\|(\d+(?:\.\d+)?))?\):(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthPair:
    """Mean input and output length in tokens with deviations; `share`: its part of the requests, 0 to 1."""

    isl: int
    isl_stddev: float
    osl: int
    osl_stddev: float
    share: float


def parse_seq_dist(text: str) -> tuple[LengthPair, ...]:
    """`128|10,256|20:60;512,128:40`, `[(128,256):60,(512,128):40]` or JSON `{"pairs": [{"isl", "isl_stddev", "osl",
    "osl_stddev", "prob"}]}`; the percentages sum to 100. ValueError says what is wrong.
    """
    word = "".join(text.split())
    rows: list[tuple[str, ...]]
    if word.startswith("{"):
        try:
            pairs = json.loads(text)["pairs"]
            rows = [
                tuple(
                    str(p.get(k, d))
                    for k, d in (("isl", ""), ("isl_stddev", 0), ("osl", ""), ("osl_stddev", 0), ("prob", ""))
                )
                for p in pairs
            ]
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                'the length distribution is not JSON of the form `{"pairs": [{"isl", "osl", "prob"}]}`'
            ) from error
    elif word.startswith("["):
        rows = _BRACKET.findall(word)
        if not rows or not word.endswith("]") or _BRACKET.sub("", word).strip("[],;"):
            raise ValueError(f"`{text}` is not of the form `[(ISL,OSL):percent,…]`")
    else:
        rows = []
        for part in word.strip(";").split(";"):
            found = _PLAIN.match(part)
            if found is None:
                raise ValueError(f"`{part}` is not `ISL|stddev,OSL|stddev:percent`")
            rows.append(tuple(g or "" for g in found.groups()))
    try:
        pairs_ = [(int(a), float(b or 0), int(c), float(d or 0), float(p)) for a, b, c, d, p in rows]
    except ValueError as error:
        raise ValueError(f"`{text}` holds something that is not a number") from error
    total = sum(p for *_, p in pairs_)
    if abs(total - 100) > 1e-6:
        raise ValueError(f"the percentages of the length distribution sum to {exact(total)}, not to 100")
    if any(isl < 1 or osl < 1 for isl, _, osl, _, _ in pairs_):
        raise ValueError("lengths must be at least 1")
    return tuple(
        LengthPair(isl=isl, isl_stddev=sd, osl=osl, osl_stddev=so, share=share / 100)
        for isl, sd, osl, so, share in pairs_
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Of one length. `normal`: `mean`, `stddev` (0: always the mean). `lognormal`: `mean`, `median` ≤ mean; σ = √(2 ln(mean/median)),
    μ = ln(median). `mixture`: one of `parts` by its weight. What is drawn is clamped to `low` … `high`.
    """

    kind: Literal["normal", "lognormal", "mixture"]
    mean: float
    stddev: float = 0.0
    median: float = 0.0
    parts: tuple[tuple[float, Distribution], ...] = ()
    low: float | None = None
    high: float | None = None


_SHAPES = "a number, `{mean, stddev}`, `{mean, median}`, `{peaks: [{…, weight}]}` or `{points: [{value, weight}]}`"


def parse_distribution(text: str) -> Distribution:
    """`512`, or JSON: `{"mean", "stddev"}`, `{"mean", "median"}`, `{"value"}`, `{"peaks": [{…, "weight"}, …]}`, `{"points":
    [{"value", "weight"}, …]}`, each with `min` and `max`. ValueError says what is wrong.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`{text}` is not a distribution: write {_SHAPES}") from error
    return _distribution(data)


def _distribution(data: object) -> Distribution:
    if isinstance(data, int | float) and not isinstance(data, bool):
        return Distribution(kind="normal", mean=_positive(data, "the length"))
    if not isinstance(data, Mapping):
        raise ValueError(f"`{data}` is not a distribution: write {_SHAPES}")  # noqa: TRY004 - as of all texts
    low, high = (None if data.get(k) is None else _positive(data[k], f"`{k}`") for k in ("min", "max"))
    if low is not None and high is not None and low > high:
        raise ValueError(f"`min` {exact(low)} of the distribution is above `max` {exact(high)}")
    shape = {k: v for k, v in data.items() if k not in {"type", "min", "max"}}
    for name, allowed in (
        ("peaks", {"peaks"}),
        ("points", {"points"}),
        ("median", {"mean", "median"}),
        ("value", {"value"}),
        ("mean", {"mean", "stddev"}),
    ):
        if name in shape:
            if unknown := shape.keys() - allowed:
                raise ValueError(f"a distribution with `{name}` has no `{min(unknown)}`")
            return _of_shape(name, shape, low, high)
    raise ValueError(f"`{dict(data)}` is not a distribution: write {_SHAPES}")


def _of_shape(name: str, shape: Mapping[str, object], low: float | None, high: float | None) -> Distribution:
    if name in {"peaks", "points"}:
        rows = shape[name]
        if not isinstance(rows, list) or not rows or not all(isinstance(r, Mapping) for r in rows):
            raise ValueError(f"`{name}` is a list of `{{…, weight}}`")
        weights = [_positive(r.get("weight", 1), "`weight`", zero=True) for r in rows]
        whole = sum(weights)
        if not whole:
            raise ValueError(f"the weights of `{name}` are all 0")
        inner = [{k: v for k, v in r.items() if k != "weight"} for r in rows]
        parts = tuple((w / whole, _distribution(r.get("distribution", r))) for w, r in zip(weights, inner, strict=True))
        mean = sum(weight * part.mean for weight, part in parts)
        return Distribution(kind="mixture", mean=mean, parts=parts, low=low, high=high)
    mean = _positive(shape.get("mean", shape.get("value")), "`mean`")
    if name == "median":
        median = _positive(shape["median"], "`median`")
        if median > mean:
            raise ValueError(f"`median` {exact(median)} of a log-normal distribution is above its `mean` {exact(mean)}")
        return Distribution(kind="lognormal", mean=mean, median=median, low=low, high=high)
    stddev = _positive(shape.get("stddev", 0), "`stddev`", zero=True)
    return Distribution(kind="normal", mean=mean, stddev=stddev, low=low, high=high)


def _positive(value: object, what: str, *, zero: bool = False) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{what} of the distribution is `{value}`: it must be a number above 0")
    return number

"""The distribution of input and output lengths, `--seq-dist`, in the three forms AIPerf takes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

__all__ = ["LengthPair", "parse_seq_dist"]

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
        raise ValueError(f"the percentages of the length distribution sum to {total:g}, not to 100")
    if any(isl < 1 or osl < 1 for isl, _, osl, _, _ in pairs_):
        raise ValueError("lengths must be at least 1")
    return tuple(
        LengthPair(isl=isl, isl_stddev=sd, osl=osl, osl_stddev=so, share=share / 100)
        for isl, sd, osl, so, share in pairs_
    )

"""What may differ from AIPerf, and why: `differences.toml`, read by the tests and by the generator of the compatibility page."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.compat.commands import Command
from tests.compat.shapes import Shape

__all__ = ["Difference", "compare", "load_differences"]

FILE = Path(__file__).parent / "differences.toml"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`where`: patterns of places (`<file>: <path>`, `*` is any text). `kind`: what may differ there. `commands`: only in these."""

    where: tuple[str, ...]
    kind: str
    reason: str
    commands: tuple[str, ...] = ()

    def allows(self, command: str, kind: str, place: str) -> bool:
        if kind != self.kind or (self.commands and command not in self.commands):
            return False
        return any(_pattern(pattern).fullmatch(place) for pattern in self.where)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """`*` is any text; everything else stands for itself."""
    return re.compile(".*".join(map(re.escape, text.split("*"))))


@cache
def load_differences() -> tuple[Difference, ...]:
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))["difference"]
    return tuple(
        Difference(where=tuple(d["where"]), kind=d["kind"], reason=d["reason"], commands=tuple(d.get("commands", ())))
        for d in found
    )


def compare(command: Command, peer: Shape, ours: Shape, allowed: Sequence[Difference]) -> list[str]:
    """What is not in the list: `missing` here, `other` value or type, `more` files. Further keys and columns are allowed."""
    if command.timed:
        peer, ours = _without_values(peer), _without_values(ours)
    out = []
    gone: list[str] = []
    for place, leaf in peer.items():
        mine = ours.get(place)
        if mine is None:
            kind = "missing"
            if any(place.startswith(g + ": ") for g in gone):
                continue
            if leaf == "file":
                gone.append(place)
        elif not _is_kept(leaf, mine):
            kind = "other"
        else:
            continue
        if not any(d.allows(command.name, kind, place) for d in allowed):
            out.append(f"{kind}: {place}: {leaf}" + ("" if mine is None else f" → {mine}"))
    more = [p for p, leaf in ours.items() if leaf == "file" and p not in peer]
    out += [f"more: {place}" for place in more if not any(d.allows(command.name, "more", place) for d in allowed)]
    return out


def _is_kept(leaf: str, mine: str) -> bool:
    """The same type, and the same value where AIPerf's is always the same. A table's columns in their order, ours may have more. Of a metric its unit and each of its statistics; ours may have more."""
    if not leaf.startswith("metric ") or not mine.startswith("metric "):
        columns = iter(mine.split(","))
        return leaf in {mine, mine.partition(" = ")[0]} or ("," in leaf and all(c in columns for c in leaf.split(",")))
    theirs, ours = leaf.split(), mine.split()
    names = {part.partition("=")[0] for part in ours}
    return theirs[1] == ours[1] and all(part in ours if "=" in part else part in names for part in theirs[2:])


def _without_values(shape: Shape) -> Shape:
    out = {}
    for place, leaf in shape.items():
        is_metric = leaf.startswith("metric ")
        kept = " ".join(part.partition("=")[0] for part in leaf.split()) if is_metric else leaf.partition(" = ")[0]
        out[re.sub(r"(concurrency_|mean\] )\d+", r"\1N", place)] = kept
    return out

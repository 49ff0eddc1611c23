"""What a field of the configuration is called outside: flags, environment variables, keys of a file, and its help.

A field says it once, `Annotated[T, Flag("--request-rate", help=…)]`; the command line, `AIPERF_…`, YAML and the reference
page are derived (`specs`).
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SecretStr

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FieldSpec", "Flag", "Kind", "Section", "Unit", "normalise_key", "specs_of"]

Unit = Literal["s", "ms", "%"]
"""What a bare number means: seconds, milliseconds, per cent."""

Kind = Literal[
    "bool", "int", "float", "str", "path", "secret", "choice", "strings", "ints", "floats", "pairs", "mapping", "parsed"
]


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, init=False)
class Flag:
    """`names`: spellings, the first is the one shown. A bool has `--no-…` for each of them besides `negative`.

    `group`: heading in the help. `unit`: what a bare number means. `metavar`: shown for the value. `split`: a value of a list
    option may hold several, separated by commas. `greedy`: a list option takes all following words up to the next flag, also
    none. `synonyms`: other words for a choice. `repeats`: given twice, a number counts up (`-v`).
    """

    names: tuple[str, ...]
    help: str
    group: str
    unit: Unit | None
    metavar: str | None
    negative: tuple[str, ...]
    split: bool
    greedy: bool
    sweep: bool
    synonyms: Mapping[str, str]

    def __init__(
        self,
        *names: str,
        help: str,  # noqa: A002 - the word every CLI library uses
        group: str = "",
        unit: Unit | None = None,
        metavar: str | None = None,
        negative: tuple[str, ...] = (),
        split: bool = False,
        greedy: bool = False,
        sweep: bool = True,
        synonyms: Mapping[str, str] | None = None,
    ) -> None:
        for name, value in (
            ("names", names), ("help", help), ("group", group), ("unit", unit), ("metavar", metavar), ("negative", negative),
            ("split", split), ("greedy", greedy), ("sweep", sweep), ("synonyms", synonyms or {}),
        ):  # fmt: skip
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of one section as the outside sees it. `path`: `load.request_rate`. `choices`: of a `choice`, in order."""

    section: str
    name: str
    flag: Flag
    kind: Kind
    choices: tuple[str, ...]
    optional: bool
    default: object

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def is_sweepable(self) -> bool:
        return self.kind in {"int", "float"} and self.flag.sweep

    @property
    def is_list(self) -> bool:
        return self.kind in {"strings", "ints", "floats", "pairs", "mapping"} or (
            self.kind == "parsed" and self.is_many
        )

    @property
    def is_many(self) -> bool:
        return isinstance(self.default, tuple)

    @property
    def negatives(self) -> tuple[str, ...]:
        """Spellings that mean false."""
        if self.kind != "bool":
            return ()
        derived = tuple(f"--no-{n[2:]}" for n in self.flag.names if n.startswith("--") and not n.startswith("--no-"))
        return tuple(dict.fromkeys((*self.flag.negative, *derived)))


def normalise_key(text: str) -> str:
    """`--Request-Rate` → `request_rate`: flags, environment variables and file keys are compared in this form."""
    return text.lstrip("-").replace("-", "_").lower()


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:
    optional = False
    if get_origin(annotation) in {Union, types.UnionType}:
        inner = [a for a in get_args(annotation) if a is not types.NoneType]
        optional = len(inner) < len(get_args(annotation))
        if len(inner) == 1:
            annotation = inner[0]
    origin = get_origin(annotation)
    if origin is Literal:
        return "choice", tuple(str(a) for a in get_args(annotation)), optional
    if origin is tuple:
        of = get_args(annotation)[0]
        kinds: dict[object, Kind] = {str: "strings", int: "ints", float: "floats", tuple[str, str]: "pairs"}
        return kinds.get(of, "parsed"), (), optional
    plain: dict[object, Kind] = {
        bool: "bool", int: "int", float: "float", str: "str", Path: "path", SecretStr: "secret", dict[str, object]: "mapping",
    }  # fmt: skip
    return plain.get(annotation, "parsed"), (), optional


@cache
def specs_of(section: str, model: type[BaseModel]) -> tuple[FieldSpec, ...]:
    """The fields of a section that carry a `Flag`, in order."""
    found = []
    for name, info in model.model_fields.items():
        flag = next((m for m in info.metadata if isinstance(m, Flag)), None)
        if flag is not None:
            kind, choices, optional = _kind(info.annotation)
            found.append(
                FieldSpec(section, name, flag, kind, choices, optional, info.get_default(call_default_factory=True))
            )
    return tuple(found)

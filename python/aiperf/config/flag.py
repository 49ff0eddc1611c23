"""What an option is called outside: flags, environment variables, keys of a file, and its help.

An option says it once, `Annotated[T, Flag("--request-rate", help=…)]`, as a field of the configuration or a parameter of a
command; the command line, `AIPERF_…`, YAML and the reference page are derived (`specs_of`). Imports nothing heavy.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

__all__ = ["FieldSpec", "Flag", "Given", "Kind", "Unit", "normalise_key", "spec_of", "specs_of"]

Unit = Literal["s", "ms", "%", "share"]
"""What a bare number means: seconds, milliseconds, per cent, a share from 0 to 1 (`10%` is 0.1)."""

Kind = Literal[
    "bool",
    "int",
    "float",
    "str",
    "path",
    "secret",
    "choice",
    "strings",
    "ints",
    "floats",
    "paths",
    "pairs",
    "mapping",
    "tiers",
    "conditions",
    "precisions",
]

_LISTS = frozenset({"strings", "ints", "floats", "paths", "pairs", "mapping", "tiers", "conditions", "precisions"})
_OF_NAME: dict[str, Kind] = {
    "Tier": "tiers",
    "Condition": "conditions",
    "Precision": "precisions",
    "SecretStr": "secret",
}


@dataclass(frozen=True, init=False)
class Flag:
    """`names`: spellings, the first is the one shown; without any it is a positional argument of a command.

    A bool has `--no-…` for each name besides `negative`. `group`: heading in the help. `unit`: what a bare number means.
    `metavar`: shown for the value. `split`: a value of a list option may hold several, separated by commas. `greedy`: a list
    option takes all following words up to the next flag, also none. `sweep`: a numeric option may take a list or range.
    `synonyms`: other words for a choice. `zero_is_off`: 0 is the same as the option left out, as its value could mean nothing else.
    `plugins`: groups of the registry whose names are its values; the help lists them.
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
    zero_is_off: bool
    plugins: tuple[str, ...]

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
        zero_is_off: bool = False,
        plugins: tuple[str, ...] = (),
    ) -> None:
        for name, value in (
            ("names", names),
            ("help", help),
            ("group", group),
            ("unit", unit),
            ("metavar", metavar),
            ("negative", negative),
            ("split", split),
            ("greedy", greedy),
            ("sweep", sweep),
            ("synonyms", synonyms or {}),
            ("zero_is_off", zero_is_off),
            ("plugins", plugins),
        ):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One option as the outside sees it. `section` is empty for a command's own. `choices`: of a `choice`, in order."""

    section: str
    name: str
    flag: Flag
    kind: Kind
    choices: tuple[str, ...]
    optional: bool
    default: object

    @property
    def path(self) -> str:
        """`load.request_rate`."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def shown(self) -> str:
        """The spelling used in messages."""
        return self.flag.names[0] if self.flag.names else self.name.upper()

    @property
    def is_sweepable(self) -> bool:
        return self.kind in {"int", "float"} and self.flag.sweep and bool(self.section)

    @property
    def is_list(self) -> bool:
        return self.kind in _LISTS

    @property
    def negatives(self) -> tuple[str, ...]:
        """Spellings that mean false."""
        if self.kind != "bool":
            return ()
        derived = tuple(f"--no-{n[2:]}" for n in self.flag.names if n.startswith("--") and not n.startswith("--no-"))
        return tuple(dict.fromkeys((*self.flag.negative, *derived)))


@dataclass(frozen=True, slots=True)
class Given:
    """Texts given for one option in one place. `where`: the flag as typed, `AIPERF_…`, `file:line`. A bool: `true`, `false`."""

    spec: FieldSpec
    texts: tuple[str, ...]
    where: str


def normalise_key(text: str) -> str:
    """`--Request-Rate` → `request_rate`: flags, environment variables and file keys are compared in this form."""
    return text.lstrip("-").replace("-", "_").lower()


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:
    optional = False
    if get_origin(annotation) in {Union, types.UnionType}:
        inner = [a for a in get_args(annotation) if a is not types.NoneType]
        optional = len(inner) < len(get_args(annotation))
        annotation = inner[0]
    origin = get_origin(annotation)
    if origin is Literal:
        return "choice", tuple(str(a) for a in get_args(annotation)), optional
    if origin is tuple:
        of = get_args(annotation)[0]
        lists: dict[object, Kind] = {
            str: "strings",
            int: "ints",
            float: "floats",
            Path: "paths",
            tuple[str, str]: "pairs",
        }
        return lists[of] if of in lists else _OF_NAME[of.__name__], (), optional
    plain: dict[object, Kind] = {
        bool: "bool",
        int: "int",
        float: "float",
        str: "str",
        Path: "path",
        dict[str, object]: "mapping",
    }
    return plain[annotation] if annotation in plain else _OF_NAME[annotation.__name__], (), optional


def spec_of(section: str, name: str, annotation: Any, flag: Flag, default: object) -> FieldSpec:
    """`annotation`: the bare type; KeyError if options cannot have it."""
    kind, choices, optional = _kind(annotation)
    return FieldSpec(
        section=section, name=name, flag=flag, kind=kind, choices=choices, optional=optional, default=default
    )


@cache
def specs_of(section: str, model: Any) -> tuple[FieldSpec, ...]:
    """The fields of a pydantic model that carry a `Flag`, in order."""
    specs = []
    for name, info in model.model_fields.items():
        flag = next((m for m in info.metadata if isinstance(m, Flag)), None)
        if flag is not None:
            specs.append(spec_of(section, name, info.annotation, flag, info.get_default(call_default_factory=True)))
    return tuple(specs)

"""A function as a command: its annotated parameters are the options, its docstring the help.

`def command(*runs: Annotated[Path, Flag(help=…)], json: Annotated[bool, Flag(help=…)] = False) -> int`. Parameters behind `*` are
options, named `--like-this` unless their flag names them; those before it are positional, and may be given by name as well unless they
stand before `/`. Parsed by `args`, as `profile` is: every problem at once, with the place it is in.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from aiperf.cli.args import parse
from aiperf.config.flag import FieldSpec, Flag, Given, spec_of
from aiperf.config.parse import parse_scalar
from aiperf.errors import ConfigError, Problem, did_you_mean

__all__ = ["Commands", "Function", "options_of", "run_function"]

Function = Callable[..., int | None]
_Command = TypeVar("_Command", bound=Function)

_HELP = spec_of("", "help", bool, Flag("--help", "-h", help="Show this help", group="Options"), False)


@dataclass(slots=True)
class Commands:
    """A command with sub-commands: `@commands.command`, or `@commands.named("validate")`. In order of definition."""

    name: str
    help: str
    functions: dict[str, Function] = field(default_factory=dict)

    def command(self, function: _Command) -> _Command:
        """Adds a function under its own name."""
        return self.named(function.__name__)(function)

    def named(self, name: str) -> Callable[[_Command], _Command]:
        """Adds a function under another name: one that is Python's already."""

        def add(function: _Command) -> _Command:
            self.functions[name.replace("_", "-")] = function
            return function

        return add

    def __iter__(self) -> Iterator[str]:
        return iter(self.functions)

    def __getitem__(self, name: str) -> Function:
        return self.functions[name]

    def run(self, argv: Sequence[str]) -> int:
        word = argv[0] if argv else "--help"
        if word in {"--help", "-h"}:
            print(self._overview())
            return 0
        function = self.functions.get(word.replace("_", "-"))
        if function is None:
            raise ConfigError(f"`aiperf {self.name}` has no command `{word}`", did_you_mean(word, self.functions))
        return run_function(function, f"aiperf {self.name} {word}", argv[1:])

    def _overview(self) -> str:
        from aiperf.cli.style import bold

        width = max(map(len, self.functions))
        lines = [f"  {name.ljust(width)}  {_summary(function)}" for name, function in self.functions.items()]
        head = [f"{bold('Usage:')} aiperf {self.name} COMMAND [OPTIONS]", "", self.help, "", bold("Commands")]
        return "\n".join([*head, *lines, "", f"`aiperf {self.name} COMMAND --help` lists the options of each."])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameter:
    """One parameter of a function. `element`: the type of a list's items; `is_many`: a list or `*args`."""

    spec: FieldSpec
    kind: Any
    is_many: bool
    is_required: bool

    @property
    def is_positional(self) -> bool:
        return self.kind is not inspect.Parameter.KEYWORD_ONLY


def options_of(function: Function) -> tuple[FieldSpec, ...]:
    """Its options, positional ones that can be given by name included, in order."""
    return tuple(p.spec for p in _parameters(function) if p.spec.flag.names)


def run_function(function: Function, name: str, argv: Sequence[str]) -> int:
    """Parse and call; the exit code. ConfigError with everything that is wrong in the line."""
    parameters = _parameters(function)
    specs = (*(p.spec for p in parameters if p.spec.flag.names), _HELP)
    if "--help" in argv or "-h" in argv:
        from aiperf.cli.help import render_help

        print(render_help(_usage(name, parameters), (_doc(function),), (*(p.spec for p in parameters), _HELP)))
        return 0
    parsed = parse(argv, specs)
    problems = list(parsed.problems)
    texts: dict[str, tuple[str, ...]] = {}
    where: dict[str, str] = {}
    for given in parsed.given:
        texts[given.spec.name] = texts.get(given.spec.name, ()) + given.texts
        where[given.spec.name] = given.where
    _place(parsed.positionals, parameters, texts, problems)
    positional: list[object] = []
    named: dict[str, object] = {}
    for parameter in parameters:
        spec = parameter.spec
        if spec.name not in texts:
            if parameter.is_required:
                problems.append(Problem("a value is needed", spec.shown, f"usage: {_usage(name, parameters)}"))
            elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                positional.append(spec.default)
            continue
        value = _value(parameter, Given(spec, texts[spec.name], where.get(spec.name, spec.shown)), problems)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional += value if isinstance(value, list) else [value]
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[spec.name] = value
    if problems:
        raise ConfigError(tuple(dict.fromkeys(problems)))
    return int(function(*positional, **named) or 0)


def _place(
    words: Sequence[str], parameters: Sequence[_Parameter], texts: dict[str, tuple[str, ...]], problems: list[Problem]
) -> None:
    """Words without a flag go to the positional parameters in their order."""
    left = list(words)
    for parameter in parameters:
        if not left or not parameter.is_positional or parameter.spec.name in texts:
            continue
        if parameter.is_many:
            texts[parameter.spec.name], left = tuple(left), []
        else:
            texts[parameter.spec.name] = (left.pop(0),)
    problems += [Problem(f"`{word}` is an unexpected argument") for word in left]


def _value(parameter: _Parameter, given: Given, problems: list[Problem]) -> object:
    spec = replace(parameter.spec, kind=_ELEMENTS.get(parameter.spec.kind, parameter.spec.kind))
    if spec.choices and parameter.is_many:
        spec = replace(spec, kind="choice")
    values: list[object] = []
    for text in given.texts if parameter.is_many else given.texts[-1:]:
        try:
            values.append(parse_scalar(text, spec))
        except ValueError as error:
            problems.append(Problem(str(error), given.where))
    if parameter.is_many:
        return values
    return values[0] if values else None


_ELEMENTS: dict[str, Any] = {"strings": "str", "ints": "int", "floats": "float", "paths": "path"}


def _parameters(function: Function) -> list[_Parameter]:
    hints = get_type_hints(function, include_extras=True)
    return [_parameter(p, hints[p.name]) for p in inspect.signature(function).parameters.values()]


def _parameter(parameter: inspect.Parameter, hint: Any) -> _Parameter:
    flag = Flag(help="")
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        flag = next((e for e in extras if isinstance(e, Flag)), flag)
    annotation, choices = _plain(hint)
    is_rest = parameter.kind is inspect.Parameter.VAR_POSITIONAL
    default = None if parameter.default is inspect.Parameter.empty else parameter.default
    has_names = parameter.kind in {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    own = (f"--{parameter.name.replace('_', '-')}",) if has_names else ()
    group = "Options" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else "Arguments"
    flag = _complete(flag, flag.names or own, flag.group or group)
    spec = spec_of("", parameter.name, annotation, flag, default)
    if choices:
        spec = replace(spec, choices=choices)
    return _Parameter(
        spec=spec,
        kind=parameter.kind,
        is_many=is_rest or spec.is_list,
        is_required=parameter.default is inspect.Parameter.empty and not is_rest,
    )


def _complete(flag: Flag, names: Sequence[str], group: str) -> Flag:
    """The same flag with names and heading."""
    kept = ("help", "unit", "metavar", "negative", "split", "greedy", "sweep", "synonyms", "zero_is_off", "plugins")
    return Flag(*names, group=group, **{word: getattr(flag, word) for word in kept})


def _plain(hint: Any) -> tuple[Any, tuple[str, ...]]:
    """The type without None, lists as options have them (`tuple[X, ...]`), and the choices of a list of literals."""
    if get_origin(hint) in {Union, types.UnionType}:
        hint = next(a for a in get_args(hint) if a is not types.NoneType)
    if get_origin(hint) is list:
        (item,) = get_args(hint)
        if get_origin(item) is Literal:
            return tuple[str, ...], tuple(str(a) for a in get_args(item))
        return types.GenericAlias(tuple, (item, ...)), ()
    return hint, ()


def _usage(name: str, parameters: Sequence[_Parameter]) -> str:
    words = []
    for parameter in parameters:
        if parameter.is_positional:
            word = parameter.spec.name.upper() + ("…" if parameter.is_many else "")
            words.append(word if parameter.is_required or parameter.is_many else f"[{word}]")
    return " ".join([name, *words, "[OPTIONS]"])


def _doc(function: Function) -> str:
    return inspect.cleandoc(function.__doc__ or "")


def _summary(function: Function) -> str:
    return _doc(function).partition("\n")[0]

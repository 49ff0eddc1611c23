"""The command line of a study: all options of `profile` beside its own."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.config.flag import FieldSpec, Flag, Given, spec_of, specs_of

if TYPE_CHECKING:
    from aiperf.config.model import Config
    from aiperf.config.sections import Section
    from aiperf.errors import Problem
    from aiperf.studies.study import StudyKind

__all__ = ["options_of_study", "run_command", "with_defaults"]

_OWN = (
    spec_of(
        "",
        "config_file",
        Path,
        Flag("--config", "-f", help="YAML configuration file with options of `aiperf profile`", group="Command"),
        None,
    ),
    spec_of(
        "",
        "dry_run",
        bool,
        Flag(
            "--dry-run", help="Send nothing: print the cost of the study in runs, requests and tokens", group="Command"
        ),
        False,
    ),
    spec_of("", "help", bool, Flag("--help", "-h", help="Show this help", group="Command"), False),
)


def options_of_study(kind: StudyKind) -> tuple[FieldSpec, ...]:
    """Those of `profile` and its own, which count where both have a name."""
    from aiperf.config.model import specs

    return (*specs().values(), *specs_of("", kind.options), *_OWN)


def run_command(argv: Sequence[str], kind: StudyKind) -> int:
    """Parse, check, run, show; the exit code."""
    from aiperf.cli.args import parse
    from aiperf.cli.help import render_help
    from aiperf.config.aiperf_options import FOREIGN
    from aiperf.config.resolve import configure
    from aiperf.errors import Problem
    from aiperf.run.listed_model import ListedModel, listed_model

    if "--help" in argv or "-h" in argv:
        intro = (kind.summary, "All options of `aiperf profile` apply to each run of the study.")
        own = (*specs_of("", kind.options), *_OWN)
        print(render_help(f"aiperf {kind.name} --model NAME --url URL [OPTIONS]", intro, own))
        return 0
    own_specs = specs_of("", kind.options)
    own_names = {s.name for s in own_specs}
    parsed = parse(argv, options_of_study(kind), FOREIGN)
    problems = [*parsed.problems]
    problems += [
        Problem(f"`{word}` is an unexpected argument", None, "write lists with commas, without spaces")
        for word in parsed.positionals
    ]
    options, faults = _own_options(kind, [g for g in parsed.given if not g.spec.section and g.spec.name in own_names])
    mine = {g.spec.name: g.texts[-1] for g in parsed.given if not g.spec.section and g.spec.name not in own_names}
    given = [g for g in parsed.given if g.spec.section]
    config_file = Path(mine["config_file"]) if "config_file" in mine else None
    is_dry = mine.get("dry_run") == "true"
    named = listed_model(given, config_file) if not (is_dry or problems or faults) else ListedModel()
    config = configure(
        [*given, *named.given],
        config_file=config_file,
        command=("aiperf", kind.name, *argv),
        problems=[*problems, *faults, *named.problems],
        notes=(*parsed.notes, *named.notes),
        all_tags=partial(_all_tags, kind),
    )
    _check_shape(kind, config)
    config = with_defaults(kind, config)
    _check_options(kind, config, options)
    if is_dry:
        print(kind.cost(config, options).text())
        return 0
    return _run(kind, config, options)


def _all_tags(kind: StudyKind) -> Collection[str]:
    from aiperf.metrics import load_all

    return {**load_all(), **kind.metrics}.keys()


def _own_options(kind: StudyKind, given: Sequence[Given]) -> tuple[Section, list[Problem]]:
    """The study's options; what is wrong with them is left out and told."""
    from pydantic import ValidationError

    from aiperf.config.parse import parse_list, parse_scalar
    from aiperf.errors import Problem

    values: dict[str, object] = {}
    where: dict[str, str] = {}
    problems: list[Problem] = []
    for entry in given:
        try:
            spec = entry.spec
            values[spec.name] = parse_list(entry.texts, spec) if spec.is_list else parse_scalar(entry.texts[-1], spec)
            where[spec.name] = entry.where
        except ValueError as error:
            problems.append(Problem(str(error), entry.where))
    try:
        return kind.options.model_validate(values), problems
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0]) if item["loc"] else ""
            problems.append(Problem(f"`{item['input']}`: {item['msg'].lower()}", where.get(name, name or None)))
        return kind.options(), problems


def with_defaults(kind: StudyKind, config: Config) -> Config:
    """The configuration with the study's own defaults where the user gave nothing. ConfigError if they do not fit."""
    from aiperf.config.resolve import at_point

    missing = {path: value for path, value in kind.defaults.items() if not config.is_set(path)}
    if not config.is_set("output.artifact_dir"):
        model = config.endpoint.model_names[0].rpartition("/")[2] if config.endpoint.model_names else "model"
        missing["output.artifact_dir"] = Path("artifacts") / f"{kind.name}-{model}"
    return at_point(config, missing)


def _check_shape(kind: StudyKind, config: Config) -> None:
    """ConfigError for what only `profile` does."""
    from aiperf.errors import ConfigError, Problem

    problems: list[Problem] = []
    if config.is_study:
        text = f"`aiperf {kind.name}` chooses its own points: no lists, searches or repeats"
        problems.append(Problem(text, None, "`aiperf profile` does sweeps and searches"))
    if config.distributed.generators is not None:
        problems.append(Problem(f"`aiperf {kind.name}` sends from this machine alone", "--generators"))
    if config.distributed.part is not None:
        problems.append(Problem(f"`aiperf {kind.name}` makes several runs, and no part of one", "--part"))
    if problems:
        raise ConfigError(problems)


def _check_options(kind: StudyKind, config: Config, options: Section) -> None:
    from aiperf.errors import ConfigError

    problems = kind.check(config, options)
    if problems:
        raise ConfigError(problems)


def _run(kind: StudyKind, config: Config, options: Section) -> int:
    from aiperf.cli.message import print_notes
    from aiperf.cli.results import show
    from aiperf.studies.study import run_study
    from aiperf.ui import observe

    print_notes(config.notes)
    sys.stderr.flush()
    with observe(config) as observer:
        found = run_study(kind, config, options, observer=observer)
        observer.results()
        show(found.screen, width=160)
        observer.written(found.dir)
        return int(found.exit_code)

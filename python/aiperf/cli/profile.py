"""`aiperf profile`: one run, or a sweep or search of several. Its options are the fields of the configuration."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.config.flag import FieldSpec, Flag, Given, spec_of

if TYPE_CHECKING:
    from aiperf.config.model import Config
    from aiperf.run.listed_model import ListedModel

__all__ = ["OWN_OPTIONS", "options", "run"]

OWN_OPTIONS: tuple[FieldSpec, ...] = (
    spec_of(
        "",
        "config_file",
        Path,
        Flag("--config", "-f", help="YAML configuration file with the same names, flat or by section", group="Command"),
        None,
    ),
    spec_of(
        "",
        "dry_run",
        bool,
        Flag(
            "--dry-run",
            help="Send nothing: print the configuration with the origin of each value, the first request body and the load",
            group="Command",
        ),
        False,
    ),
    spec_of("", "help", bool, Flag("--help", "-h", help="Show this help", group="Command"), False),
)

_INTRO = (
    "Numbers take `1k`, `2M`; durations `500ms`, `2m`, `1h`; a bare number has the option's own unit.",
    "A list or range for a numeric option is a sweep: `--concurrency 10,50,100`, `--request-rate 1:64:x2`.",
    "Every option is also a key of the `--config` file and a variable: `--request-rate` is `AIPERF_REQUEST_RATE`.",
)
_OUTRO = (
    "Other AIPerf options are accepted with a note or rejected with the reason; docs/reference/cli.md lists them.",
    "Exit codes: 0 ok, 1 error, 2 usage, 3 assertion or SLO missed, 4 too many failed requests, 130 interrupted.",
)


def options() -> tuple[FieldSpec, ...]:
    """All options in the order of the help."""
    from aiperf.config.model import specs

    return (*specs().values(), *OWN_OPTIONS)


def run(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        from aiperf.cli.help import render_help

        print(render_help("aiperf profile --model NAME --url URL [OPTIONS]", _INTRO, options(), _OUTRO))
        return 0
    from aiperf.cli.args import parse
    from aiperf.config.aiperf_options import FOREIGN
    from aiperf.config.genai_perf_options import GENAI_PERF
    from aiperf.config.resolve import configure
    from aiperf.errors import Problem

    parsed = parse(argv, options(), (*FOREIGN, *GENAI_PERF), rest_is_options=True)
    own = {g.spec.name: g.texts[-1] for g in parsed.given if not g.spec.section}
    stray = [
        Problem(f"`{word}` is an unexpected argument", None, "write lists with commas, without spaces")
        for word in parsed.positionals
    ]
    given = [g for g in parsed.given if g.spec.section]
    config_file = Path(own["config_file"]) if "config_file" in own else None
    is_dry = own.get("dry_run") == "true"
    named = _name_model(given, config_file, is_asked=not (is_dry or parsed.problems or stray))
    config = configure(
        [*given, *named.given],
        config_file=config_file,
        command=("aiperf", "profile", *argv),
        problems=[*parsed.problems, *stray, *named.problems],
        notes=(*parsed.notes, *named.notes),
        all_tags=_all_tags,
    )
    return _dry_run(config) if is_dry else _profile(config)


def _name_model(given: Sequence[Given], config_file: Path | None, *, is_asked: bool) -> ListedModel:
    """The server's model where none is named."""
    from aiperf.run.listed_model import ListedModel, listed_model

    return listed_model(given, config_file) if is_asked else ListedModel()


def _all_tags() -> Collection[str]:
    from aiperf.metrics import load_all

    return load_all().keys()


def _dry_run(config: Config) -> int:
    from aiperf.cli.dry_run import render_dry_run
    from aiperf.cli.message import print_notes
    from aiperf.run.profile import preview

    print_notes(config.notes)
    seen = preview(config)
    print(render_dry_run(config, seen.body, in_lanes=seen.in_lanes))
    return 0


def _profile(config: Config) -> int:
    from aiperf.cli.message import print_notes
    from aiperf.cli.results import show, write_and_show
    from aiperf.errors import ExitCode
    from aiperf.ui import observe

    print_notes(config.notes)
    sys.stderr.flush()
    with observe(config) as observer:
        if config.is_study:
            from aiperf.sweeps.study import sweep

            study = sweep(config, observer=observer)
            observer.results()
            show(study.screen, width=160)
            observer.written(study.dir)
            return int(study.exit_code)
        from aiperf.run.profile import profile
        from aiperf.run.signals import interruptible

        with interruptible(observer) as interrupts:
            run = write_and_show(profile(config, observer=observer, interrupts=interrupts), observer)
            return int(ExitCode.INTERRUPTED if interrupts.signals else run.exit_code)

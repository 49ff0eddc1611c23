"""`aiperf report RUN`: everything again from the records, with other goals, slices or percentiles if asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiperf.config.flag import FieldSpec, Flag, spec_of

__all__ = ["options", "run"]

_OTHER = (
    "endpoint.num_gpus",
    "endpoint.gpu_cost_per_hour",
    "endpoint.use_server_token_count",
    "endpoint.per_chunk_usage",
    "load.max_error_rate",
    "tokenizer.name",
    "tokenizer.revision",
    "service.log_level",
    "service.verbose",
)
_NOT_HERE = ("output.artifact_dir", "slo.abort_on_fail", "slo.calibrate")
_OWN = (
    spec_of(
        "",
        "engine_traces",
        str,
        Flag(
            "--engine-traces",
            help="Join the spans of the server from this file (OTLP JSON or protobuf)",
            group="Command",
        ),
        None,
    ),
    spec_of(
        "",
        "recount",
        bool,
        Flag("--recount", help="Count tokens again instead of using the stored counts", group="Command"),
        False,
    ),
    spec_of("", "help", bool, Flag("--help", "-h", help="This text", group="Command"), False),
)


def options() -> tuple[FieldSpec, ...]:
    """The options that change what is computed, not what was sent."""
    from aiperf.config.model import specs

    chosen = (s for p, s in specs().items() if (s.section in {"output", "slo"} or p in _OTHER) and p not in _NOT_HERE)
    return (*chosen, *_OWN)


def run(argv: Sequence[str]) -> int:
    from aiperf.cli.args import parse

    if "--help" in argv or "-h" in argv or not argv:
        from aiperf.cli.help import render_help

        intro = ("RUN is the folder of a run, finished or killed. What is not given here is as in that run.",)
        print(render_help("aiperf report RUN [OPTIONS]", intro, options()))
        return 0 if argv else 2
    from aiperf.config.resolve import resolve
    from aiperf.errors import ConfigError, Problem, nearest

    parsed = parse(argv, options())
    problems = list(parsed.problems)
    if len(parsed.positionals) != 1:
        what = "no run is named" if not parsed.positionals else "one run at a time"
        problems.append(Problem(what, None, "`aiperf report artifacts/…`; `aiperf compare` takes several"))
    folder = Path(parsed.positionals[0]) if parsed.positionals else Path()
    if parsed.positionals and not folder.is_dir():
        around = folder.parent
        near = nearest(folder.name, [p.name for p in around.iterdir() if p.is_dir()]) if around.is_dir() else None
        problems.append(
            Problem(f"there is no folder `{folder}`", None, f"did you mean `{around / near}`?" if near else None)
        )
    config, found = resolve([g for g in parsed.given if g.spec.section], env={}, seed=0)
    problems += found
    if problems:
        raise ConfigError(problems)
    from aiperf.cli.message import print_notes
    from aiperf.cli.results import write_and_show
    from aiperf.run.report import report

    overrides = {path: config.value(path) for path, origin in config.origins.items() if origin.kind == "flag"}
    recount = any(g.spec.name == "recount" and g.texts[-1] == "true" for g in parsed.given)
    traces = next((Path(g.texts[-1]) for g in parsed.given if g.spec.name == "engine_traces"), None)
    done = write_and_show(report(folder, overrides, recount=recount, engine_traces=traces))
    print_notes(note.text for note in done.notes)
    return int(done.exit_code)

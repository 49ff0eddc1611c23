"""`run_study`: a study from its options to its files. The folder holds `study.json`, the runs, and what `files` and `page` make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from aiperf.config.model import Config
from aiperf.config.sections import Section
from aiperf.errors import AIPerfError, ConfigError, ExitCode, Problem
from aiperf.metrics.summary import AssertionResult
from aiperf.observer import Observer, Once, Silent
from aiperf.reports.tables import Table, assertion_table
from aiperf.reports.writing import write_text, write_whole
from aiperf.studies.bench import Bench, Cost
from aiperf.studies.files import render_json, render_metrics_csv, render_points_csv
from aiperf.studies.metric import StudyMetric, check_conditions, condition_problems
from aiperf.studies.page import render_study_page
from aiperf.studies.report import StudyReport
from aiperf.studies.screen import build_screen, figure_table
from aiperf.sweeps.runner import Runner, worst
from aiperf.sweeps.study_folder import open_study
from aiperf.terminal import Part, Text

__all__ = ["StudyKind", "StudyResult", "run_study"]


@dataclass(frozen=True, kw_only=True)
class StudyKind:
    """`options`: a model whose fields carry flags, beside those of `profile`. `defaults`: options of `profile` by path that differ here
    where the user gave none. `check`: what is wrong with its options. `cost`: of the whole study, before any load; it may read the pages of the server. `work`: measures through the bench and returns what it found; after `Interrupted` it returns what it has.
    """

    name: Literal["cache", "kv"]
    summary: str
    options: type[Section]
    metrics: Mapping[str, StudyMetric]
    defaults: Mapping[str, object]
    check: Callable[[Config, Section], list[Problem]]
    cost: Callable[[Config, Section], Cost]
    work: Callable[[Bench, Section], StudyReport]


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A finished study. `screen`: what to show of it. `assertions`: with their results."""

    dir: Path
    exit_code: ExitCode
    report: StudyReport
    assertions: tuple[AssertionResult, ...] = ()
    screen: tuple[Part, ...] = ()


def run_study(kind: StudyKind, config: Config, options: Section, *, observer: Observer | None = None) -> StudyResult:
    """Runs the study, or goes on with the one that was interrupted. ConfigError for assertions that make no sense, before any load."""
    problems = condition_problems(config.slo.asserts, kind.metrics, kind.name)
    if problems:
        raise ConfigError(problems)
    watcher = Once(observer or Silent())
    with open_study(config, kind.name, options.model_dump(mode="json")) as (folder, record, note):
        if note is not None:
            watcher.note(note)
        runner = Runner(config, folder, record, watcher, kind.name)
        bench = Bench(config, runner, watcher)
        report = kind.work(bench, options)
        assertions = check_conditions(config.slo.asserts, report.figures, kind.metrics)
        result = StudyResult(
            dir=folder, exit_code=_exit_code(bench, report, assertions), report=report, assertions=assertions
        )
        if not bench.was_interrupted:
            runner.finish()
        else:
            watcher.note("interrupted; run the same command again to resume")
        return replace(result, screen=tuple(_write(kind, result, config, is_complete=not bench.was_interrupted)))


def _exit_code(bench: Bench, report: StudyReport, assertions: tuple[AssertionResult, ...]) -> ExitCode:
    """Of a single run only what makes the study's figures wrong counts: an interrupt, too many failed requests."""
    codes: list[ExitCode] = [
        c for c in bench.codes if c in (ExitCode.INTERRUPTED, ExitCode.REQUESTS_FAILED, ExitCode.ERROR)
    ]
    if bench.was_interrupted:
        codes.append(ExitCode.INTERRUPTED)
    if report.has_failed:
        codes.append(ExitCode.REQUESTS_FAILED)
    if any(not g.passed for g in assertions):
        codes.append(ExitCode.THRESHOLD_MISSED)
    return worst(codes)


def _write(kind: StudyKind, result: StudyResult, config: Config, *, is_complete: bool) -> list[Part]:
    """Files and page; what goes wrong with the page costs a warning, not the study. Returns the screen."""
    from aiperf.version import __version__

    report, folder = result.report, result.dir
    command = " ".join(config.command)
    assertions = assertion_table(result.assertions)
    tables: list[Table] = [
        *([] if assertions is None else [replace(assertions, words=frozenset({1, 3}))]),
        *([figure_table(report.figures, kind.metrics)] if report.figures else []),
        *report.tables,
    ]
    paths = [
        ("study", folder / f"{kind.name}_study.json"),
        ("points", folder / f"{kind.name}_points.csv"),
        ("metrics", folder / f"{kind.name}_metrics.csv"),
    ]
    text = render_json(
        kind.name,
        report,
        kind.metrics,
        result.assertions,
        command=command,
        version=__version__,
        is_complete=is_complete,
    )
    write_text(paths[0][1], text)
    write_text(paths[1][1], render_points_csv(report))
    write_text(paths[2][1], render_metrics_csv(report, kind.metrics))
    screen = build_screen(report, tables)
    screen += [Text(f"{what:<9}  {path}") for what, path in paths]
    if config.output.report and not report.has_failed:
        problem = None if is_complete else "the study was interrupted: only what was measured until then is here"
        page = folder / "report.html"
        try:
            write_whole(
                page,
                render_study_page(
                    report,
                    kind.metrics,
                    tables,
                    command=command,
                    files=[(what, str(path)) for what, path in paths],
                    problem=problem,
                    version=__version__,
                ),
            )
            screen.append(Text(f"{'page':<9}  {page}"))
        except (AIPerfError, OSError, ValueError) as error:
            screen.append(Text(f"warning: `report.html` was not written: {error}", style="yellow"))
    return screen

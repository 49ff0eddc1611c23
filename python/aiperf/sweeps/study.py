"""What `aiperf profile` does when the options ask for more than one run. Everything it writes is in the study's directory:

`study.json` (what belongs to it and what is done), the runs' own directories, `sweep_aggregate/` and `aggregate/` (AIPerf's names),
`sweep_table.csv`, `search_history.json`, `ab_comparison.json`, `report.html`.

| Study | Directories |
|---|---|
| sweep | `concurrency_10/`; repeats `profile_runs/trial_0001/concurrency_10/`, or `concurrency_10/profile_runs/trial_0001/` (independent) |
| repeats | `profile_runs/run_0001/` |
| search | `search_iter_0000/profile_runs/run_0001/` |
| A/B | `ab_0001_a/`, `ab_0001_b/` |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aiperf.compare.card import build_card
from aiperf.compare.comparison import Comparison, compare_groups
from aiperf.compare.difference import CompareOptions
from aiperf.compare.render import build_screen as build_comparison_screen
from aiperf.compare.render import render_json as render_comparison_json
from aiperf.config.model import Config
from aiperf.config.sections.sweep import SweepConfig
from aiperf.errors import AIPerfError, ExitCode
from aiperf.metrics import load_all
from aiperf.metrics.confidence import t_quantile
from aiperf.number_text import exact, significant
from aiperf.observer import Observer, Silent
from aiperf.reports.paths import Files
from aiperf.reports.writing import write_text
from aiperf.run.data import RunData
from aiperf.run.imported import run_of
from aiperf.run.log_file import open_log
from aiperf.sweeps.aggregate_files import write_aggregates
from aiperf.sweeps.judge import judge
from aiperf.sweeps.optimise import Dimension, SpaceTrial, has_botorch, optimise, parse_space
from aiperf.sweeps.plots import draw_study
from aiperf.sweeps.points import RunPoint, flag_name, point_of
from aiperf.sweeps.recipe_files import finish_recipe
from aiperf.sweeps.runner import Interrupted, Runner, worst
from aiperf.sweeps.search import Range, SearchOptions, SearchResult, maximise, search
from aiperf.sweeps.search_history import render_bracket, render_trials
from aiperf.sweeps.space import Point, build_points, directory_name, order_points, order_runs, seed_of_run
from aiperf.sweeps.study_files import render_table_csv, write_sweep_files
from aiperf.sweeps.study_folder import Kind, open_study
from aiperf.sweeps.table import SweepTable, build_screen, build_table
from aiperf.sweeps.trial import LiveProbe, sample_of
from aiperf.terminal import Part, Text

__all__ = ["Study", "sweep", "ttft_limit"]

_AB_BLOCKS = 8
_CI_WIDTH, _CV, _DISTANCE = 0.05, 0.05, 0.1
"""Defaults of --convergence-threshold: half interval / mean, standard deviation / mean, Kolmogorov's distance."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A finished study. `searches`: (label of the point, result). `trials`: of `--search space`."""

    dir: Path
    exit_code: ExitCode
    table: SweepTable | None = None
    searches: tuple[tuple[str, SearchResult], ...] = ()
    trials: tuple[SpaceTrial, ...] = ()
    comparison: Comparison | None = None
    screen: tuple[Part, ...] = ()


def sweep(config: Config, *, observer: Observer | None = None) -> Study:
    """Sweep, repeats, search or A/B, as the options ask; goes on with a study that was interrupted (`--resume`). `Study.screen` is its table."""
    watcher = observer or Silent()
    kind = _kind(config)
    with open_study(config, kind) as (folder, record, note):
        if note is not None:
            watcher.note(note)
        runner = Runner(config, folder, record, watcher, kind)
        work = {"sweep": _sweep, "repeats": _sweep, "search": _search, "space": _space, "ab": _ab}[kind]
        with open_log(Files(folder).log, config) as log:
            log.info("command: %s", " ".join(config.command) or "(from Python)")
            study = work(runner, watcher)
            if config.output.auto_plot and study.table is not None:
                study = replace(study, screen=(*study.screen, *draw_study(study.table, folder)))
            for run in runner.record.runs:
                log.info("%s: %s, exit code %s, %s requests", run.dir, run.status, run.exit_code, run.requests)
        code = worst([study.exit_code, *runner.codes])
        if code != ExitCode.INTERRUPTED:
            runner.finish()
        return replace(study, exit_code=code)


def _kind(config: Config) -> Kind:
    sweep = config.sweep
    if sweep.ab:
        return "ab"
    if sweep.search is not None:
        by_space = sweep.search == "space" if sweep.search_planner is None else sweep.search_planner != "monotone"
        return "space" if by_space else "search"
    return "sweep" if sweep.has_points else "repeats"


def ttft_limit(config: Config) -> float | None:
    """Of --goodput, else of a --slo on TTFT; ms."""
    for tier in config.slo.goodput:
        for tag, limit in tier.limits:
            if tag == "time_to_first_token":
                return limit
    for c in config.sweep.slo:
        if c.tag == "time_to_first_token" and c.op in {"<", "<="}:
            return float(c.value)
    return None


# Sweeps and repeats ----------------------------------------------------------------------------------------------------


def _sweep(runner: Runner, observer: Observer) -> Study:
    config = runner.config
    sweep = config.sweep
    points = order_points(
        build_points(sweep.axes, sweep.sweep_type, sweep.scenarios, sweep.search_recipe),
        sweep.sweep_order,
        runner.record.seed,
    )
    trials = sweep.num_profile_runs
    done: dict[int, list[RunData]] = {p.index: [] for p in points}
    failed: list[dict[str, object]] = []
    total = len(points) * trials
    same_trial = sweep.set_consistent_seed or config.is_set("input.random_seed")
    if trials > 1 and same_trial and not (sweep.vary_seed_per_trial or config.endpoint.reset_kv_cache):
        observer.note(
            "all repeats send the same prompts: from the second repeat on the server's prefix cache may hold them "
            "(`--reset-kv-cache` resets it, `--vary-seed-per-trial` sends other prompts)"
        )
    plan = order_runs(points, trials, sweep.parameter_sweep_mode)
    sure: set[int] = set()
    runner.progress.total = total
    try:
        for number, (point, trial) in enumerate(plan, 1):
            if point.index in sure:
                continue
            what = point.label or "run"
            label = f"{number} of {total}: {what}" + (f", repeat {trial + 1}" if trials > 1 else "")
            directory = _directory(point, trial, trials, sweep.parameter_sweep_mode)
            extra: dict[str, object] = dict(point.settings)
            if trial and sweep.profile_run_disable_warmup_after_first:
                extra |= {"warmup.request_count": None, "warmup.duration": None, "warmup.num_sessions": None}
            seed = seed_of_run(
                runner.record.seed,
                point.name,
                trial,
                same_point=sweep.parameter_sweep_same_seed or not sweep.has_points,
                same_trial=same_trial,
                is_varied=sweep.vary_seed_per_trial,
            )
            run = runner.run(
                directory,
                point.values,
                trial=trial,
                seed=seed,
                cooldown_s=_cooldown_s(sweep, is_repeat=trial > 0 and len(points) == 1),
                extra=extra,
                label=label,
                index=point.index,
                variation=point.title,
            )
            if run is None:
                failed.append({"label": directory, "error": "no request succeeded"})
                continue
            done[point.index].append(run)
            observer.note(f"  {_one_line(point_of([run], point.values))}")
            if _is_sure(done[point.index], config):
                observer.note(f"  `{sweep.convergence_metric}` has converged after {len(done[point.index])} repeats")
                sure.add(point.index)
    except Interrupted:
        observer.note("interrupted; run the same command again to resume")
    return _finish_sweep(runner, points, done, failed)


def _cooldown_s(sweep: SweepConfig, *, is_repeat: bool) -> float:
    return sweep.profile_run_cooldown_seconds if is_repeat else sweep.parameter_sweep_cooldown_seconds


def _directory(point: Point, trial: int, trials: int, mode: str) -> str:
    if not point.name:
        return f"profile_runs/run_{trial + 1:04d}"
    if trials == 1:
        return point.name
    if mode == "repeated":
        return f"profile_runs/trial_{trial + 1:04d}/{point.name}"
    return f"{point.name}/profile_runs/trial_{trial + 1:04d}"


def _one_line(point: RunPoint) -> str:
    parts = [f"{point.tps:,.0f} tokens/s"] if point.tps is not None else []
    if point.tps_per_user is not None:
        parts.append(f"{point.tps_per_user:,.1f} per user")
    if point.ttft is not None:
        parts.append(f"TTFT {point.ttft:,.0f} ms")
    rate = point.figure("request_throughput")
    if not parts and rate is not None:
        parts.append(f"{rate:,.2f} requests/s")
    return ", ".join(parts)


def _is_sure(runs: Sequence[RunData], config: Config) -> bool:
    """--convergence-…: no further repeat is needed."""
    sweep = config.sweep
    if sweep.convergence_metric is None or len(runs) < 2:
        return False
    if sweep.convergence_mode == "distribution":
        series = [r.series[sweep.convergence_metric] for r in runs if sweep.convergence_metric in r.series]
        if len(series) < 2:
            return False
        last, before = series[-1][np.isfinite(series[-1])], np.concatenate(series[:-1])
        return _distance(last, before[np.isfinite(before)]) <= (sweep.convergence_threshold or _DISTANCE)
    values = np.array(
        [v for r in runs if (v := r.figures.get(sweep.convergence_metric, {}).get(sweep.convergence_stat)) is not None]
    )
    if len(values) < 2 or values.mean() == 0:
        return False
    std = float(values.std(ddof=1))
    if sweep.convergence_mode == "cv":
        return std / abs(float(values.mean())) <= (sweep.convergence_threshold or _CV)
    half = t_quantile((1 + sweep.confidence_level) / 2, len(values) - 1) * std / math.sqrt(len(values))
    return half / abs(float(values.mean())) <= (sweep.convergence_threshold or _CI_WIDTH)


def _distance(
    left: np.ndarray[tuple[int], np.dtype[np.float64]], right: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
    """Kolmogorov's distance of two samples: the largest difference of their distribution functions."""
    if not len(left) or not len(right):
        return 1.0
    grid = np.sort(np.concatenate((left, right)))
    below = [np.searchsorted(np.sort(v), grid, side="right") / len(v) for v in (left, right)]
    return float(np.abs(below[0] - below[1]).max())


def _finish_sweep(
    runner: Runner, points: Sequence[Point], done: dict[int, list[RunData]], failed: list[dict[str, object]]
) -> Study:
    config, folder = runner.config, runner.folder
    level = config.sweep.confidence_level
    given = [p for p in sorted(points, key=lambda p: p.index) if done[p.index]]
    measured = [point_of(done[p.index], p.values, p.label or None, level) for p in given]
    if not measured:
        return Study(dir=folder, exit_code=ExitCode.REQUESTS_FAILED)
    ordered = measured if config.sweep.scenarios else sorted(measured, key=lambda p: tuple(p.values.values()))
    table = build_table(ordered, ttft_limit_ms=ttft_limit(config))
    screen: list[Part] = []
    if config.sweep.has_points:
        write_sweep_files(config, folder, table, failed)
        write_text(folder / "sweep_table.csv", render_table_csv(table))
    write_aggregates(
        config, folder, [(asked.name, point) for asked, point in zip(given, measured, strict=True)], failed
    )
    if not config.sweep.no_sweep_table:
        title = "AIPerf | Sweep" if config.sweep.has_points else f"AIPerf | {len(measured[0].paths)} Repeats"
        screen += build_screen(table, title)
    screen += _slo_lines(config, table)
    screen += finish_recipe(config, ordered, folder)
    screen.append(Text(f"study      {folder}"))
    screen += _page(config, folder, [run for point in ordered for run in point.runs])
    return Study(dir=folder, exit_code=ExitCode.OK, table=table, screen=tuple(screen))


def _slo_lines(config: Config, table: SweepTable) -> list[Part]:
    """--slo over a sweep: which points meet it, and the highest load that does."""
    if not config.sweep.slo:
        return []
    passed: list[str] = []
    for point in table.points:
        samples = [sample_of(r, is_open=False) for r in point.runs]
        if all(judge(samples, c).verdict == "pass" for c in config.sweep.slo):
            passed.append(point.label)
    wanted = " and ".join(map(str, config.sweep.slo))
    return [Text(f"Within {wanted}: {', '.join(passed) if passed else 'no point, or none for sure'}")]


# Search ------------------------------------------------------------------------------------------------------------------


def _search(runner: Runner, observer: Observer) -> Study:
    config = runner.config
    sweep = config.sweep
    path, space = _range(config)
    # With a condition on the goodput's share the highest load under it is the answer; without one, the highest goodput.
    is_maximum = sweep.search == "max-goodput" and not sweep.slo
    options = SearchOptions(max_probes=sweep.search_max_iterations)
    results: list[tuple[str, SearchResult]] = []
    screen: list[Part] = []
    measured: list[RunPoint] = []
    try:
        for point in build_points(sweep.axes, sweep.sweep_type):
            prefix = f"{point.name}/" if point.values else ""
            probe = LiveProbe(
                runner,
                path,
                sweep.slo,
                fixed=point.values,
                folder=prefix,
                maximised=is_maximum,
                observer=observer,
            )
            try:
                result = maximise(probe, space, options) if is_maximum else search(probe, space, options, probe.locate)
            finally:
                points = [point_of(runs, {**point.values, path: v}) for v, runs in sorted(probe.runs.items())]
                measured += points
            write_text(
                runner.folder / prefix / "search_history.json",
                render_bracket(config, result, path, maximised=is_maximum),
            )
            results.append((point.label, result))
            screen += _search_lines(config, path, point.label, result, points)
    except Interrupted:
        observer.note("interrupted; run the same command again to resume")
    table = build_table(measured, ttft_limit_ms=ttft_limit(config)) if measured else None
    if table is not None:
        write_text(runner.folder / "sweep_table.csv", render_table_csv(table))
        _write_sweep_files(runner, table, measured)
        if not sweep.no_sweep_table:
            screen = [*build_screen(table, "AIPerf | Search"), *screen]
    screen.append(Text(f"study      {runner.folder}"))
    screen += _page(config, runner.folder, [p.runs[-1] for p in measured])
    # Not finding a load is an answer; the goal counts as missed only when not even the lowest load meets it.
    code = ExitCode.THRESHOLD_MISSED if any(r.status == "none pass" for _, r in results) else ExitCode.OK
    return Study(dir=runner.folder, exit_code=code, table=table, searches=tuple(results), screen=tuple(screen))


def _write_sweep_files(runner: Runner, table: SweepTable, points: Sequence[RunPoint]) -> None:
    """The points that a search tried, as AIPerf says them of a sweep."""
    config, recipe = runner.config, runner.config.sweep.search_recipe
    write_sweep_files(config, runner.folder, table)
    write_aggregates(config, runner.folder, [(directory_name(p.values, recipe), p) for p in points], ())


def _range(config: Config) -> tuple[str, Range]:
    """The option searched, and from where to where."""
    sweep = config.sweep
    if sweep.search == "space":
        (only,) = parse_space(sweep.search_space)
        return only.path, Range(only.low, only.high, is_whole=only.is_whole)
    by_rate = sweep.search == "max-rate" or (
        sweep.search == "max-goodput"
        and (sweep.rate_min is not None or sweep.rate_max is not None or config.is_set("load.request_rate"))
    )
    if by_rate:
        return "load.request_rate", Range(sweep.rate_min or 1.0, sweep.rate_max or 1024.0, is_whole=False)
    return "load.concurrency", Range(sweep.concurrency_min or 1, sweep.concurrency_max or 1024)


def _search_lines(
    config: Config, path: str, label: str, result: SearchResult, points: Sequence[RunPoint]
) -> list[Part]:
    what = {"load.concurrency": "concurrency", "load.request_rate": "rate"}[path]
    unit = " requests/s" if path == "load.request_rate" else ""
    where = f" at {label}" if label else ""
    goal = (
        "Highest goodput" if not config.sweep.slo else f"Highest {what} with {' and '.join(map(str, config.sweep.slo))}"
    )
    lines: list[Part] = [Text(f"{goal}{where}: {result.text}", style="bold")]
    best = next((p for p in points if p.values.get(path) == result.value), None)
    if best is None and result.value is not None:
        below = [p for p in points if p.values[path] <= result.value]
        best = max(below, key=lambda p: p.values[path], default=None)
    if result.value is None or best is None:
        return lines
    rate = result.value if path == "load.request_rate" else best.figure("request_throughput")
    if config.sweep.search == "max-goodput" and not config.sweep.slo:
        rate = best.figure("goodput")
    if rate is not None:
        text = (
            f"One server: {rate:,.2f} requests/s"
            if unit or not best.tps
            else f"One server: {rate:,.2f} requests/s, {best.tps:,.0f} tokens/s"
        )
        if config.slo.target_rate is not None:
            servers = math.ceil(config.slo.target_rate / rate - 1e-9)
            text += f"; {servers:,} servers for {significant(config.slo.target_rate, 6)} requests/s"
        lines.append(Text(text))
    return lines


def _sampler(config: Config, observer: Observer) -> str:
    """`bayesian` is BoTorch's sampler where it is installed, else Optuna's own (AIPerf's rule)."""
    sweep = config.sweep
    if sweep.search_planner == "optuna" or config.is_set("sweep.optuna_sampler"):
        return sweep.optuna_sampler
    if has_botorch():
        return "botorch"
    if sweep.search_planner == "bayesian":
        observer.note(
            "BoTorch is not installed (`optuna-integration`, `botorch`): the search is done by Optuna's TPE sampler"
        )
    return sweep.optuna_sampler


def _space(runner: Runner, observer: Observer) -> Study:
    config = runner.config
    sweep = config.sweep
    metric = sweep.search_metric or "output_token_throughput"
    space = parse_space(sweep.search_space)
    load = None
    if sweep.search != "space":  # the highest load or goodput, by a planner that was asked for
        path, ends = _range(config)
        space = [Dimension(path=path, low=ends.low, high=ends.high, is_whole=ends.is_whole, is_log=True)]
        load = path if sweep.search != "max-goodput" else None
        metric = "goodput" if load is None else flag_name(path)
    maximised = _is_maximised(sweep, metric)
    measured: list[RunPoint] = []
    runner.progress.total = sweep.search_max_iterations

    def ask(number: int, values: object) -> SpaceTrial:
        chosen = dict(values) if isinstance(values, dict) else {}
        name = f"search_iter_{number:04d}"
        directory = f"{name}/profile_runs/run_0001"
        seed = seed_of_run(
            runner.record.seed, directory, 0, same_point=sweep.parameter_sweep_same_seed, same_trial=True
        )
        label = f"trial {number + 1} of {sweep.search_max_iterations}: " + ", ".join(
            f"{flag_name(p)} {exact(v)}" for p, v in chosen.items()
        )
        run = runner.run(
            directory,
            chosen,
            trial=0,
            seed=seed,
            extra={"output.report": False},
            label=label,
            cooldown_s=sweep.parameter_sweep_cooldown_seconds,
            index=number,
            variation=name,
        )
        if run is None:
            return SpaceTrial(chosen, None, feasible=False, requests=0)
        measured.append(point_of([run], chosen))
        feasible = all(judge([sample_of(run, is_open=False)], c).verdict != "fail" for c in sweep.slo)
        objective = measured[-1].figure(metric, sweep.search_stat) if load is None else chosen[load]
        observer.note(
            f"  {metric}:{sweep.search_stat} {'–' if objective is None else f'{significant(objective)}'}"
            + ("" if feasible else ", misses --slo")
        )
        return SpaceTrial(chosen, objective, feasible, run.num_ok + run.num_failed)

    trials: list[SpaceTrial] = []
    try:
        trials = optimise(
            ask,
            space,
            maximised=maximised,
            sampler=_sampler(config, observer),
            seed=sweep.search_random_seed or runner.record.seed,
            initial=sweep.search_initial_points,
            iterations=sweep.search_max_iterations,
        )
    except Interrupted:
        observer.note("interrupted; run the same command again to resume")
    return _space_study(runner, trials, measured, metric, maximised=maximised)


def _is_maximised(sweep: SweepConfig, metric: str) -> bool:
    if sweep.search_direction:
        return sweep.search_direction == "maximize"
    known = load_all().get(metric)
    return known is None or known.larger_is_better


def _space_study(
    runner: Runner, trials: Sequence[SpaceTrial], points: Sequence[RunPoint], metric: str, *, maximised: bool
) -> Study:
    """What a search over `--search-space` found: its files and its screen."""
    sweep = runner.config.sweep
    good = [t for t in trials if t.objective is not None and t.feasible]
    best = (max if maximised else min)(good, key=lambda t: t.objective or 0.0, default=None)
    requests = sum(t.requests for t in trials)
    if best is None:
        line = f"No trial meets the conditions ({len(trials)} trials, {requests:,} requests)"
    else:
        values = ", ".join(f"{flag_name(p)} {exact(v)}" for p, v in best.values.items())
        line = f"Best {metric}:{sweep.search_stat}: {significant(best.objective)} at {values} ({len(trials)} trials, {requests:,} requests)"
    write_text(runner.folder / "search_history.json", render_trials(runner.config, trials, metric, maximised=maximised))
    table = (
        build_table(sorted(points, key=lambda p: tuple(p.values.values())), ttft_limit_ms=ttft_limit(runner.config))
        if points
        else None
    )
    screen: list[Part] = [] if table is None or sweep.no_sweep_table else build_screen(table, "AIPerf | Search")
    screen += [Text(line, style="bold"), Text(f"study      {runner.folder}")]
    if table is not None:
        write_text(runner.folder / "sweep_table.csv", render_table_csv(table))
        _write_sweep_files(runner, table, points)
    code = ExitCode.OK if best is not None else ExitCode.THRESHOLD_MISSED
    return Study(dir=runner.folder, exit_code=code, table=table, trials=tuple(trials), screen=tuple(screen))


# A/B -----------------------------------------------------------------------------------------------------------------------


def _ab(runner: Runner, observer: Observer) -> Study:
    """Short runs in the order A B, B A, A B, …: what drifts over time hits both sides alike, and pairs are compared."""
    config = runner.config
    sweep = config.sweep
    urls = sweep.ab
    blocks = max(_AB_BLOCKS, sweep.num_profile_runs)
    sides: tuple[list[RunData], list[RunData]] = ([], [])
    extra: dict[str, object] = {"output.report": False}
    if config.load.request_count is not None:
        least = max(20, 2 * (config.load.concurrency or 1))
        extra["load.request_count"] = max(least, math.ceil(config.load.request_count / blocks))
    if config.load.benchmark_duration is not None:
        extra["load.benchmark_duration"] = config.load.benchmark_duration / blocks
    runner.progress.total = 2 * blocks
    try:
        for block in range(blocks):
            pair: list[tuple[int, RunData]] = []
            for side in (0, 1) if block % 2 == 0 else (1, 0):
                name = "ab"[side]
                seed = seed_of_run(
                    runner.record.seed,
                    f"block {block}" + (f" {name}" if urls[0] == urls[1] else ""),
                    0,
                    same_point=False,
                    same_trial=True,
                )
                if block and sweep.profile_run_disable_warmup_after_first:
                    extra |= {"warmup.request_count": None, "warmup.duration": None, "warmup.num_sessions": None}
                run = runner.run(
                    f"ab_{block + 1:04d}_{name}",
                    {},
                    trial=block,
                    seed=seed,
                    side=name,
                    cooldown_s=sweep.parameter_sweep_cooldown_seconds,
                    extra={**extra, "endpoint.urls": (urls[side],)},
                    label=f"block {block + 1} of {blocks}, {name.upper()}: {urls[side]}",
                )
                if run is not None:
                    pair.append((side, replace(run, label=f"{name.upper()} {urls[side]}")))
            if len(pair) == 2:
                for side, run in pair:
                    sides[side].append(run)
    except Interrupted:
        observer.note("interrupted; run the same command again to resume")
    if not sides[0]:
        return Study(dir=runner.folder, exit_code=ExitCode.REQUESTS_FAILED)
    options = CompareOptions(level=sweep.confidence_level)
    differences = compare_groups(sides[0], sides[1], options, paired=True)
    cards = tuple(build_card(side[0]) for side in sides)
    notes = (f"{len(sides[0])} pairs of alternating runs; intervals and tests are over the pairs",)
    comparison = Comparison(
        baseline=sides[0][0].name,
        cards=cards,
        pairs=(differences,),
        options=options,
        notes=notes,
        runs=(sides[0][0], sides[1][0]),
    )
    write_text(runner.folder / "ab_comparison.json", render_comparison_json(comparison))
    screen = [*build_comparison_screen(comparison), Text(f"study      {runner.folder}")]
    return Study(dir=runner.folder, exit_code=ExitCode.OK, comparison=comparison, screen=tuple(screen))


# Page and screen -------------------------------------------------------------------------------------------------------------


def _page(config: Config, folder: Path, runs: Sequence[RunData]) -> list[Part]:
    """`report.html` over the runs; what goes wrong with it costs a warning, not the study."""
    if not config.output.report or len(runs) < 2:
        return []
    from aiperf.reports.page import ComparisonInput, render_comparison
    from aiperf.reports.page.view import plot_run
    from aiperf.version import __version__

    try:
        shown = [replace(plot_run(run_of(r)), label=str(r.path.relative_to(folder))) for r in runs]
        title = f"{shown[0].source.title.rpartition(' · ')[0]} · {len(runs)} runs"
        page = render_comparison(
            ComparisonInput(title=title, runs=tuple(shown), facts=(f"{len(runs)} runs",), version=__version__)
        )
        (folder / "report.html").write_bytes(page)
    except (AIPerfError, OSError, ValueError) as error:
        return [Text(f"warning: `report.html` was not written: {error}", style="yellow")]
    return [Text(f"page       {folder / 'report.html'}")]

"""`aiperf plot RUN…`: charts of one or several runs as PNG, SVG and an offline page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aiperf import registry
from aiperf.config.flag import Flag

if TYPE_CHECKING:
    from aiperf.errors import Problem
    from aiperf.sweeps.table import SweepTable

__all__ = ["command"]

Format = Literal["png", "svg", "html"]
_MARKS = ("run.json", "profile_export_aiperf.json")
"""What tells the folder of a run."""
_CHARTS = f"Only these charts, repeatable; one of {', '.join(registry.names('charts'))}"
_ALL: tuple[Format, ...] = ("png", "svg", "html")


def command(
    *runs: Annotated[
        Path,
        Flag(
            help="Folders of runs, ours or AIPerf's, of a sweep, or with such folders in them; several are drawn together; default: artifacts"
        ),
    ],
    paths: Annotated[
        list[Path] | None,
        Flag(
            "--paths",
            "--artifact-dir",
            help="Folders of runs, as the arguments",
            greedy=True,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Flag("--output", "-o", help="Output folder; default: `plots` in the run, or beside the runs"),
    ] = None,
    formats: Annotated[
        list[Format] | None,
        Flag("--format", help="png, svg, html; default: all", greedy=True),
    ] = None,
    chart: Annotated[list[str] | None, Flag("--chart", help=_CHARTS, greedy=True)] = None,
    theme: Annotated[
        Literal["light", "dark"],
        Flag(help="Colour theme of PNG and SVG files; the HTML page follows the reader's system"),
    ] = "light",
    num_gpus: Annotated[
        int | None, Flag(help="Number of GPUs for runs that do not record it, for tokens/s per GPU")
    ] = None,
    gpu_cost_per_hour: Annotated[float | None, Flag(help="Price of one GPU hour, for the cost per token")] = None,
    config: Annotated[
        Path | None, Flag(help="AIPerf's plot configuration: the Pareto plot's metrics are taken from it")
    ] = None,
    dashboard: Annotated[bool, Flag(help="Browse the runs instead, as `aiperf view` does; nothing is written")] = False,
    host: Annotated[str, Flag(help="Address of the dashboard")] = "127.0.0.1",
    port: Annotated[int, Flag(help="Port of the dashboard; 0: any free one")] = 8050,
    pareto: Annotated[
        list[str] | None,
        Flag(
            help="Two metrics for the Pareto front instead of tokens/s per user and per GPU, the horizontal one first: `request_latency:p95 request_throughput`",
            greedy=True,
        ),
    ] = None,
) -> int:
    """Draw charts: latency distributions, latency and throughput over time, requests, chunks; of several runs the table, load and Pareto curves."""
    from aiperf.plots import draw_all
    from aiperf.reports.page import render_charts, render_page
    from aiperf.sweeps.page import load_run, point_runs, render_sweep_page, sweep_title
    from aiperf.sweeps.plots import draw_table, write_images, write_summary
    from aiperf.sweeps.points import load_runs
    from aiperf.sweeps.table import build_table
    from aiperf.version import __version__

    named = (*runs, *(paths or ())) or (Path("artifacts"),)
    if dashboard:
        from aiperf.cli.view import command as view

        if host not in {"127.0.0.1", "localhost"}:
            from aiperf.errors import ConfigError

            raise ConfigError(
                f"the dashboard cannot listen on `{host}`", "it shows files of this host, on 127.0.0.1 alone"
            )
        return view(named[0], port=port)
    if config is not None and pareto is None:
        pareto = _pareto_of(config)
    _refuse_unknown(named, chart or (), pareto or ())
    runs = tuple(run for folder in named for run in _runs_in(folder))
    wanted = tuple(formats or _ALL)
    one = runs[0] if len(runs) == 1 and not _is_study(runs[0]) else None
    table = None
    if one is None:
        x, y = pareto or (None, None)
        table = build_table(
            load_runs(runs, num_gpus=num_gpus, gpu_cost_per_hour=gpu_cost_per_hour), x_figure=x, y_figure=y
        )
        drawn = point_runs(table)
        title = sweep_title(table, drawn)
        _print_table(table)
    else:
        from dataclasses import replace

        run = load_run(one)
        drawn = [run if num_gpus is None else replace(run, num_gpus=num_gpus)]
        title = run.source.title
    folder = output or _default_folder(named)
    folder.mkdir(parents=True, exist_ok=True)
    if table is not None:
        _write_table(table, folder)
    if chart or set(wanted) - {"html"}:
        specs = draw_all(drawn, chart) if table is None else draw_table(table, drawn, chart)
        for name in chart or ():
            if registry.normalise(name) not in specs:
                print(f"note: there is nothing to draw for `{name}`", file=sys.stderr)
        for made in write_images(specs, folder, wanted, theme):
            print(made)
        if chart and "html" in wanted:
            _put(folder / "charts.html", render_charts(title, drawn[0].source.facts, specs, __version__))
    if "html" in wanted and not chart:
        page = render_page(drawn[0]) if table is None else render_sweep_page(table, version=__version__)
        _put(folder / "report.html", page)
    write_summary(folder, title, runs)
    return 0


def _refuse_unknown(named: Sequence[Path], charts: Sequence[str], pareto: Sequence[str]) -> None:
    """ConfigError for charts, folders and metrics that there are not, all at once."""
    from aiperf.errors import ConfigError, Problem, did_you_mean

    known = registry.names("charts")
    problems = [
        Problem(f"no chart is named `{name}`", "--chart", did_you_mean(registry.normalise(name), known))
        for name in charts
        if registry.normalise(name) not in known
    ]
    problems += [Problem(f"there is no folder `{run}`") for run in named if not run.exists()]
    problems += _figure_problems(pareto)
    if problems:
        raise ConfigError(problems)


def _runs_in(folder: Path) -> tuple[Path, ...]:
    """The folder, if it is a run or a study; else those in it, at any depth, a study's own runs left out."""
    if not folder.is_dir() or _is_study(folder) or any((folder / name).exists() for name in _MARKS):
        return (folder,)
    found: list[Path] = []
    for path in sorted(p for name in (*_MARKS, "study.json") for p in folder.rglob(name)):
        if not any(path.parent == f or f in path.parents for f in found):
            found = [f for f in found if path.parent not in f.parents] + [path.parent]
    return tuple(sorted(found)) or (folder,)


def _pareto_of(config: Path) -> list[str] | None:
    """`metric:stat` of the axes of the first plot of type `pareto` in AIPerf's plot configuration; None if there is none.

    ConfigError if the file cannot be read.
    """
    import yaml

    from aiperf.errors import ConfigError

    try:
        tree: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        tree = tree.get("plot") or tree
        plots = (tree.get("visualization") or {}).get("multi_run_plots") or {}
        for plot in plots.values():
            if plot.get("type") == "pareto":
                return [f"{plot[axis]['metric']}:{plot[axis].get('stat', 'avg')}" for axis in ("x", "y")]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read the plot configuration `{config}`: {error}") from error
    return None


def _figure_problems(names: Sequence[str]) -> list[Problem]:
    """`tag`, `tag:stat`, each also `…_per_gpu`."""
    from aiperf.errors import Problem, did_you_mean
    from aiperf.metrics import load_all

    if len(names) not in {0, 2}:
        return [Problem(f"needs two figures, not {len(names)}", "--pareto", "the horizontal one first")]
    known = load_all()
    out: list[Problem] = []
    for name in names:
        tag = name.partition(":")[0]
        if tag not in known and tag.removesuffix("_per_gpu") not in known:
            out.append(Problem(f"no metric is named `{tag}`", "--pareto", did_you_mean(tag, known, "")))
    return out


def _is_study(path: Path) -> bool:
    from aiperf.sweeps.study_folder import STUDY_FILE

    return (path / STUDY_FILE).is_file()


def _default_folder(runs: Sequence[Path]) -> Path:
    if len(runs) == 1:
        return (runs[0] if runs[0].is_dir() else runs[0].parent) / "plots"
    return runs[0].parent / "plots"


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    print(path)


def _write_table(table: SweepTable, folder: Path) -> None:
    from aiperf.sweeps.study_files import render_table_csv

    _put(folder / "sweep_table.csv", render_table_csv(table).encode())


def _print_table(table: SweepTable) -> None:
    from aiperf.cli.results import show
    from aiperf.sweeps.table import build_screen

    show(build_screen(table, "AIPerf | Runs"))

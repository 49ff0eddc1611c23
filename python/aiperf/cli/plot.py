"""`aiperf plot RUN…`: charts of one or several runs as PNG, SVG and an offline page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from aiperf.compare.data import RunData
    from aiperf.reports.page import PageInput

__all__ = ["command", "load_pages"]

Format = Literal["png", "svg", "html"]


def command(
    *runs: Annotated[Path, Parameter(help="Folders of runs, ours or AIPerf's; several are drawn together")],
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], help="Folder; default: `plots` in the run, or beside the runs")] = None,
    format: Annotated[list[Format] | None, Parameter(name="--format", help="png, svg, html; default: all", negative="", consume_multiple=True)] = None,  # noqa: A002
    chart: Annotated[list[str] | None, Parameter(name="--chart", help="Only these charts, by name; repeatable", negative="", consume_multiple=True)] = None,
    theme: Annotated[Literal["light", "dark"], Parameter(help="Of PNG and SVG; the page follows the reader's system")] = "light",
    num_gpus: Annotated[int | None, Parameter(help="GPUs behind each run's server, for tokens/s per GPU")] = None,
) -> int:  # fmt: skip
    """Draw charts: latency distributions, latency and throughput over time, requests, chunks; over several runs load and Pareto curves."""
    from dataclasses import replace

    from aiperf import registry
    from aiperf.config.values import nearest
    from aiperf.errors import ConfigError, Problem

    if not runs:
        raise ConfigError("no run is named", "`aiperf plot artifacts/…`")
    known = registry.names("plots")
    problems = [
        Problem(f"no chart is named `{name}`", "--chart", f"did you mean `{near}`?" if near else f"known: {', '.join(known)}")
        for name in chart or ()
        if registry.normalise(name) not in known
        for near in (nearest(registry.normalise(name), known),)
    ]  # fmt: skip
    problems += [Problem(f"there is no folder `{run}`") for run in runs if not run.exists()]
    if problems:
        raise ConfigError(problems)
    pages = load_pages(runs)
    if num_gpus is not None:
        pages = [replace(p, num_gpus=num_gpus) for p in pages]
    folder = output or _default_folder(runs)
    folder.mkdir(parents=True, exist_ok=True)
    written = _write(pages, folder, tuple(format or ("png", "svg", "html")), chart, theme)
    if len(pages) > 1:
        print(_table(pages))
    for path in written:
        print(path)
    return 0


def _default_folder(runs: Sequence[Path]) -> Path:
    if len(runs) == 1:
        return (runs[0] if runs[0].is_dir() else runs[0].parent) / "plots"
    return runs[0].parent / "plots"


def load_pages(paths: Sequence[Path]) -> list[PageInput]:
    """Runs of ours from their records, others' through the readers of `aiperf compare`; sorted by load where all have one.

    ResultError if one cannot be read.
    """
    from dataclasses import replace

    from aiperf.compare import load_run
    from aiperf.run.directory import RUN_FILE
    from aiperf.run.page import open_page

    pages = [open_page(p) if (p / RUN_FILE).is_file() else _foreign_page(load_run(p)) for p in paths]
    names = {p.load_name for p in pages}
    if len(names) == 1 and all(p.load is not None for p in pages):
        pages.sort(key=lambda p: p.load or 0.0)
    else:
        pages = [replace(p, load=None) for p in pages]
    labels = [p.label for p in pages]
    if len(set(labels)) < len(labels):
        pages = [replace(p, label=f"{p.label} ({i})") for i, p in enumerate(pages, 1)]
    return pages


def _foreign_page(run: RunData) -> PageInput:
    """Another tool's result: its requests as records where it has them, its own figures where it states them."""
    from dataclasses import replace

    import numpy as np

    from aiperf.metrics import METRICS, load_all
    from aiperf.metrics.measure import Result
    from aiperf.metrics.stats import Stats
    from aiperf.metrics.summary import SummaryOptions, summarise
    from aiperf.records import Columns
    from aiperf.reports.page import PageInput

    load_all()
    n = len(run.start_s)
    absent = np.full(n, np.nan)
    start = run.start_s * 1e9
    series = {tag: run.series.get(tag, absent) for tag in (
        "time_to_first_token", "request_latency", "input_sequence_length", "output_sequence_length")}  # fmt: skip
    end = np.where(np.isfinite(series["request_latency"]), start + series["request_latency"] * 1e6, run.end_s * 1e9)
    columns = Columns.from_arrays(
        {
            "sent": start, "started": start, "reused": np.ones(n), "first_content": start + series["time_to_first_token"] * 1e6,
            "last_content": np.where(run.ok, end, np.nan), "end": end, "error_kind": np.where(run.ok, 0.0, 4.0), "phase": np.zeros(n),
            "isl": series["input_sequence_length"], "counted_output": series["output_sequence_length"],
            "counted_reasoning": np.where(np.isfinite(series["output_sequence_length"]), 0.0, np.nan),
        }
    )  # fmt: skip
    options = SummaryOptions(confidence=False)
    summary = summarise(columns, options)
    figures = {}
    for tag, found in run.figures.items():
        if tag in METRICS:
            percentiles = {float(k[1:]): v for k, v in found.items() if k[:1] == "p" and k[1:2].isdigit()}
            stats = Stats(
                found.get("avg"), found.get("min"), found.get("max"), found.get("std"), percentiles=percentiles
            )
            figures[tag] = Result(METRICS[tag], stats)
    metrics = {**summary.metrics, **figures}
    summary = replace(summary, metrics=metrics, notices=(), duration_s=run.duration_s or summary.duration_s)
    rate, level = run.options.get("load.request_rate"), run.options.get("load.concurrency")
    axis = "Request rate (requests/s)" if rate is not None else "Concurrency"
    given = rate if rate is not None else level
    return PageInput(
        title=f"{run.model or run.name} · {run.tool}", summary=summary, columns=columns, options=options, label=run.name,
        facts=(run.tool, run.load), load=_float(given), load_name=axis, num_gpus=run.num_gpus or 1,
        notes=tuple(f"{d.tag}: {d.text}" for d in run.differs), problem="; ".join(run.reasons) or None, version=run.tool,
    )  # fmt: skip


def _float(value: object) -> float | None:
    try:
        return float(str(value).replace(",", ""))
    except ValueError:
        return None


def _write(
    pages: Sequence[PageInput], folder: Path, formats: Sequence[str], charts: Sequence[str] | None, theme: Literal["light", "dark"]
) -> list[Path]:  # fmt: skip
    from aiperf.plots import draw_all
    from aiperf.plots.render import render_png, render_svg
    from aiperf.reports.page import ComparisonInput, render_charts, render_comparison, render_page

    written: list[Path] = []

    def put(name: str, data: bytes) -> None:
        path = folder / name
        path.write_bytes(data)
        written.append(path)

    if charts or set(formats) - {"html"}:
        specs = draw_all([p.plot_run() for p in pages], charts)
        for name in charts or ():
            if name not in specs:
                print(f"note: there is nothing to draw for `{name}`", file=sys.stderr)
        for name, spec in specs.items():
            if "svg" in formats:
                put(f"{name}.svg", render_svg(spec, theme))
            if "png" in formats:
                put(f"{name}.png", render_png(spec, theme))
        if "html" in formats and charts:
            put("charts.html", render_charts(_title(pages), pages[0].facts, specs, _version()))
    if "html" in formats and not charts:
        if len(pages) == 1:
            put("report.html", render_page(pages[0]))
        else:
            labels = tuple((p.label, p.title) for p in pages)
            put(
                "report.html",
                render_comparison(
                    ComparisonInput(
                        _title(pages),
                        tuple(pages),
                        facts=(f"{len(pages)} runs", *pages[0].facts[:1]),
                        files=labels,
                        version=_version(),
                    )
                ),
            )
    return written


def _title(pages: Sequence[PageInput]) -> str:
    first, last = pages[0], pages[-1]
    if len(pages) == 1:
        return first.title
    start = {p.title.rpartition(" · ")[0] for p in pages}
    if first.load is not None and last.load is not None and len(start) == 1:
        return f"{start.pop()} · {first.load_name.partition(' (')[0].lower()} {first.load:,g} to {last.load:,g}"
    return f"{len(pages)} runs: {first.label} to {last.label}"


def _version() -> str:
    from aiperf import __version__

    return __version__


def _table(pages: Sequence[PageInput]) -> str:
    """The runs side by side, as text."""
    from aiperf.reports.page.tables import comparison_tables

    (table,) = comparison_tables([(p.label, p.summary) for p in pages])
    rows = [table.columns, *table.rows]
    widths = [max(len(r[i]) for r in rows) for i in range(len(table.columns))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )  # fmt: skip

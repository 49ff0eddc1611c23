"""After the load: records, metrics, files, screen, exit code. Works on a run directory, so `report` can do it again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiperf.config.as_aiperf import aiperf_input_config
from aiperf.config.model import Config
from aiperf.endpoints import Endpoint
from aiperf.errors import ExitCode, Note
from aiperf.metrics.context import TokenSource
from aiperf.metrics.summary import Phase, Summary, SummaryOptions, summarise
from aiperf.observer import Observer
from aiperf.records import Columns
from aiperf.records.schema import JOURNAL_DIR, RECORDS_FILE
from aiperf.records.store import finalise, open_run
from aiperf.run.directory import Files
from aiperf.run.facts import marked_percentile
from aiperf.workload.tokenizer import Tokenizer

__all__ = ["Ending", "Run", "finish"]


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, what it found, and the code the command exits with."""

    dir: Path
    summary: Summary
    exit_code: ExitCode
    notes: tuple[Note, ...] = ()
    config: Config = field(default_factory=Config, repr=False)

    @property
    def columns(self) -> Columns:
        """The records as numpy columns."""
        return open_run(self.dir)

    @property
    def records(self) -> object:
        """The records by the Arrow C stream interface: `polars.DataFrame(run.records)`, `pyarrow.table(run.records)`."""
        from aiperf.records.store import open_records

        return open_records(self.dir)


@dataclass(frozen=True)
class Ending:
    """What is known of the run besides its records. `tokenizer` None: tokens are not counted (again)."""

    config: Config
    endpoint: Endpoint
    files: Files
    options: SummaryOptions
    phases: tuple[Phase, ...]
    session_ids: Sequence[str]
    tokenizer: Tokenizer | None
    count_source: TokenSource
    benchmark_id: str
    run_info: Mapping[str, object]
    outcome: Mapping[str, Any]
    notes: tuple[Note, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    written: Sequence[tuple[str, Path]] = ()


def finish(ending: Ending, observer: Observer, *, write_jsonl: bool = True, recount: bool = False) -> Run:
    """One pass over the records, then metrics and files. Files that cannot be written do not stop the others."""
    config, files = ending.config, ending.files
    observer.stage("records")
    _convert(ending, write_jsonl=write_jsonl, recount=recount)
    _give_memory_back()
    observer.stage("metrics")
    columns = open_run(files.run_dir)
    summary = summarise(columns, ending.options)
    exit_code = _exit_code(summary, config, ending.outcome)
    written = _write(ending, summary)
    _show(ending, summary, [*written, *ending.written])
    observer.stage("report page")
    _write_page(ending, summary, columns, [*written, *ending.written])
    return Run(files.run_dir, summary, exit_code, ending.notes, config)


def _convert(ending: Ending, *, write_jsonl: bool, recount: bool) -> None:
    """Journal → Parquet with token counts, and the JSONL in the same pass."""
    from aiperf._core import write_jsonl as write_native
    from aiperf.reports.jsonl import JsonlOptions, build_jsonl

    config, files = ending.config, ending.files
    is_done = (files.run_dir / RECORDS_FILE).exists() and not (files.run_dir / JOURNAL_DIR).exists()
    if is_done and not write_jsonl and not recount:
        return  # a report from disk: no pass over all chunks for nothing
    jsonl = JsonlOptions(ending.options.metrics, ending.phases, ending.session_ids, ending.benchmark_id)
    wanted = write_jsonl and config.output.export_level != "summary"
    if wanted:
        files.jsonl.unlink(missing_ok=True)
        files.jsonl.touch()

    def on_batch(columns: Columns) -> None:
        if wanted:
            write_native(files.jsonl, build_jsonl(columns, jsonl))

    finalise(
        files.run_dir,
        _counter(ending.tokenizer),
        on_batch,
        keep_texts=config.output.export_level == "raw" or config.output.export_outputs_json,
        recount=recount,
    )


def _give_memory_back() -> None:
    """What the conversion has freed; glibc's allocator would keep it, and metrics begin with arrays of their own."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _counter(tokenizer: Tokenizer | None) -> Callable[[list[str]], NDArray[np.integer]] | None:
    return None if tokenizer is None else tokenizer.count


def _exit_code(summary: Summary, config: Config, outcome: Mapping[str, Any]) -> ExitCode:
    """Interrupted, then too many failed, then a goal missed (style.md §4)."""
    if outcome.get("interrupted"):
        return ExitCode.INTERRUPTED
    counts = summary.counts
    attempted = counts.ok + counts.failed
    if attempted == 0 or counts.ok == 0 or counts.failed > config.load.max_error_rate * attempted:
        return ExitCode.REQUESTS_FAILED
    if any(not gate.passed for gate in summary.gates):
        return ExitCode.THRESHOLD_MISSED
    return ExitCode.OK


def _write(ending: Ending, summary: Summary) -> list[tuple[str, Path]]:
    """All files; (what, path) of those written."""
    from aiperf import __version__
    from aiperf.reports.csv_export import render_csv
    from aiperf.reports.json_export import JsonOptions, render_json
    from aiperf.telemetry.gpu.export import gpu_csv_section

    config, files, o = ending.config, ending.files, ending.options
    reason = _incomplete_reason(ending.outcome)
    json_options = JsonOptions(
        aiperf_version=__version__,
        benchmark_id=ending.benchmark_id,
        input_config=aiperf_input_config(config),
        run_info=ending.run_info,
        was_cancelled=bool(ending.outcome.get("interrupted")),
        incomplete_reason=reason,
        percentiles=o.percentiles,
        extra=ending.extra,
    )
    out: list[tuple[str, Path]] = []

    def put(what: str, path: Path, text: str | bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        out.append((what, path))

    put("summary", files.summary, render_json(summary, json_options))
    put(
        "table", files.csv, render_csv(summary, o.percentiles) + gpu_csv_section(ending.extra.get("telemetry_data", {}))
    )
    if config.output.export_level != "summary":
        out.append(("requests", files.jsonl))
    if summary.slices:
        from aiperf.reports.timeslices_csv import render_timeslices_csv
        from aiperf.reports.timeslices_json import render_timeslices_json

        put("slices", files.slices_csv, render_timeslices_csv(summary))
        put("slices", files.slices_json, render_timeslices_json(summary, json_options.input_config))
    if config.output.junit is not None:
        from aiperf.reports.junit import render_junit

        put("JUnit", config.output.junit, render_junit(summary))
    if config.output.markdown is not None:
        from aiperf.reports.markdown import render_markdown

        put("markdown", config.output.markdown, render_markdown(summary))
    if config.output.export_level == "raw":
        from aiperf.run.raw import write_raw

        out.append(("raw", write_raw(files)))
    if config.output.export_outputs_json:
        from aiperf.run.raw import write_outputs

        out.append(("outputs", write_outputs(files, ending.session_ids)))
    out.append(("records", files.run_dir / "records.parquet"))
    return out


def _incomplete_reason(outcome: Mapping[str, Any]) -> str | None:
    if not outcome:
        return "the run was killed; this is what was on disk"
    if outcome.get("stopped_by"):
        return str(outcome["stopped_by"])
    reasons = [p["stop_reason"] for p in outcome.get("phases", ()) if not p["is_complete"]]
    return reasons[0] if reasons else None


def _show(ending: Ending, summary: Summary, written: Sequence[tuple[str, Path]]) -> None:
    from rich.console import Console

    from aiperf.reports.console import ConsoleOptions, build_screen, render_console

    config, files = ending.config, ending.files
    o = config.output
    options = ConsoleOptions(
        title=ending.endpoint.features.metrics_title,
        percentiles=o.percentiles or None,
        mark=marked_percentile(o.mark),
        tables=("http",) if o.show_trace_timing else (),
        files=tuple((what, str(path)) for what, path in written),
        command=" ".join(config.command) or None,
        show_gaps=True,
        show_intervals=bool(config.load.until),
    )
    files.console.write_text(render_console(summary, options), encoding="utf-8")
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, width=200, no_color=True)
    for part in build_screen(summary, options):
        console.print(part)


def _write_page(ending: Ending, summary: Summary, columns: Columns, written: Sequence[tuple[str, Path]]) -> None:
    """`report.html` (not with --no-report), and the charts as files with --auto-plot; after the table, as they take their time."""
    config, files = ending.config, ending.files
    if not (config.output.report or config.output.auto_plot):
        return
    from aiperf.run.page import page_input

    page = page_input(
        files.run_dir,
        ending.facts,
        config,
        summary,
        columns,
        ending.options,
        files=[(what, path.name) for what, path in written],
        problem=_incomplete_reason(ending.outcome),
    )
    if config.output.auto_plot:
        from aiperf.plots import draw_all
        from aiperf.plots.render import render_png, render_svg

        folder = files.run_dir / "plots"
        folder.mkdir(exist_ok=True)
        for name, spec in draw_all([page.plot_run()]).items():
            svg = render_svg(spec)
            (folder / f"{name}.svg").write_bytes(svg)
            (folder / f"{name}.png").write_bytes(render_png(spec, svg=svg))
        sys.stdout.write(f"charts    {folder}\n")
    if config.output.report:
        from aiperf.reports.page import render_page

        files.page.write_bytes(render_page(page))
        sys.stdout.write(f"page      {files.page}\n")


def token_source(config: Config, endpoint: Endpoint, tokenizer: Tokenizer | None) -> TokenSource:
    """Who counts the output tokens."""
    if config.endpoint.use_server_token_count or not endpoint.features.tokens_out:
        return "server usage"
    if tokenizer is None:
        return "chunks"
    return "server tokenize" if tokenizer.provenance == "server tokenize" else "local tokenizer"


def is_streaming(config: Config, endpoint: Endpoint) -> bool:
    return config.endpoint.streaming and endpoint.features.streaming

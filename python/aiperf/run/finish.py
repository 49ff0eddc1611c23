"""After the load: records, metrics, files, screen, exit code. Works on a run directory, so `report` can do it again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiperf.config.as_aiperf import aiperf_input_config
from aiperf.config.model import Config
from aiperf.endpoints import Endpoint
from aiperf.errors import ExitCode, Note, ResultError
from aiperf.metrics.context import TokenSource
from aiperf.metrics.summary import Phase, Summary, SummaryOptions, summarise
from aiperf.observer import Observer
from aiperf.records import Columns
from aiperf.records.columns import Floats
from aiperf.records.schema import JOURNAL_DIR, RECORDS_FILE
from aiperf.records.store import Finalised, RecordsNotWritten, finalise, open_run
from aiperf.run.directory import Files
from aiperf.run.options import marked_percentile
from aiperf.run.outputs import Outputs, part_of, write_whole
from aiperf.workload.tokenizer import Tokenizer

if TYPE_CHECKING:
    from aiperf.reports.page import PageInput

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
    """One pass over the records, then metrics and files. A file that cannot be written costs that file and exit code 1."""
    config, files = ending.config, ending.files
    outputs = Outputs(observer)
    observer.stage("records")
    counted = _convert(ending, outputs, write_jsonl=write_jsonl, recount=recount)
    _give_memory_back()
    observer.stage("metrics")
    columns = open_run(files.run_dir, counted)
    summary = summarise(columns, ending.options)
    _write(ending, summary, outputs)
    outputs.written += ending.written
    _show(ending, summary, outputs)
    observer.stage("report page")
    _write_page(ending, summary, columns, outputs)
    exit_code = _exit_code(summary, config, ending.outcome)
    if exit_code == ExitCode.OK and (outputs.problems or ending.outcome.get("journal_lost_rows")):
        exit_code = ExitCode.ERROR
    return Run(files.run_dir, summary, exit_code, (*ending.notes, *outputs.problems), config)


def _convert(ending: Ending, outputs: Outputs, *, write_jsonl: bool, recount: bool) -> Mapping[str, Floats]:
    """Journal → Parquet with token counts, and the JSONL in the same pass. The counts, if there is no file that holds them.

    Where space is short the two may fail each other: then one is made after the other, the records first.
    """
    config, files = ending.config, ending.files
    target = files.run_dir / RECORDS_FILE
    is_done = target.exists() and not (files.run_dir / JOURNAL_DIR).exists()
    if is_done and not write_jsonl and not recount:
        return {}  # a report from disk: no pass over all chunks for nothing
    jsonl = _Requests(ending, is_wanted=write_jsonl and config.output.export_level != "summary")

    def convert(append: Callable[[Columns], None], *, write: bool = True) -> Finalised:
        return finalise(
            files.run_dir,
            _counter(ending.tokenizer),
            append,
            keep_texts=config.output.export_level == "raw" or config.output.export_outputs_json,
            recount=recount,
            write=write,
        )

    counted: Mapping[str, Floats] = {}
    failed: ResultError | None = None
    try:
        counted = convert(jsonl.append).counted
    except RecordsNotWritten:
        jsonl.restart()
        try:
            convert(lambda _: None)
        except RecordsNotWritten as error:
            failed = error
            counted = convert(jsonl.append, write=False).counted
        else:
            recount = False
            convert(jsonl.append)
    if jsonl.error is not None and failed is None:
        recount = False
        jsonl.restart()
        convert(jsonl.append)
    if failed is not None:
        outputs.fail("records", target, failed)
    else:
        outputs.written.append(("records", target))
    if jsonl.is_wanted:
        jsonl.publish()
        if jsonl.error is None:
            outputs.written.append(("requests", files.jsonl))
        else:
            outputs.fail("requests", files.jsonl, jsonl.error)
    elif files.jsonl.exists() and config.output.export_level != "summary":
        outputs.written.append(("requests", files.jsonl))
    return counted


class _Requests:
    """`profile_export.jsonl` while it is written. `error`: why it cannot be."""

    def __init__(self, ending: Ending, *, is_wanted: bool) -> None:
        from aiperf.reports.exporters.jsonl import JsonlOptions

        self.is_wanted = is_wanted
        self.error: OSError | None = None
        self._path = ending.files.jsonl
        self._part = part_of(self._path)
        self._options = JsonlOptions(ending.options.metrics, ending.phases, ending.session_ids, ending.benchmark_id)
        if is_wanted:
            self.restart()

    def restart(self) -> None:
        if self.is_wanted:
            self.error = None
            try:
                self._part.unlink(missing_ok=True)
                self._part.touch()
            except OSError as error:
                self.error = error

    def append(self, columns: Columns) -> None:
        from aiperf._core import write_jsonl
        from aiperf.reports.exporters.jsonl import build_jsonl

        if not self.is_wanted or self.error is not None:
            return
        try:
            write_jsonl(self._part, build_jsonl(columns, self._options))
        except OSError as error:
            self.error = error
            with suppress(OSError):
                self._part.unlink()

    def publish(self) -> None:
        if self.error is None:
            try:
                self._part.replace(self._path)
            except OSError as error:
                self.error = error


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


def _write(ending: Ending, summary: Summary, outputs: Outputs) -> None:
    """All files but the screen's copy and the page."""
    from aiperf import __version__
    from aiperf.reports.exporters.summary_csv import render_csv
    from aiperf.reports.exporters.summary_json import JsonOptions, render_json
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
    records, outputs.written = outputs.written, []
    put = outputs.put
    put("summary", files.summary, lambda: render_json(summary, json_options))
    put(
        "table", files.csv,
        lambda: render_csv(summary, o.percentiles) + gpu_csv_section(ending.extra.get("telemetry_data", {})),
    )  # fmt: skip
    outputs.written += [entry for entry in records if entry[0] == "requests"]
    if summary.slices:
        from aiperf.reports.exporters.timeslices_csv import render_timeslices_csv
        from aiperf.reports.exporters.timeslices_json import render_timeslices_json

        put("slices", files.slices_csv, lambda: render_timeslices_csv(summary))
        put("slices", files.slices_json, lambda: render_timeslices_json(summary, json_options.input_config))
    if config.output.junit is not None:
        from aiperf.reports.exporters.junit import render_junit

        put("JUnit", config.output.junit, lambda: render_junit(summary))
    if config.output.markdown is not None:
        from aiperf.reports.exporters.markdown import render_markdown

        put("markdown", config.output.markdown, lambda: render_markdown(summary))
    if config.output.export_level == "raw":
        from aiperf.run.raw import write_raw

        with outputs.attempt("raw", files.raw):
            outputs.written.append(("raw", write_raw(files)))
    if config.output.export_outputs_json:
        from aiperf.run.raw import write_outputs

        with outputs.attempt("outputs", files.outputs):
            outputs.written.append(("outputs", write_outputs(files, ending.session_ids)))
    outputs.written += [entry for entry in records if entry[0] == "records"]


def _incomplete_reason(outcome: Mapping[str, Any]) -> str | None:
    if not outcome:
        return "the run was killed; this is what was on disk"
    if outcome.get("stopped_by"):
        return str(outcome["stopped_by"])
    reasons = [p["stop_reason"] for p in outcome.get("phases", ()) if not p["is_complete"]]
    return reasons[0] if reasons else None


def _show(ending: Ending, summary: Summary, outputs: Outputs) -> None:
    from aiperf.reports.render.console import ConsoleOptions, build_screen, print_screen, render_console

    config, files = ending.config, ending.files
    o = config.output
    options = ConsoleOptions(
        title=ending.endpoint.features.metrics_title,
        percentiles=o.percentiles or None,
        mark=marked_percentile(o.mark),
        tables=("http",) if o.show_trace_timing else (),
        files=tuple((what, str(path)) for what, path in outputs.written),
        command=" ".join(config.command) or None,
        show_gaps=True,
        show_intervals=bool(config.load.until),
    )
    written = outputs.written
    outputs.written = []
    outputs.put("screen", files.console, lambda: render_console(summary, options))
    outputs.written = written
    # Called from Python there may be no screen, or one that fails: the files are what counts.
    with suppress(OSError, UnicodeError):
        print_screen(build_screen(summary, options))


def _write_page(ending: Ending, summary: Summary, columns: Columns, outputs: Outputs) -> None:
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
        files=[(what, path.name) for what, path in outputs.written],
        problem=_incomplete_reason(ending.outcome),
    )
    if config.output.auto_plot:
        folder = files.run_dir / "plots"
        with outputs.attempt("charts", folder):
            _draw(page, folder, outputs)
            _say(f"charts    {folder}")
    if config.output.report:
        from aiperf.reports.page import render_page

        before = len(outputs.problems)
        outputs.put("page", files.page, lambda: render_page(page))
        if len(outputs.problems) == before:
            _say(f"page      {files.page}")


def _draw(page: PageInput, folder: Path, outputs: Outputs) -> None:
    from aiperf.plots import draw_all
    from aiperf.plots.render import render_png, render_svg

    folder.mkdir(exist_ok=True)
    for name, spec in draw_all([page.plot_run()]).items():
        with outputs.attempt("chart", folder / f"{name}.svg"):
            svg = render_svg(spec)
            write_whole(folder / f"{name}.svg", svg)
            write_whole(folder / f"{name}.png", render_png(spec, svg=svg))


def _say(line: str) -> None:
    with suppress(OSError, UnicodeError):
        sys.stdout.write(line + "\n")


def token_source(config: Config, endpoint: Endpoint, tokenizer: Tokenizer | None) -> TokenSource:
    """Who counts the output tokens."""
    if config.endpoint.use_server_token_count or not endpoint.features.tokens_out:
        return "server usage"
    if tokenizer is None:
        return "chunks"
    return "server tokenize" if tokenizer.provenance == "server tokenize" else "local tokenizer"


def is_streaming(config: Config, endpoint: Endpoint) -> bool:
    return config.endpoint.streaming and endpoint.features.streaming

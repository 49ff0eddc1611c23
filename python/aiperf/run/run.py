"""A run as a value: what was asked (`config`), what the engine said (`json.outcome`), the records, and what is computed from them.

`profile` makes one, `Run.open` reads the same one from disk, `aiperf.run.imported` makes one of another tool's files. Here alone is decided
who counted the tokens, which metrics apply, and what a summary is computed with; everybody else asks the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiperf.config.as_data import config_from_run
from aiperf.config.model import Config
from aiperf.endpoints import Endpoint, endpoint_of
from aiperf.errors import ConfigError, ExitCode, Note
from aiperf.outcome import Outcome
from aiperf.records import Columns
from aiperf.records.columns import Floats
from aiperf.records.run_json import RunJson, load_run_json
from aiperf.records.store import open_records, open_run
from aiperf.reports.paths import Files

if TYPE_CHECKING:
    from aiperf.metrics.context import MetricOptions, TokenSource
    from aiperf.metrics.summary import Phase, Summary, SummaryOptions
    from aiperf.plots.render.chart import Chart
    from aiperf.run.data import RunData

__all__ = ["Run"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """`json`: `run.json`. `notes`: what was noticed since it was made or opened. `written`: (what, path) of its files.

    `counted`: columns that no file holds (a full disk). `was_signalled`: a signal came after the load. `imported`: another tool's figures.
    """

    dir: Path
    config: Config = field(repr=False)
    json: RunJson = field(repr=False)
    notes: tuple[Note, ...] = ()
    written: tuple[tuple[str, Path], ...] = field(default=(), repr=False)
    counted: Mapping[str, Floats] = field(default_factory=dict, repr=False)
    was_signalled: bool = False
    imported: RunData | None = field(default=None, repr=False)
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, run_dir: Path | str, overrides: Mapping[str, object] | None = None, **options: object) -> Run:
        """The run in a directory, finished or killed, with other SLOs, slices or percentiles if asked.

        `options`: as in `config_from` (`goodput="time_to_first_token:200"`). `overrides`: values by option path (`slo.goodput`), as they
        stand in a `Config`. ResultError if there is no run; ConfigError for a wrong option.
        """
        folder = Path(run_dir)
        json = load_run_json(folder)
        config = config_from_run(json.config)
        given = dict(overrides or {})
        if options:
            from aiperf.config.resolve import config_from

            asked = config_from(options, check=False)
            given |= {path: asked.value(path) for path, origin in asked.origins.items() if origin.kind == "flag"}
        run = cls(dir=folder, config=config.replace(given) if given else config, json=json)
        return replace(run, written=run.files_there())

    def with_json(self, **changes: object) -> Run:
        """The same with other entries in `json`; nothing that was computed before holds, unless it cannot depend on them."""
        cache = (
            {}
            if {"outcome", "generators", "server_metrics", "gpu_energy", "phases", "tokenizer"} & changes.keys()
            else self._cache
        )
        return replace(self, json=self.json.model_copy(update=changes), _cache=cache)

    def with_records(self, counted: Mapping[str, Floats]) -> Run:
        """The same after its records were written (again): nothing that was computed before holds."""
        new = replace(self, counted=counted, _cache={})
        return replace(new, written=new.files_there())

    def with_figures_of(self, other: Run) -> Run:
        """The same with the summaries that were computed of the same rows elsewhere; unless it has columns that those had not."""
        known = other._cache.get("summaries")
        return self if known is None or self.counted else replace(self, _cache={**self._cache, "summaries": known})

    def found(self) -> Run:
        """The same, in the folder a later run into its own moved it to."""
        from aiperf.run.directory import find_run

        there = find_run(self.dir, self.benchmark_id)
        return self if there == self.dir else replace(self, dir=there)

    def files_there(self) -> tuple[tuple[str, Path], ...]:
        """Of the two that are written when the load ends, those that are there."""
        files = [("requests", self.files.jsonl)] if self.config.output.export_level != "summary" else []
        return tuple(entry for entry in (*files, ("records", self.files.records)) if entry[1].exists())

    # What is derived --------------------------------------------------------------------------------------------------

    @property
    def files(self) -> Files:
        return Files(self.dir, self.config.output.profile_export_prefix)

    @property
    def endpoint(self) -> Endpoint:
        return endpoint_of(self.config)

    @property
    def metrics_title(self) -> str:
        return self.endpoint.features.metrics_title

    @property
    def is_ours(self) -> bool:
        """False for a run that was read from another tool's file: it may have no records."""
        return self.imported is None

    @property
    def title(self) -> str:
        """What it is called: model, endpoint, load; of another tool's run model and tool."""
        from aiperf.reports.page.view import title_of

        data = self.imported
        return title_of(self) if data is None else f"{data.model or data.name} · {data.tool}"

    @property
    def facts(self) -> tuple[str, ...]:
        """Words for the line below the title."""
        from aiperf.reports.page.view import facts_of

        return facts_of(self) if self.imported is None else (self.imported.tool, self.imported.load)

    @property
    def load_axis(self) -> tuple[float | None, str]:
        """(value, name) of its load among other runs: the request rate in open loop, else the concurrency."""
        from aiperf.reports.page.view import load_axis

        return load_axis(self.config) if self.imported is None else self.imported.load_axis

    @property
    def num_gpus(self) -> int | None:
        """Of the server, by `--num-gpus` or the other tool's file; None: not known."""
        return self.config.endpoint.num_gpus if self.imported is None else self.imported.num_gpus

    @property
    def outcome(self) -> Outcome | None:
        """What the engine said; None if it did not get to (the run was killed)."""
        return self.json.outcome

    @property
    def is_streaming(self) -> bool:
        return self.config.endpoint.streaming and self.endpoint.features.streaming

    @property
    def count_source(self) -> TokenSource:
        """Who counts the output tokens."""
        from aiperf.metrics.context import TOKEN_SOURCES

        if self.config.endpoint.use_server_token_count or not self.endpoint.features.tokens_out:
            return "server usage"
        return next((s for s in TOKEN_SOURCES if s == self.json.tokenizer.provenance), "local tokenizer")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """In the order in which they were sent; the column `phase` of the records is the place in it."""
        from aiperf.run.options import phases_of

        return phases_of(self.json.phases)

    @property
    def session_ids(self) -> Sequence[str]:
        """Names of the sessions as in the dataset; the column `session` of the records is the place in it."""
        return self.json.names_of_sessions

    @property
    def session_parents(self) -> Sequence[int]:
        """By plan row of a session: the row of the one that starts it, −1 for a root; empty if all are roots."""
        return () if self.json.session_tree is None else tuple(self.json.session_tree.parents)

    @property
    def metric_options(self) -> MetricOptions:
        from aiperf.reading.media_rows import MediaRows
        from aiperf.records.agents import read_agent_facts
        from aiperf.run.options import metric_options

        return metric_options(
            self.config,
            self.count_source,
            schedule=self.json.is_schedule,
            streaming=self.is_streaming,
            sends_ignore_eos=self._sends_ignore_eos,
            agents=read_agent_facts(self.dir),
            media=MediaRows.open(self.dir),
        )

    @property
    def _sends_ignore_eos(self) -> bool:
        """By the user's wish, or because the server was found to accept it."""
        e = self.config.endpoint
        return (
            e.ignore_eos == "on"
            or e.extra_inputs.get("ignore_eos") is True
            or any(note.kind == "ignore_eos_added" for note in self.json.notes)
        )

    @property
    def options(self) -> SummaryOptions:
        """What its summary is computed with."""
        from aiperf.metrics.summary import SummaryOptions
        from aiperf.run.options import server_counters, server_gauges, summary_options

        if self.imported is not None:
            return SummaryOptions(confidence=False)
        return summary_options(
            self.config,
            self.metric_options,
            self.json,
            server_counters(self.json.server_metrics),
            server_gauges(self.json.server_metrics),
        )

    @property
    def benchmark_id(self) -> str:
        return self.json.benchmark_id

    @property
    def command(self) -> tuple[str, ...]:
        """The command line, secrets masked; empty from Python."""
        return tuple(self.json.command) or self.config.command

    @property
    def run_info(self) -> Mapping[str, object]:
        """AIPerf's `run_info`."""
        place = self.json.study
        within: dict[str, object] = (
            {"trial": 0}
            if place is None
            else {
                "sweep_id": place.study_id,
                "trial": place.trial,
                "run_label": place.label,
                "variation_label": place.variation,
                "variation_index": place.index,
                "variation_values": place.values,
            }
        )
        command = " ".join(self.json.command)
        return {"benchmark_id": self.benchmark_id, "random_seed": self.json.seed, **within, "cli_command": command}

    @property
    def incomplete_reason(self) -> str | None:
        """Why the run did not do all it was asked for; None if it did."""
        if self.imported is not None:
            return "; ".join(self.imported.reasons) or None
        return (
            "the run was killed; this is what was on disk" if self.outcome is None else self.outcome.incomplete_reason
        )

    @property
    def was_interrupted(self) -> bool:
        """By Ctrl-C or a signal, during the load or after it."""
        return self.was_signalled or (self.outcome is not None and self.outcome.interrupted)

    @property
    def telemetry_data(self) -> Mapping[str, Any] | None:
        """AIPerf's `telemetry_data`: the GPUs' statistics; None if they were not looked at."""
        return self.json.telemetry_data

    # What is computed -------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> Columns:
        """The records as numpy columns, one row per request of all phases, warm-up included; a column is read when it is asked for.

        `columns.scalar(name)`: (rows,) float64, NaN where absent; points in time are ns since the run began. Names: the schema of
        `records.parquet`. ResultError if the folder has no records or they cannot be read.
        """
        from aiperf.run.stated import imported_columns

        if "columns" not in self._cache:
            if self.imported is None:
                self._cache["columns"] = open_run(self.found().dir, self.counted)
            else:
                self._cache["columns"] = imported_columns(self.imported)
        columns: Columns = self._cache["columns"]
        return columns

    @property
    def records(self) -> object:
        """The records by the Arrow C stream interface: `polars.DataFrame(run.records)`, `pyarrow.table(run.records)`.

        One row per request of all phases; points in time are ns since the run began, null where absent.
        ResultError if the folder has no records or they cannot be read.
        """
        return open_records(self.found().dir)

    def summary(self, options: SummaryOptions | None = None) -> Summary:
        """The metrics and what else follows from the records; computed once for the same options (None: the run's own).

        `run.summary()["time_to_first_token"].p99` is in the display unit, ms.
        """
        from aiperf.metrics.summarise import summarise
        from aiperf.run.stated import with_stated

        wanted = options or self.options
        known: list[tuple[SummaryOptions, Summary]] = self._cache.setdefault("summaries", [])
        for asked, summary in known:
            if asked == wanted:
                return summary
        summary = summarise(self.columns, wanted)
        if self.imported is not None:
            summary = with_stated(summary, self.imported)
        known.append((wanted, summary))
        return summary

    @property
    def data(self) -> RunData:
        """Values per request and the figures, as comparisons and sweeps take them."""
        from aiperf.reports.exporters.summary_json import figures_of
        from aiperf.run.data import build_data

        if "data" not in self._cache:
            self._cache["data"] = self.imported or build_data(
                path=self.dir,
                config=self.config,
                json=self.json,
                columns=self.columns,
                phases=self.phases,
                options=self.metric_options,
                figures=figures_of(self.summary(), self.options.percentiles),
                certificate=self.summary().certificate,
            )
            self._cache["data"] = replace(self._cache["data"], origin=self)
        data: RunData = self._cache["data"]
        return data

    @property
    def exit_code(self) -> ExitCode:
        """Of a command that makes this run: interrupted, then too many failed, then an assertion missed, then a file missing."""
        if self.was_interrupted:
            return ExitCode.INTERRUPTED
        summary = self.summary()
        counts = summary.counts
        attempted = counts.ok + counts.failed
        limit = self.config.load.max_error_rate
        aborted = self.outcome is not None and self.outcome.was_aborted
        if counts.ok == 0 or aborted or (limit is not None and counts.failed > limit * attempted):
            return ExitCode.REQUESTS_FAILED
        if any(not checked.passed for checked in summary.assertions):
            return ExitCode.THRESHOLD_MISSED
        from aiperf.reports.agentic import coverage_problem

        if coverage_problem(self) is not None:
            return ExitCode.ERROR
        is_lost = self.outcome is not None and self.outcome.has_losses
        return ExitCode.ERROR if is_lost or any(n.kind == "file_failed" for n in self.notes) else ExitCode.OK

    # What is shown ----------------------------------------------------------------------------------------------------

    def figure(self, name: str) -> Chart:
        """A chart by its name (`aiperf plot --chart`): drawn in a notebook; `.spec` is Vega-Lite, `.svg()`, `.png()` are bytes.

        ConfigError, with the nearest name, if there is no such chart, or nothing to draw.
        """
        from aiperf.plots import draw_all
        from aiperf.plots.render.chart import Chart
        from aiperf.reports.page.view import plot_run

        charts = draw_all([plot_run(self)], [name])
        if not charts:
            raise ConfigError(
                f"`{name}` has nothing to draw of this run", "some charts need `--streaming`, or several runs"
            )
        return Chart(*next(iter(charts.items())))

    def _repr_html_(self) -> str:
        """The tables, for a notebook."""
        from aiperf.reports.render.html import render_run

        return render_run(self)

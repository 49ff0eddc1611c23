"""Sections `output`, `slo` and `service`: what is written, what is demanded, and how the tool itself runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.conditions import Condition, Tier
from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["OutputConfig", "ServiceConfig", "SloConfig"]

_OUTPUT = "Output"
_GOALS = "Goals"
_SERVICE = "Service"


class OutputConfig(Section):
    """Files and tables."""

    artifact_dir: Annotated[
        Path | None,
        Flag(
            "--artifact-dir",
            "--output-artifact-dir",
            group=_OUTPUT,
            help="Output folder of the run; default artifacts/<model>-<endpoint>-<load>",
        ),
    ] = None
    profile_export_prefix: Annotated[
        str | None,
        Flag(
            "--profile-export-prefix",
            "--profile-export-file",
            help="File-name prefix of the exported files; `my.json` is the prefix `my`",
            group=_OUTPUT,
        ),
    ] = None
    export_level: Annotated[
        Literal["summary", "records", "raw"],
        Flag(
            "--export-level",
            "--profile-export-level",
            help="How much to export; raw: whole requests and responses as well",
            group=_OUTPUT,
        ),
    ] = "records"
    aiperf_compat: Annotated[
        str,
        Flag(
            "--aiperf-compat",
            "--compat-version",
            help="AIPerf's version written as aiperf_version; given, AIPerf's further tables are printed, too; `off`: our own",
            group=_OUTPUT,
            metavar="VERSION",
        ),
    ] = "0.13"
    slice_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--slice-duration", help="Also report time slices of this length", zero_is_off=True, group=_OUTPUT, unit="s"
        ),
    ] = None
    percentiles: Annotated[
        tuple[float, ...],
        Flag(
            "--percentiles",
            help="Percentile columns of the table, for example `25,50,75,90,99`",
            group=_OUTPUT,
            split=True,
        ),
    ] = ()
    mark: Annotated[
        str | None,
        Flag("--mark", help="Statistic column to highlight, for example `p75`", group=_OUTPUT, metavar="STAT"),
    ] = None
    report: Annotated[bool, Flag("--report", help="Write the HTML report, report.html", group=_OUTPUT)] = True
    auto_plot: Annotated[
        bool, Flag("--auto-plot", help="Also write the charts as PNG and SVG files", group=_OUTPUT)
    ] = False
    export_outputs_json: Annotated[
        bool, Flag("--export-outputs-json", help="Write the response texts to outputs.json", group=_OUTPUT)
    ] = False
    user_files: Annotated[
        str | None,
        Flag(
            "--user-files",
            help='Files to write into the run\'s folder, as JSON: `{"files": [{"path", "content", "format"}], "variables": {…}}`, Jinja filled in',
            group=_OUTPUT,
            metavar="JSON",
        ),
    ] = None
    export_http_trace: Annotated[
        bool,
        Flag(
            "--export-http-trace", help="Add the HTTP trace of each request to the JSONL (`trace_data`)", group=_OUTPUT
        ),
    ] = False
    show_trace_timing: Annotated[
        bool, Flag("--show-trace-timing", help="Show the connection phases in the table", group=_OUTPUT)
    ] = False
    junit: Annotated[
        Path | None, Flag("--junit", help="Write assertions and objectives as JUnit XML", group=_OUTPUT)
    ] = None
    markdown: Annotated[
        Path | None, Flag("--markdown", help="Write a Markdown summary for a pull request", group=_OUTPUT)
    ] = None


class SloConfig(Section):
    """What the run has to reach, and which part of it counts."""

    goodput: Annotated[
        tuple[Tier, ...],
        Flag(
            "--goodput",
            group=_GOALS,
            metavar="SLOS",
            help="SLOs per request, `time_to_first_token:370 request_latency:648` (ms); repeatable with a name: `strict=…`",
        ),
    ] = ()
    target_rate: Annotated[
        float | None,
        Field(gt=0),
        Flag("--target-rate", help="Report how many such servers this request rate needs", group=_GOALS),
    ] = None
    exclude_slices: Annotated[
        tuple[int, ...],
        Flag(
            "--exclude-slices",
            help="Time slices left out of the assertions, for example `0,1`",
            group=_GOALS,
            split=True,
        ),
    ] = ()
    steady_state: Annotated[
        bool, Flag("--steady-state", help="Report steady-state metrics as the headline", group=_GOALS)
    ] = False
    stall_threshold: Annotated[
        float | None,
        Field(gt=0),
        Flag("--stall-threshold", help="Gap between chunks above which it counts as a stall", group=_GOALS, unit="ms"),
    ] = None
    asserts: Annotated[
        tuple[Condition, ...],
        Flag(
            "--assert",
            help="Exit with code 3 unless `time_to_first_token:p99 < 500ms` holds (`server:queue_time:p99` is the server's own); repeatable",
            group=_GOALS,
            metavar="CONDITION",
        ),
    ] = ()
    abort_on_fail: Annotated[
        bool, Flag("--abort-on-fail", help="Stop the run as soon as an assertion can no longer be met", group=_GOALS)
    ] = False
    calibrate: Annotated[
        bool | None,
        Flag(
            "--calibrate",
            help="Measure the tool's measurement error after the run; default: for runs of 10 s or more",
            group=_GOALS,
        ),
    ] = None


class ServiceConfig(Section):
    """The tool itself."""

    ui_type: Annotated[
        Literal["simple", "dashboard", "plain", "none"],
        Flag(
            "--ui",
            "--ui-type",
            help="Display during the run; plain lines are used where there is no terminal",
            group=_SERVICE,
        ),
    ] = "simple"
    log_level: Annotated[
        Literal["TRACE", "DEBUG", "INFO", "NOTICE", "WARNING", "SUCCESS", "ERROR", "CRITICAL"],
        Flag("--log-level", help="Minimum log level", group=_SERVICE, synonyms={"warn": "WARNING"}),
    ] = "INFO"
    verbose: Annotated[bool, Flag("--verbose", "-v", help="Same as --log-level DEBUG", group=_SERVICE)] = False
    extra_verbose: Annotated[bool, Flag("--extra-verbose", "-vv", help="Same as --log-level TRACE", group=_SERVICE)] = (
        False
    )
    stats_interval: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--stats-interval",
            help="Time between two lines of the plain display; 0: no such lines",
            group=_SERVICE,
            unit="s",
        ),
    ] = 5.0
    workers: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--workers",
            help="Number of worker threads; default: chosen from cores and load",
            group=_SERVICE,
            sweep=False,
        ),
    ] = None
    cpus: Annotated[
        tuple[int, ...],
        Flag(
            "--cpus",
            help="CPU cores the worker threads are pinned to, for example `0,2-3`; generators on one node divide them",
            group=_SERVICE,
            split=True,
        ),
    ] = ()
    kernel_stamps: Annotated[
        bool, Flag("--kernel-stamps", help="Use the kernel's receive timestamps where available", group=_SERVICE)
    ] = True

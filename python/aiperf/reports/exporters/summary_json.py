"""`profile_export_aiperf.json`: the summary as AIPerf 0.13 writes it (one key per metric), with our own keys behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from aiperf.config.as_aiperf import aiperf_version
from aiperf.config.model import Config
from aiperf.json_text import JsonValue, dump_json, to_json_value
from aiperf.metrics.compute import Result
from aiperf.metrics.server import PREFIX, view_to_json
from aiperf.metrics.stats import (
    STANDARD_PERCENTILES,
    TAIL_PERCENTILES,
    WEIGHTED_PERCENTILES,
    Stats,
    needed_count,
    percentile_name,
)
from aiperf.metrics.summary import Summary
from aiperf.reports import Exporter, ReportedRun
from aiperf.reports.agentic import agentic_json
from aiperf.reports.branches import branch_stats
from aiperf.reports.input_config import input_config_of
from aiperf.reports.speculation import pooled_histogram

__all__ = [
    "EXPORTER",
    "SCHEMA_VERSION",
    "JsonOptions",
    "dump_json",
    "error_summary",
    "figures_of",
    "json_options",
    "render_json",
    "stats_json",
]

SCHEMA_VERSION = "1.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonOptions:
    """`input_config`: the configuration as the user set it, secrets masked. `run_info`: benchmark_id, random_seed, cli_command, ….

    `percentiles`: further ones to write. `metadata`: AIPerf's key of that name (the public dataset, …). `extra`: more top-level keys (telemetry_data, …), written last.
    """

    aiperf_version: str
    benchmark_id: str = ""
    input_config: Mapping[str, object] = field(default_factory=dict)
    run_info: Mapping[str, object] = field(default_factory=dict)
    was_cancelled: bool = False
    incomplete_reason: str | None = None
    percentiles: tuple[float, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)


def stats_json(result: Result, percentiles: Sequence[float] = ()) -> dict[str, JsonValue]:
    """`{unit, avg, p1 … p99, min, max, std, count, sum}`, what does not exist left out; further percentiles among them.

    `percentile_error`: relative bound, only where percentiles come from a histogram.
    """
    stats: Stats = result.stats
    out: dict[str, JsonValue] = {"unit": result.unit}
    if stats.avg is not None:
        out["avg"] = stats.avg
    kept = WEIGHTED_PERCENTILES if result.metric.kind == "weighted" else STANDARD_PERCENTILES
    for p in sorted({*kept, *percentiles, *TAIL_PERCENTILES}):
        value = stats.percentiles.get(p)
        if value is not None and math.isfinite(value):
            out[percentile_name(p)] = value
    extremes = {"min": stats.min, "max": stats.max, "std": stats.std}
    out.update({name: number for name, number in extremes.items() if number is not None})
    if stats.count is not None:
        out["count"] = stats.count
    if stats.sum is not None:
        out["sum"] = stats.sum
    if stats.error:
        out["percentile_error"] = stats.error
    return out


def figures_of(summary: Summary, percentiles: Sequence[float] = ()) -> dict[str, dict[str, float]]:
    """Tag → statistic → value in the display unit, as this file has them; the server's under `server:`."""
    figures = {
        tag: {k: float(v) for k, v in stats_json(result, percentiles).items() if isinstance(v, int | float)}
        for tag, result in summary.metrics.items()
    }
    for found in () if summary.server is None else summary.server.ordered:
        headline = {"avg": found.stats[found.metric.headline]} if found.metric.headline in found.stats else {}
        figures[found.metric.tag] = {**headline, **found.stats}
    return figures


def local_time(epoch_ns: int | None) -> str | None:
    """ISO local time without a zone, as AIPerf writes it."""
    if epoch_ns is None:
        return None
    return datetime.fromtimestamp(epoch_ns / 1e9).isoformat(timespec="microseconds")  # noqa: DTZ006


def render_json(summary: Summary, options: JsonOptions) -> str:
    """The whole file, indented by 2."""
    out: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "aiperf_version": options.aiperf_version,
        "benchmark_id": options.benchmark_id,
    }
    out.update({tag: stats_json(result, options.percentiles) for tag, result in summary.metrics.items()})
    out["input_config"] = options.input_config
    out["run_info"] = options.run_info
    out["was_cancelled"] = options.was_cancelled
    out["is_complete"] = not options.was_cancelled and options.incomplete_reason is None
    if options.incomplete_reason is not None:
        out["incomplete_reason"] = options.incomplete_reason
    out["error_summary"] = error_summary(summary)
    out["start_time"] = local_time(summary.begin_ns)
    out["end_time"] = local_time(summary.end_ns)
    out["metadata"] = dict(options.metadata)
    if summary.warmup:
        out["warmup_metrics"] = {tag: stats_json(result) for tag, result in summary.warmup.items()}
    out.update(analysis_json(summary, options.percentiles))
    out.update(options.extra)
    return dump_json(to_json_value(out)) + "\n"


def error_summary(s: Summary) -> list[dict[str, object]]:
    """AIPerf's key of that name: failed requests by what went wrong, and cancelled ones (code 499), which no rate counts as errors."""
    return [
        {"error_details": {"code": e.code, "type": e.type, "message": e.message}, "count": e.count}
        for e in (*s.errors, *s.cancellations)
    ]


def analysis_json(summary: Summary, percentiles: Sequence[float] = ()) -> dict[str, object]:
    """Our own keys: what AIPerf does not have. A key is left out when there is nothing behind it."""
    whole = (
        {tag: stats_json(result, percentiles) for tag, result in summary.whole.items()}
        if summary.steady_is_headline
        else None
    )
    slices = (
        None
        if not summary.slices
        else {
            "duration_s": summary.slice_s,
            "count": len(summary.slices),
            "excluded": summary.excluded,
            "missed": [x.index for x in summary.slices if x.misses] if summary.tiers else None,
        }
    )
    out: dict[str, object] = {
        "token_provenance": summary.count_source,
        "request_counts": asdict(summary.counts),
        "success_rate": summary.success_text.removeprefix("Success Rate: "),
        "goodput_tiers": [asdict(t) for t in summary.tiers],
        "servers": None if summary.servers is None else asdict(summary.servers),
        "slices": slices,
        "trend": None if summary.trend is None else asdict(summary.trend),
        "steady_state": _steady_json(summary, percentiles),
        "whole_run_metrics": whole,
        "stalls": None if summary.stalls is None else {**asdict(summary.stalls), "share": summary.stalls.share},
        "cancellation": _cancellation_json(summary),
        "confidence_intervals": [asdict(i) for i in summary.intervals],
        "certificate": None
        if summary.certificate is None
        else {
            **asdict(summary.certificate),
            "reasons": summary.certificate.reasons,
            "text": summary.certificate.lines,
        },
        "server_metrics": None if summary.server is None else _server_json(summary),
        "server_findings": [asdict(f) for f in summary.server_findings],
        "conservation": [asdict(c) for c in summary.checks],
        "assertions": [asdict(g) for g in summary.assertions],
        "warnings": [{**asdict(n), "data": dict(n.data)} for n in summary.notices],
        "tail_percentiles": _tail_json(summary),
        "time_weighted_resolution_ms": summary.sweep_resolution_ms or None,
    }
    return {key: value for key, value in out.items() if value is not None and value != []}


def _server_json(s: Summary) -> dict[str, object] | None:
    """By `server:` tag, without the courses over time: those are in `run.json`."""
    if s.server is None:
        return None
    told = view_to_json(s.server)
    figures = {PREFIX + name: entry for name, entry in told["figures"].items()}
    return {**figures, "scrapes": told["scrapes"]} if figures or told["scrapes"] else None


def _steady_json(summary: Summary, percentiles: Sequence[float]) -> dict[str, object] | None:
    if summary.steady is None:
        return None
    steady, origin = summary.steady, summary.steady.begin_ns

    def seconds(moment: float | None) -> float | None:
        return None if moment is None else (moment - origin) / 1e9

    part = summary.steady_part
    return {
        "headline": summary.steady_is_headline,
        "warmup_end_s": seconds(steady.warmup_end_ns),
        "drift_start_s": seconds(steady.drift_start_ns),
        "drain_start_s": seconds(steady.drain_start_ns),
        "end_s": seconds(steady.end_ns),
        "changes": [
            {"kind": c.kind, "metric": c.tag, "shape": c.shape, "at_s": seconds(c.at_ns), "ratio": c.ratio}
            for c in steady.changes
        ],
        "reason": steady.reason,
        "metrics": None if part is None else {t: stats_json(r, percentiles) for t, r in part.metrics.items()},
    }


def _cancellation_json(s: Summary) -> dict[str, object] | None:
    if s.cancellation is None:
        return None
    c = s.cancellation
    delay = None if c.delay_ms is None else {"avg": c.delay_ms.avg, "min": c.delay_ms.min, "max": c.delay_ms.max}
    return {**asdict(c), "delay_ms": delay}


def _tail_json(s: Summary) -> dict[str, object]:
    """p99.9 and p99.99 of the latencies, null where the count does not support them, and the count that would."""
    out: dict[str, object] = {}
    for tag, result in s.metrics.items():
        if (
            result.metric.kind in ("request", "chunks")
            and result.metric.unit.name == "ns"
            and result.metric.table == "main"
        ):
            values = {percentile_name(p): result.stats.percentiles.get(p) for p in TAIL_PERCENTILES}
            out[tag] = values
    return {"needed_count": {percentile_name(p): needed_count(p) for p in TAIL_PERCENTILES}, "metrics": out}


def _metadata(config: Config) -> dict[str, object]:
    """Of a public dataset where it came from, as AIPerf's."""
    data_options = config.input
    if data_options.public_dataset is None:
        return {}
    values = {
        "source_type": "public_dataset",
        "loader": data_options.public_dataset,
        "hf_dataset_name": data_options.public_dataset if "/" in data_options.public_dataset else None,
        "hf_split": data_options.hf_split,
        "hf_subset": data_options.hf_subset,
        "num_dataset_entries": data_options.num_dataset_entries,
    }
    return {"dataset": {k: v for k, v in values.items() if v is not None}}


def json_options(run: ReportedRun) -> JsonOptions:
    """What the file says of a run besides its figures."""
    from aiperf.version import __version__

    return JsonOptions(
        aiperf_version=aiperf_version(run.config),
        benchmark_id=run.benchmark_id,
        input_config=input_config_of(run.config, run.json),
        run_info=run.run_info,
        was_cancelled=run.was_interrupted or (run.json.outcome is not None and run.json.outcome.was_aborted),
        incomplete_reason=run.incomplete_reason,
        percentiles=run.options.percentiles,
        metadata=_metadata(run.config),
        extra={"written_by": {"tool": "aiperf", "version": __version__}},
    )


def _of_run(run: ReportedRun) -> str:
    options = json_options(run)
    if run.telemetry_data is not None:
        options = replace(options, extra={**options.extra, "telemetry_data": run.telemetry_data})
    if (branches := branch_stats(run)) is not None:
        options = replace(options, extra={**options.extra, "branch_stats": branches})
    if (pooled := pooled_histogram(run)) is not None:
        options = replace(options, extra={**options.extra, "pooled_spec_decode_acceptance_histogram": pooled})
    summary = run.summary()
    agentic = agentic_json(run, summary)
    return render_json(summary, replace(options, extra={**options.extra, **agentic}) if agentic else options)


EXPORTER = Exporter(what="summary", path=lambda run: run.files.summary, render=_of_run, order=10)

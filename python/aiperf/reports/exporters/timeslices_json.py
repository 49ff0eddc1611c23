"""`profile_export_aiperf_timeslices.json`: one item per slice, with `timeslice_index` (0.3) and `start_ns`, `end_ns` (0.13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from aiperf.json_text import dump_json, to_json_value
from aiperf.metrics import METRICS
from aiperf.metrics.compute import Result
from aiperf.metrics.slices import Slice
from aiperf.metrics.summary import Summary
from aiperf.reports import Exporter, ReportedRun
from aiperf.reports.exporters.summary_json import stats_json
from aiperf.reports.input_config import input_config_of

__all__ = ["EXPORTER", "render_timeslices_json", "slice_json"]


def slice_json(part: Slice, origin_ns: int) -> dict[str, object]:
    """A slice: its place, its metrics by tag, and our own keys. `is_complete` only where it is false, as AIPerf."""
    out: dict[str, object] = {
        "timeslice_index": part.index,
        "start_ns": origin_ns + int(part.begin_ns),
        "end_ns": origin_ns + int(part.end_ns),
    }
    if not part.is_complete:
        out["is_complete"] = False
    out.update({tag: stats_json(result) for tag, result in sorted(part.metrics.items())})
    out["requests_started"] = part.sent
    out["started_in_slice"] = {tag: stats_json(Result(METRICS[tag], stats)) for tag, stats in part.started.items()}
    if part.tiers:
        out["goodput_tiers"] = [asdict(t) for t in part.tiers]
        out["meets_goals"] = not part.misses
    return out


def render_timeslices_json(summary: Summary, input_config: Mapping[str, object]) -> str:
    """The whole file, indented by 2; `trend` and `excluded` are ours."""
    out = {
        "timeslices": [slice_json(s, summary.origin_ns) for s in summary.slices],
        "input_config": input_config,
        "trend": None if summary.trend is None else asdict(summary.trend),
        "excluded": summary.excluded,
    }
    return dump_json(to_json_value(out)) + "\n"


def _of_run(run: ReportedRun) -> str | None:
    return (
        render_timeslices_json(run.summary(), input_config_of(run.config, run.json)) if run.summary().slices else None
    )


EXPORTER = Exporter(
    what="slices",
    path=lambda run: run.files.slices_json,
    render=_of_run,
    is_wanted=lambda config: config.output.slice_duration is not None,
    order=41,
)

"""`phases/NAME/profile_export_aiperf.{json,csv}` and `phase_manifest.json`: each phase of a run with several, as AIPerf 0.13 writes them.

The warm-up's figures are `warmup_metrics` of the summary, too; the summary itself is of all measured phases together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiperf.json_text import dump_json, to_json_value
from aiperf.metrics.summary import Phase, Summary
from aiperf.outcome import PhaseOutcome
from aiperf.reports import Exporter, ReportedRun
from aiperf.reports.exporters.summary_csv import render_csv
from aiperf.reports.exporters.summary_json import error_summary, json_options, render_json

__all__ = ["EXPORTER"]

_MANIFEST = "phase_manifest.json"


def _render(run: ReportedRun) -> Mapping[str, bytes] | None:
    if len(run.phases) < 2 or run.json.outcome is None:
        return None
    files: dict[str, bytes] = {}
    entries = []
    profiling = 0
    paths = {"json": run.files.summary, "csv": run.files.csv}
    for index, phase in enumerate(run.phases):
        summary = _of_phase(run, index)
        names = {kind: f"phases/{_folder(phase)}/{path.name}" for kind, path in paths.items()}
        files[names["json"]] = render_json(summary, json_options(run)).encode("utf-8", "replace")
        files[names["csv"]] = render_csv(summary, run.options.percentiles).encode()
        found = next((p for p in run.json.outcome.phases if (p.name, p.kind) == (phase.name, phase.kind)), None)
        entry = _entry(run, phase, summary, found)
        is_measured = phase.kind == "profiling"
        place = {"phase_index": index, "profiling_index": profiling if is_measured else None}
        entries.append(dict(sorted({**entry, **place, **{f"metrics_{k}": v for k, v in names.items()}}.items())))
        profiling += is_measured
    files[_MANIFEST] = (dump_json(to_json_value({"phases": entries, "schema_version": 1})) + "\n").encode()
    return files


def _folder(phase: Phase) -> str:
    return phase.name.replace("/", "_").lstrip(".") or "phase"


def _of_phase(run: ReportedRun, index: int) -> Summary:
    """As if that phase were the only measured one."""
    others = tuple(Phase(p.name, "profiling" if i == index else "warmup") for i, p in enumerate(run.phases))
    options = replace(
        run.options, phases=others, facts=None, server=None, gauges=(), view=None, conditions=(), confidence=False
    )
    return replace(run.summary(options), warmup={})


def _entry(run: ReportedRun, phase: Phase, summary: Summary, outcome: PhaseOutcome | None) -> dict[str, object]:
    start_wall_ns = 0 if run.json.outcome is None else run.json.outcome.start_wall_ns
    counts = summary.counts
    return {
        "phase_name": phase.name,
        "phase_kind": phase.kind,
        "start_ns": None if outcome is None else start_wall_ns + outcome.start_ns,
        "end_ns": None if outcome is None else start_wall_ns + outcome.end_ns,
        "total_request_count": counts.ok + counts.failed,
        "successful_request_count": counts.ok,
        "error_request_count": counts.failed,
        "error_summary": error_summary(summary),
        "was_cancelled": run.was_interrupted and (outcome is None or not outcome.is_complete),
    }


EXPORTER = Exporter(what="phases", path=lambda run: run.dir, render=_render, order=25, is_listed=False)

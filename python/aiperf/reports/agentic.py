"""What a result says of an agentic replay: AIPerf's keys for the scenario, and the analysis by turn, context, agent and session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from aiperf.config.context_overflow import overflow_limit
from aiperf.config.model import Config
from aiperf.config.scenario import MIN_DURATION_S, conflicts, deviations, repository_of
from aiperf.errors import ErrorKind
from aiperf.metrics import Floats
from aiperf.metrics.agentic import block_sums, planned_hits
from aiperf.metrics.context import MetricContext
from aiperf.metrics.summary import Summary, phase_mask
from aiperf.outcome import Outcome, PhaseOutcome
from aiperf.registry import normalise
from aiperf.reports import ReportedRun

__all__ = ["COVERAGE", "agentic_json", "coverage_problem", "invalid_reasons"]

COVERAGE = 0.95
"""Part of a run's duration that first tokens or token gaps must reach, else the run stalled."""
_BINS = (0, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000)


def _profiling(run: ReportedRun) -> MetricContext:
    columns = run.columns
    mask = phase_mask(columns, run.phases, "profiling")
    return MetricContext(columns.select(mask) if not mask.all() else columns, run.options.metrics)


def _measured(outcome: Outcome | None) -> PhaseOutcome | None:
    return next((p for p in outcome.phases if p.is_measured), None) if outcome is not None else None


def _needs_coverage(run: ReportedRun) -> bool:
    """A scenario of at least 900 s that was not cancelled."""
    duration = run.config.load.benchmark_duration
    if run.config.agentic.scenario is None or duration is None or duration < MIN_DURATION_S:
        return False
    return not (run.was_interrupted or (run.json.outcome is not None and run.json.outcome.was_aborted))


def coverage(run: ReportedRun) -> dict[str, object] | None:
    """How far into the phase first tokens and token gaps were seen; None where that need not or cannot be known."""
    duration = run.config.load.benchmark_duration
    phase = _measured(run.json.outcome)
    if not _needs_coverage(run) or duration is None or phase is None:
        return None
    context = _profiling(run)

    def ratio(at: Floats, mask: NDArray[np.bool_]) -> float:
        kept = at[mask & np.isfinite(at)]
        return float(np.clip((kept.max() - phase.start_ns) / (duration * 1e9), 0, 1)) if len(kept) else 0.0

    many = context.column("num_content_chunks") > 1
    return {
        "phase_name": phase.name,
        "expected_duration_seconds": duration,
        "required_ratio": COVERAGE,
        "ttft_ratio": ratio(context.column("first_content"), context.ok),
        "inter_token_latency_ratio": ratio(context.column("end"), context.ok & many),
    }


def coverage_problem(run: ReportedRun) -> str | None:
    """In words, if the run stalled before its end: then its exit code is 1."""
    found = coverage(run)
    if found is None:
        return _cannot_be_checked(run)
    reached = max(cast(float, found["ttft_ratio"]), cast(float, found["inter_token_latency_ratio"]))
    if reached >= COVERAGE:
        return None
    return f"no tokens were received after {100 * reached:.1f}% of the benchmark duration (required: {100 * COVERAGE:.0f}%)"


def _cannot_be_checked(run: ReportedRun) -> str | None:
    """In words, if tokens ought to have been seen until the end and nobody knows when the phase began: the run was killed before it
    said so.
    """
    if not _needs_coverage(run) or run.json.outcome is not None:
        return None
    return "it is not known until when tokens were received: the run was killed, and its records do not say when its phases began"


def overflows(run: ReportedRun) -> int:
    mask = phase_mask(run.columns, run.phases, "profiling")
    return int(np.count_nonzero(run.columns.scalar("error_kind")[mask] == ErrorKind.CONTEXT_OVERFLOW))


def invalid_reasons(run: ReportedRun, summary: Summary) -> list[str]:
    """Why the result is no valid submission of its scenario."""
    out = []
    if run.config.agentic.unsafe_override and conflicts(run.config):
        out.append("unsafe_override")
    skipped = overflows(run)
    attempted = summary.counts.ok + summary.counts.failed + skipped
    if skipped and skipped / attempted > overflow_limit():
        out.append("context_overflow_rate_exceeded")
    outcome = run.json.outcome
    # A failed warm-up ends a run before anything was measured.
    aborted = outcome is not None and (outcome.was_aborted or _measured(outcome) is None)
    if run.was_interrupted or aborted:
        out.append("run_cancelled")
    if _cannot_be_checked(run) is not None:
        out.append("profile_metric_coverage_validation_failed")
    elif coverage_problem(run) is not None:
        out.append("insufficient_profile_metric_coverage")
    return out


def _dataset(config: Config) -> dict[str, object] | None:
    repository = repository_of(config)
    if repository is None or config.input.input_file is not None:
        return None
    name = config.input.public_dataset
    out: dict[str, object] = {
        "source_type": "public_dataset",
        "loader": "weka_hf" if name is None else normalise(name),
        "hf_dataset_name": repository,
        "hf_split": config.input.hf_split,
    }
    if config.input.hf_subset is not None:
        out["hf_subset"] = config.input.hf_subset
    if config.input.num_dataset_entries is not None:
        out["num_dataset_entries"] = config.input.num_dataset_entries
    return out


def agentic_json(run: ReportedRun, summary: Summary) -> dict[str, object]:
    """Top-level keys of `profile_export_aiperf.json`; empty for other runs."""
    facts = run.options.metrics.agents
    metadata: dict[str, object] = {}
    if (dataset := _dataset(run.config)) is not None:
        metadata["dataset"] = dataset
    out: dict[str, object] = {}
    if run.config.agentic.scenario is not None:
        reasons = invalid_reasons(run, summary)
        metadata["scenario"] = run.config.agentic.scenario
        metadata["submission_valid"] = not reasons
        if reasons:
            metadata["submission_invalid_reasons"] = reasons
        if (found := coverage(run)) is not None:
            metadata["metric_duration_coverage"] = [found]
        out["runtime_submission_invalid_reasons"] = [r for r in reasons if "coverage" in r]
    if facts is None:
        return {"metadata": metadata, **out} if metadata else out
    if digest := run.json.workload.get("data"):
        metadata["dataset_hash"] = digest
    context = _profiling(run)
    if (sums := block_sums(context)) is not None:
        hits, blocks = sums
        out["theoretical_prefix_cache_hit"] = {"unit": "%", "avg": 100 * hits / blocks, "sum": hits, "count": blocks}
    if skipped := overflows(run):
        for tag in ("context_overflow_count", "skipped_context_overflow_count"):
            out[tag] = {"unit": "requests", "avg": skipped}
    if (phase := _measured(run.json.outcome)) is not None:
        out["branch_stats"] = _branches(phase)
    out["agentic"] = _analysis(run, context)
    return {"metadata": metadata, **out} if metadata else out


def _branches(phase: PhaseOutcome) -> dict[str, object]:
    lanes = cast("Mapping[str, int]", (phase.model_extra or {}).get("lanes") or {})
    return {
        "children_spawned": lanes.get("children_spawned", 0),
        "children_completed": lanes.get("children_completed", 0),
        "parents_suspended": lanes.get("turns_held", 0),
        "graphs_admitted": lanes.get("plays_started", 0),
        "graphs_completed_to_end": lanes.get("plays_completed", 0),
    }


def _share(part: Floats, whole: Floats) -> float | None:
    known = np.isfinite(part) & np.isfinite(whole)
    total = float(whole[known].sum())
    return 100 * float(part[known].sum()) / total if total else None


def _group(context: MetricContext, mask: NDArray[np.bool_]) -> dict[str, object]:
    """Requests, hit rates and latencies of some of the successful requests."""

    def median(values: Floats) -> float | None:
        kept = values[mask & np.isfinite(values)]
        return float(np.median(kept)) / 1e6 if len(kept) else None

    planned, prompt, cached = planned_hits(context), context.column("isl"), context.column("usage_cached")
    counted = context.column("usage_prompt")
    return {
        "requests": int(np.count_nonzero(mask)),
        "theoretical_hit_percent": _share(planned[mask], prompt[mask]),
        "measured_hit_percent": _share(cached[mask], counted[mask]),
        "ttft_ms_p50": median(context.value("time_to_first_token")),
        "request_latency_ms_p50": median(context.value("request_latency")),
    }


def _analysis(run: ReportedRun, context: MetricContext) -> dict[str, object]:
    facts = context.options.agents
    if facts is None or not context.num_rows:
        return {}
    session = context.column("session").astype(np.int64)
    turn, prompt = context.column("turn"), context.column("isl")
    kind = facts.kind[session]
    per_turn = [{"turn": int(t), **_group(context, context.ok & (turn == t))} for t in np.unique(turn[context.ok])[:64]]
    bins = []
    for low, high in zip(_BINS, (*_BINS[1:], np.inf), strict=True):
        mask = context.ok & (prompt >= low) & (prompt < high)
        if mask.any():
            bins.append(
                {"from_tokens": low, "to_tokens": None if np.isinf(high) else int(high), **_group(context, mask)}
            )
    agents = {
        name: _group(context, context.ok & (kind == number))
        for number, name in enumerate(("main", "flat", "subagent"))
        if (context.ok & (kind == number)).any()
    }
    deviating = deviations(run.config)
    return {
        "per_turn": per_turn,
        "per_context": bins,
        "per_agent": agents,
        "per_session": _sessions(context, session),
        **({"scenario_deviations": list(deviating)} if deviating else {}),
    }


def _sessions(context: MetricContext, session: NDArray[np.int64]) -> list[dict[str, object]]:
    """By play: the time it took, and how much of it at least one of its requests was at the server (waiting for the first token, then
    receiving); the rest is think time.
    """
    facts = context.options.agents
    if facts is None:
        return []
    play = context.column("session_num")
    sent, end, first = context.column("sent"), context.column("end"), context.column("first_content")
    out: list[dict[str, object]] = []
    for number in np.unique(play)[:200]:
        rows = np.flatnonzero((play == number) & np.isfinite(sent) & np.isfinite(end))
        if not len(rows):
            continue
        span = float(end[rows].max() - sent[rows].min())
        at_server = _union(sent[rows], end[rows])
        waiting = _union(sent[rows], np.where(np.isfinite(first[rows]), first[rows], end[rows]))
        out.append(
            {
                "session": facts.trace_ids[int(facts.trace[session[rows[0]]])],
                "play": int(number),
                "requests": len(rows),
                "duration_s": span / 1e9,
                "think_share": 1 - at_server / span if span else 0.0,
                "prefill_share": waiting / span if span else 0.0,
                "decode_share": (at_server - waiting) / span if span else 0.0,
            }
        )
    return out


def _union(starts: Floats, ends: Floats) -> float:
    """Length of the union of intervals."""
    order = np.argsort(starts)
    starts, ends = starts[order], ends[order]
    reach = np.maximum.accumulate(ends)
    before = np.concatenate([[-np.inf], reach[:-1]])
    return float(np.maximum(ends - np.maximum(starts, before), 0).sum())

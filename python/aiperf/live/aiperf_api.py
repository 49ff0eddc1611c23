"""AIPerf 0.13's live interface (`--api-port`): the same paths and keys, of what is known here. Keys that have no meaning here are left out."""

from __future__ import annotations

from typing import Final

from aiperf.config.as_aiperf import aiperf_version
from aiperf.live.board import Board
from aiperf.live.view import View
from aiperf.outcome import GeneratorState, Snapshot

__all__ = ["metrics", "progress", "results", "run_info", "server_metrics", "workers"]

_STATES: Final = {
    "preparing": "configuring",
    "running": "profiling",
    "evaluating": "processing",
    "complete": "stopping",
    "failed": "stopping",
}
_HIGH_LOAD: Final = 0.85
"""CPU use from which AIPerf calls a worker's status `high_load`."""


def progress(board: Board) -> dict[str, object]:
    """`/api/progress`: phases by name, with AIPerf's keys."""
    phases: dict[str, object] = {}
    for kind, view in board.views.items():
        phases[view.pace.phase or kind] = _phase(board, kind, view)
    return {
        "phases": phases,
        "workers": {"ready": _workers(board), "total": _workers(board), "dispatchable": _workers(board)},
        "results_exported": board.status == "complete",
        "system_state": _STATES[board.status],
    }


def _workers(board: Board) -> int:
    return 0 if board.facts is None else board.facts.workers


def workers(board: Board) -> dict[str, object]:
    """`/api/workers`: a group for each load generator, with its worker threads where they are of this process."""
    view = board.view
    snapshot = Snapshot() if view is None else view.snapshot
    updated_ns = (board.started_at_ns or 0) + snapshot.now_ns if view is not None else None
    if snapshot.generators:
        groups = [_generator_group(g, _workers(board), updated_ns) for g in snapshot.generators]
    else:
        cpu = [ns / snapshot.now_ns for ns in snapshot.worker_cpu_ns] if snapshot.now_ns else []
        is_idle = board.status != "running"
        shares = [*cpu, *[0.0] * (_workers(board) - len(cpu))]
        single = {
            f"worker_{number}": {
                "worker_id": f"worker_{number}",
                "status": _worker_status(share, is_idle=is_idle),
                "startup_state": "ready",
                **({"health": {"cpu_usage": 100 * share}} if number < len(cpu) else {}),
            }
            for number, share in enumerate(shares)
        }
        done = snapshot.ok + snapshot.failed + snapshot.cancelled
        groups = [
            {
                "group_id": "worker_group_0",
                "status": _worker_status(max(shares, default=0.0), is_idle=is_idle),
                "declared_workers": _workers(board),
                "ready_workers": _workers(board),
                "task_stats": {"total": snapshot.sent, "failed": snapshot.failed, "completed": done - snapshot.failed},
                "workers": single,
                "last_update_ns": updated_ns,
            }
        ]
    return {"worker_groups": {str(g["group_id"]): {k: v for k, v in g.items() if v is not None} for g in groups}}


def _generator_group(generator: GeneratorState, count: int, updated_ns: int | None) -> dict[str, object]:
    is_lost = generator.state == "lost"
    return {
        "group_id": generator.name,
        "status": "stale" if is_lost else _worker_status(generator.cpu, is_idle=generator.state == "complete"),
        "declared_workers": count,
        "ready_workers": 0 if is_lost else count,
        "task_stats": {
            "total": generator.sent,
            "failed": generator.failed,
            "completed": generator.done - generator.failed,
        },
        "workers": {},
        "last_update_ns": updated_ns,
    }


def _worker_status(cpu: float, *, is_idle: bool) -> str:
    return "idle" if is_idle else "high_load" if cpu >= _HIGH_LOAD else "healthy"


def _phase(board: Board, kind: str, view: View) -> dict[str, object]:
    snapshot, pace = view.snapshot, view.pace
    counts = board.view.snapshot.warmup if kind == "warmup" and board.view is not None else view.counts
    start = (board.started_at_ns or 0) + snapshot.phase_start_ns
    is_over = board.ended_at_ns is not None or view is not board.view
    end = (board.started_at_ns or 0) + snapshot.now_ns if is_over else None
    completed = counts.ok + counts.failed
    # A phase that is over was last looked at a little before its end; its counts are complete.
    sent = snapshot.phase_sent if view is board.view else completed + counts.cancelled
    out: dict[str, object] = {
        "phase": kind,
        "phase_index": snapshot.phase_index,
        "phase_name": pace.phase or kind,
        "phase_kind": kind,
        "start_ns": start,
        "requests_end_ns": end,
        "total_expected_requests": pace.planned,
        "expected_duration_sec": None if snapshot.phase_duration_ns is None else snapshot.phase_duration_ns / 1e9,
        "requests_sent": sent,
        "requests_completed": completed,
        "requests_cancelled": counts.cancelled,
        "request_errors": counts.failed,
        "success_records": counts.ok,
        "error_records": counts.failed,
        "requests_per_second": view.so_far.requests_per_s,
        "records_per_second": view.so_far.requests_per_s,
        "requests_eta_sec": pace.left_s,
        "records_eta_sec": pace.left_s,
        "requests_progress_percent": None if pace.share is None else 100 * pace.share,
        "in_flight_requests": snapshot.in_flight,
        "last_update_ns": (board.started_at_ns or 0) + snapshot.now_ns,
        "was_cancelled": pace.is_stopping,
    }
    if is_over:
        out |= {
            "final_requests_sent": sent,
            "final_requests_completed": completed,
            "final_requests_cancelled": counts.cancelled,
            "final_request_errors": counts.failed,
        }
    return {key: value for key, value in out.items() if value is not None}


def metrics(board: Board) -> dict[str, object]:
    """`/api/metrics`: by tag, with AIPerf's statistics as far as the histograms know them; ms for latencies."""
    view = board.views.get("profiling")
    entries: dict[str, object] = {}
    if view is not None:
        for tag, spread in view.spreads.items():
            p = spread.percentiles_ms(0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.0, 1.0)
            if p is not None:
                names = ("p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "min", "max")
                values = dict(zip(names, p, strict=True))
                entries[tag] = {"unit": "ms", "avg": spread.mean_ms, "count": spread.count, **values}
        far = view.so_far
        simple = {
            "request_throughput": ("requests/sec", far.requests_per_s),
            "output_token_throughput": ("tokens/sec", far.flow if far.flow_unit == "tokens" else None),
            "request_count": ("requests", float(far.ok)),
            "error_request_count": ("requests", float(far.failed) if far.failed else None),
            "benchmark_duration": ("sec", far.seconds),
        }
        entries |= {tag: {"unit": unit, "avg": value} for tag, (unit, value) in simple.items() if value is not None}
    facts = board.facts
    load = board.config.load
    return {
        "aiperf_version": aiperf_version(board.config),
        "benchmark_id": None if facts is None else facts.benchmark_id,
        "model": None if facts is None else ",".join(sorted(facts.models)),
        "endpoint_type": board.config.endpoint.endpoint_type,
        "streaming": board.config.endpoint.streaming,
        "concurrency": load.concurrency,
        "request_rate": load.request_rate,
        "metrics": entries,
    }


def run_info(board: Board) -> dict[str, object]:
    """`/api/run`."""
    facts = board.facts
    out = {
        "benchmark_id": None if facts is None else facts.benchmark_id,
        "random_seed": board.config.input.random_seed,
        "cli_command": " ".join(board.config.command) or None,
        "artifact_dir": None if facts is None else str(facts.directory),
    }
    return {key: value for key, value in out.items() if value is not None}


def server_metrics(board: Board) -> dict[str, object]:
    """`/api/server-metrics`: the gauges that are shown live."""
    levels = () if board.view is None else board.view.levels
    return {
        "levels": [
            {"source": x.source, "name": x.name, "value": x.value, "unit": x.unit, "place": x.place} for x in levels
        ]
    }


def results(board: Board) -> dict[str, object]:
    """`/api/results`: the summary file's content when the run is complete, or was ended early."""
    import json

    from aiperf.reports.paths import Files

    if board.status != "complete" or board.directory is None:
        return {"status": "running", "results": None}
    summary = Files(board.directory, board.config.output.profile_export_prefix).summary
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    was_cancelled = isinstance(content, dict) and content.get("was_cancelled") is True
    return {"status": "cancelled" if was_cancelled else "complete", "results": content}

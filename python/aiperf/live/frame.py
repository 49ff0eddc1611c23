"""The live view as plain values for JSON: what the live page draws, and `/api/live`."""

from __future__ import annotations

from collections.abc import Iterable

from aiperf.live.board import Board
from aiperf.live.view import Figures, Moment, View
from aiperf.live.words import runs_done

__all__ = ["frame_of", "moments_of", "view_frame"]

_BARS = 60


def moments_of(moments: Iterable[Moment]) -> list[list[object]]:
    """[at_s, requests/s, tokens or chunks/s, in flight, errors, TTFT p50, p99, ITL p50, p99, latency p50, p99]; null where there is nothing."""
    return [
        [
            round(moment.at_s, 2),
            round(moment.requests_per_s, 3),
            round(moment.flow, 1),
            moment.in_flight,
            moment.errors,
            *(moment.ttft or (None, None)),
            *(moment.itl or (None, None)),
            *(moment.latency or (None, None)),
        ]
        for moment in moments
    ]


def frame_of(board: Board) -> dict[str, object]:
    """Latencies in ms, rates per second, shares 0 to 1; null where there is nothing."""
    facts, view, study = board.facts, board.view, board.study_state
    out: dict[str, object] = {
        "status": board.status,
        "stage": board.stage_text,
        "log": list(board.log)[-50:],
        "run": None
        if facts is None
        else {
            "directory": str(facts.directory),
            "benchmark_id": facts.benchmark_id,
            "models": facts.models,
            "urls": facts.urls,
            "endpoint": facts.endpoint,
            "load": facts.load,
        },
        "study": None
        if study is None
        else {
            "title": f"{study.what}: {runs_done(study)}",
            "what": study.what,
            "done": study.done,
            "total": study.total,
            "columns": study.columns,
            "rows": study.rows,
            "front": study.front,
            "best": study.best,
        },
    }
    return out if view is None else out | view_frame(view)


def _figures(figures: Figures) -> dict[str, object]:
    return {
        "seconds": figures.seconds,
        "ok": figures.ok,
        "failed": figures.failed,
        "requests_per_s": figures.requests_per_s,
        "flow": figures.flow,
        "flow_unit": figures.flow_unit,
        "error_share": figures.error_share,
        "ttft": figures.ttft,
        "itl": figures.itl,
        "latency": figures.latency,
    }


def view_frame(view: View) -> dict[str, object]:
    pace, fit = view.pace, view.fitness
    bars = {}
    for name, spread in view.spreads.items():
        edges, counts = spread.bars(_BARS)
        bars[name] = {"edges": [round(float(e), 4) for e in edges], "counts": counts.tolist()}
    return {
        "phase": {
            "name": pace.phase,
            "is_measured": view.is_measured,
            "elapsed_s": pace.elapsed_s,
            "left_s": pace.left_s,
            "share": pace.share,
            "done": pace.done,
            "planned": pace.planned,
            "is_stopping": pace.is_stopping,
        },
        "in_flight": view.snapshot.in_flight,
        "cancelled": view.cancelled,
        "now": _figures(view.now),
        "so_far": _figures(view.so_far),
        "histograms": bars,
        "errors": [{"name": e.name, "count": e.count, "message": e.message, "ago_s": e.ago_s} for e in view.errors],
        "slos": [{"name": t.name, "good": t.good, "share": t.share, "per_s": t.per_s} for t in view.tiers],
        "asserts": [{"text": a.text, "actual": a.actual, "holds": a.holds, "margin": a.margin} for a in view.asserts],
        "client": {
            "verdict": fit.verdict,
            "reasons": fit.reasons,
            "send_lag": fit.send_lag,
            "receive_lag": fit.receive_lag,
            "cpu": fit.cpu,
            "wait": fit.wait,
        },
        "levels": [
            {"source": x.source, "name": x.name, "value": x.value, "unit": x.unit, "place": x.place}
            for x in view.levels
        ],
        "generators": [
            {
                "name": generator.name,
                "state": generator.state,
                "in_flight": generator.in_flight,
                "done": generator.done,
                "failed": generator.failed,
                "output_tokens": generator.output_tokens,
                "rate": generator.rate,
                "send_lag_p99_ms": generator.send_lag_p99_ms,
                "cpu": generator.cpu,
            }
            for generator in view.generators
        ],
    }

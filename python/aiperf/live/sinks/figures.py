"""The live view as flat numbers, for services that draw numbers over time."""

from __future__ import annotations

from aiperf.live.board import Board

__all__ = ["live_figures", "parameters"]


def live_figures(board: Board) -> dict[str, float]:
    """Of the last ten seconds, under `live/`; what is not there is left out."""
    view = board.view
    if view is None:
        return {}
    now = view.now
    figures: dict[str, float | None] = {
        "requests_per_s": now.requests_per_s,
        f"output_{now.flow_unit}_per_s": now.flow,
        "in_flight": float(view.snapshot.in_flight),
        "error_share": now.error_share,
        "successful": float(view.so_far.ok),
        "failed": float(view.so_far.failed),
    }
    for name, values in (("ttft", now.ttft), ("itl", now.itl), ("latency", now.latency)):
        for stat, value in zip(("p50", "p90", "p99"), values or (), strict=False):
            figures[f"{name}_{stat}_ms"] = value
    for tier in view.tiers:
        figures[f"good_share_{tier.name}"] = tier.share
    for level in view.levels:
        figures[f"{level.source}_{level.place}_{level.name}".replace("__", "_")] = level.value
    return {f"live/{name}": value for name, value in figures.items() if value is not None}


def parameters(board: Board) -> dict[str, str]:
    """The options that were set, by their flag; secrets masked."""
    from aiperf.config.as_data import shown
    from aiperf.config.model import specs

    config = board.config
    out = {
        next((n for n in spec.flag.names if n.startswith("--")), path).lstrip("-"): shown(config, path)
        for path, spec in specs().items()
        if config.is_set(path)
    }
    if board.facts is not None:
        out |= {
            "models": ", ".join(board.facts.models),
            "load": board.facts.load,
            "benchmark_id": board.facts.benchmark_id,
        }
    return out

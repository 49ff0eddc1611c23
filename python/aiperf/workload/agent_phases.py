"""The phases of an agentic replay: the warm-up that fills the server's cache as the recordings had it, and profiling."""

from __future__ import annotations

from typing import Literal

import numpy as np

from aiperf.config.engine_settings import LanesLoad, LaneStartSettings, PhaseSettings, StreamStartSettings
from aiperf.config.model import Config
from aiperf.errors import ConfigError, Problem
from aiperf.traces.agents import AgentTable
from aiperf.traces.lanes import LaneStart, StartOptions, draw_order, first_plays, starts_of

__all__ = ["WARMUP", "agent_phases", "has_start_points", "wraps"]

WARMUP = "agentic.warmup"
_DEFAULT_RATIOS = (0.25, 0.75)


_SHAPES = (
    "load.request_rate",
    "load.request_rate_series",
    "load.arrival_pattern",
    "load.arrival_smoothness",
    "load.user_centric_rate",
    "load.num_users",
    "load.concurrency_ramp_duration",
    "load.request_rate_ramp_duration",
)
_WARMUPS = (
    "warmup.request_count",
    "warmup.duration",
    "warmup.num_sessions",
    "warmup.concurrency",
    "warmup.request_rate",
)


def _refuse_other_loads(config: Config) -> None:
    """ConfigError for options that a replay by lanes would leave out: another load than was asked for."""
    problems = [
        Problem(text, str(config.origins[path]), hint)
        for paths, text, hint in (
            (
                _SHAPES,
                "recorded agent sessions are sent by lanes, at the recorded times",
                "`--concurrency` says how many lanes",
            ),
            (_WARMUPS, "recorded agent sessions are warmed up by lanes", "`--warmup-requests-per-lane N`"),
        )
        for path in paths
        if config.is_set(path) and config.value(path) is not None
    ]
    if problems:
        raise ConfigError(tuple(problems))


def has_start_points(config: Config) -> bool:
    """Do lanes begin within their recordings? Else at the first request, without a warm-up."""
    agentic = config.agentic
    return (
        agentic.scenario is not None
        or agentic.trajectory_start_min_ratio is not None
        or agentic.trajectory_start_max_ratio is not None
        or agentic.warmup_requests_per_lane is not None
        or agentic.cache_warmup_duration is not None
    )


def wraps(config: Config) -> bool:
    """May a session be played again when all have been played?"""
    return bool(config.input.loop) or config.prompt.cache_bust != "none" or config.agentic.scenario is not None


def agent_phases(
    config: Config,
    table: AgentTable,
    measured: PhaseSettings,
    *,
    sampling: Literal["sequential", "random", "shuffle"],
    seed: int,
    benchmark_id: str,
) -> list[PhaseSettings]:
    """`measured`: what the phase is apart from its lanes. DatasetError if there are more lanes than sessions for them."""
    _refuse_other_loads(config)
    agentic = config.agentic
    is_schedule = bool(config.input.fixed_schedule)
    lanes = table.num_traces if is_schedule else config.load.concurrency or 1
    order = draw_order(table.num_traces, sampling, seed)
    # A bound of its own ends the run; without one each session is played once.
    may_wrap = wraps(config) and not is_schedule
    lanes = lanes if may_wrap or config.input.loop else _lanes_for(config, lanes, table.num_traces)
    plays = first_plays(order, table.num_traces, lanes, wraps=may_wrap)
    begins_within = has_start_points(config) and not is_schedule
    low = agentic.trajectory_start_min_ratio if agentic.trajectory_start_min_ratio is not None else _DEFAULT_RATIOS[0]
    high = agentic.trajectory_start_max_ratio if agentic.trajectory_start_max_ratio is not None else _DEFAULT_RATIOS[1]
    idle_cap = _ns(agentic.system_idle_gap_cap_seconds)
    options = StartOptions(
        min_ratio=low if begins_within else 0.0,
        max_ratio=max(low, high) if begins_within else 0.0,
        seed=seed,
        idle_cap_ns=idle_cap,
        has_times=not config.input.ignore_trace_delays,
    )
    starts = starts_of(table, plays, options)
    bounded = measured.requests is not None or measured.sessions is not None or measured.duration_ns is not None
    roots = table.roots()
    common = LanesLoad(
        order=tuple(int(roots[t]) for t in order),
        wrap=may_wrap and bounded,
        draws_from=len(plays),
        starts=tuple(_start(s, is_schedule=is_schedule) for s in starts),
        burst=agentic.burst_phase_starts,
        keep_offsets=is_schedule,
        idle_cap_ns=idle_cap,
        benchmark=benchmark_id,
    )
    profiling = measured.model_copy(
        update={
            "load": common.model_copy(update={"tree_idle_cap_ns": _ns(agentic.trace_idle_gap_cap_seconds)}),
            "concurrency": lanes,
            "concurrency_ramp": None,
            "sampling": "sequential",
        }
    )
    return [_warmup(config, common, measured, lanes), profiling] if begins_within else [profiling]


def _warmup(config: Config, common: LanesLoad, measured: PhaseSettings, lanes: int) -> PhaseSettings:
    agentic = config.agentic
    grace = agentic.warmup_grace_period
    if grace is None and agentic.scenario is not None:
        grace = config.warmup.grace_period
    changes = {
        "stage": "warmup",
        "output_cap": 1,
        "pressure_requests": agentic.warmup_requests_per_lane,
        "pressure_ns": _ns(agentic.cache_warmup_duration),
    }
    return PhaseSettings(
        name=WARMUP,
        kind="warmup",
        load=common.model_copy(update=changes),
        concurrency=lanes,
        prefill_concurrency=measured.prefill_concurrency,
        grace_ns=_ns(grace),
    )


def _lanes_for(config: Config, lanes: int, traces: int) -> int:
    """More lanes than sessions are an error only if the number was asked for."""
    return lanes if config.is_set("load.concurrency") else min(lanes, traces)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)


def _start(start: LaneStart, *, is_schedule: bool) -> LaneStartSettings:
    return LaneStartSettings(
        lane=start.lane,
        root=start.root,
        draw=start.draw,
        origin_ns=0 if is_schedule else start.origin_ns,
        streams=tuple(
            StreamStartSettings(session=s.session, row=s.row, primer=s.primer, lead_ns=s.lead_ns) for s in start.streams
        ),
    )


def total_blocks(table: AgentTable) -> tuple[int, int]:
    """(hits, blocks) of all requests, by the recording."""
    return int(np.sum(table.hits, dtype=np.int64)), int(np.sum(table.blocks, dtype=np.int64))

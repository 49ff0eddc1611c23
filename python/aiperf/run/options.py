"""From what the engine said of a run to what metrics and the certificate take."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiperf.config.model import Config
from aiperf.metrics.conservation import EngineFacts, ServerCounters
from aiperf.metrics.context import MetricOptions, TokenSource
from aiperf.metrics.energy import GpuEnergy
from aiperf.metrics.goodput import build_tiers
from aiperf.metrics.summary import Gauge, Phase, SummaryOptions

__all__ = [
    "energy_facts",
    "energy_of",
    "engine_facts",
    "marked_percentile",
    "metric_options",
    "network_rtt_of",
    "phases_of",
    "summary_options",
]

DEFAULT_STALL_NS = 1_000_000_000


def phases_of(data: Mapping[str, Any]) -> tuple[Phase, ...]:
    """`data`: `run.json`, or the journal's header."""
    return tuple(Phase(p["name"], p["kind"]) for p in data.get("phases", ())) or (Phase(),)


def metric_options(config: Config, count_source: TokenSource, *, schedule: bool, streaming: bool) -> MetricOptions:
    tiers = build_tiers(config.slo.goodput)
    return MetricOptions(
        streaming=streaming,
        count_source=count_source,
        per_chunk_tokens=config.endpoint.per_chunk_usage,
        is_schedule=schedule,
        slos=tiers[0].slos if tiers else (),
        network_rtt_ns=network_rtt_of({}, config),
    )


def engine_facts(outcome: Mapping[str, Any], config: Config) -> EngineFacts | None:
    """None if the engine did not get to say anything (the run was killed)."""
    phases: Sequence[Mapping[str, Any]] = outcome.get("phases", ())
    measured = [p for p in phases if p["kind"] == "profiling"]
    if not measured:
        return None
    wall = max(1, outcome["end_ns"] - min(p["start_ns"] for p in phases))
    cpu = [*outcome["worker_cpu_ns"], 0]
    waits = [*outcome.get("worker_wait_ns", ()), 0]
    bounded = config.load.benchmark_duration is None
    open_loop = config.load.request_rate if not config.input.fixed_schedule else None
    calibrated = outcome.get("calibrated")
    return EngineFacts(
        planned=sum(p["planned"] for p in measured) if bounded else None,
        sent=sum(p["sent"] for p in measured),
        unsent=sum(p["unsent"] for p in measured),
        requested_rate=open_loop,
        busiest_worker=max(cpu) / wall,
        cpu_wait=max(waits) / wall,
        calibrated=tuple(calibrated) if calibrated else None,
        clock_step=outcome.get("clock_steps", 0) > 0,
        all_requests=sum(p["sent"] for p in phases),
        lost_rows=int(outcome.get("journal_lost_rows", 0)),
    )


def energy_facts(energy: GpuEnergy | None) -> dict[str, float | None] | None:
    """For `run.json`; `energy_of` reads it."""
    if energy is None:
        return None
    power = None if math.isnan(energy.power_w) else energy.power_w
    return {"energy_j": energy.energy_j, "seconds": energy.seconds, "power_w": power}


def energy_of(facts: Mapping[str, Any], config: Config) -> GpuEnergy | None:
    """What `run.json` says the GPUs took; None without GPUs."""
    told = facts.get("gpu_energy")
    if told is None:
        return None
    power = math.nan if told["power_w"] is None else told["power_w"]
    return GpuEnergy(told["energy_j"], told["seconds"], power, config.load.concurrency)


def network_rtt_of(facts: Mapping[str, Any], config: Config) -> float | None:
    """The round trip the user told, or the mean that was measured, ns; None without the flags or a probe that succeeded."""
    told = config.telemetry.network_latency_mean
    if told is not None:
        return told * 1e6
    measured = facts.get("network_rtt_ns")
    return None if measured is None else float(measured)


def marked_percentile(mark: str | None) -> float | None:
    """75.0 for `p75`; None for other columns (`avg`, `max`), which are always there."""
    found = re.fullmatch(r"p(\d+(?:\.\d+)?)", mark or "")
    return float(found[1]) if found else None


def summary_options(
    config: Config,
    metrics: MetricOptions,
    facts: Mapping[str, Any],
    outcome: Mapping[str, Any],
    server: ServerCounters | None = None,
    gauges: tuple[Gauge, ...] = (),
) -> SummaryOptions:
    """`facts`: `run.json` so far. `outcome`: what the engine said, empty if the run was killed."""
    o, s = config.output, config.slo
    mark = marked_percentile(o.mark)
    marked = () if mark is None else (mark,)
    return SummaryOptions(
        metrics=replace(metrics, network_rtt_ns=network_rtt_of(facts, config)),
        phases=phases_of(facts),
        percentiles=tuple(sorted({*o.percentiles, *marked})),
        tiers=tuple(build_tiers(s.goodput)),
        target_rate=s.target_rate,
        slice_ns=None if o.slice_duration is None else round(o.slice_duration * 1e9),
        exclude_slices=s.exclude_slices,
        steady_state=s.steady_state,
        conditions=s.asserts,
        facts=engine_facts(outcome, config),
        server=server,
        gauges=gauges,
        cancels=bool(config.load.request_cancellation_rate),
        energy=energy_of(facts, config),
        stall_ns=DEFAULT_STALL_NS if s.stall_threshold is None else round(s.stall_threshold * 1e6),
    )

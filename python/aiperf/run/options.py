"""From the configuration, `run.json` and the engine's outcome to what metrics and the certificate take. Asked by `Run` alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from aiperf.config.load import Rate, load_of
from aiperf.config.model import Config
from aiperf.config.part import parse_part
from aiperf.errors import ConfigError
from aiperf.metrics.assertions import condition_problems
from aiperf.metrics.certificate import Certificate
from aiperf.metrics.conservation import EngineFacts, ServerCounters
from aiperf.metrics.context import MetricOptions, TokenSource
from aiperf.metrics.fitness import VERDICTS, Verdict
from aiperf.metrics.goodput import build_tiers
from aiperf.metrics.gpu_energy import GpuEnergy
from aiperf.metrics.server import ServerView, view_from_json
from aiperf.metrics.summary import Gauge, Phase, SummaryOptions
from aiperf.outcome import Outcome
from aiperf.reading.media_rows import MediaRows
from aiperf.records.agents import AgentFacts
from aiperf.records.run_json import (
    GAUGES,
    CertificateEntry,
    EnergyEntry,
    GeneratorEntry,
    PhaseEntry,
    RunJson,
    ServerMetrics,
)
from aiperf.reports.cells import marked_percentile

__all__ = [
    "certificate_entry",
    "check_objectives",
    "energy_entries",
    "energy_of",
    "engine_facts",
    "metric_options",
    "network_rtt_of",
    "phases_of",
    "server_counters",
    "server_gauges",
    "server_view",
    "summary_options",
]

_SHORTEST_NS = 50_000_000

DEFAULT_STALL_NS = 1_000_000_000


def phases_of(entries: Sequence[PhaseEntry]) -> tuple[Phase, ...]:
    """One profiling phase where none is told."""
    return tuple(Phase(p.name, p.kind) for p in entries) or (Phase(),)


def metric_options(
    config: Config,
    count_source: TokenSource,
    *,
    schedule: bool,
    streaming: bool,
    sends_ignore_eos: bool = False,
    agents: AgentFacts | None = None,
    media: MediaRows | None = None,
) -> MetricOptions:
    tiers = build_tiers(config.slo.goodput)
    return MetricOptions(
        streaming=streaming,
        count_source=count_source,
        per_chunk_tokens=config.endpoint.per_chunk_usage,
        wants_usage=config.endpoint.use_server_token_count,
        sends_ignore_eos=sends_ignore_eos,
        is_schedule=schedule,
        slos=tiers[0].slos if tiers else (),
        network_rtt_ns=network_rtt_of(None, config),
        agents=agents,
        media=media,
    )


def check_objectives(config: Config) -> None:
    """ConfigError for objectives and conditions that make no sense (`--goodput`, `--assert`): known before the first request."""
    if not config.slo.goodput and not config.slo.asserts:
        return
    problems = condition_problems(config.slo.asserts, "--assert")
    try:
        build_tiers(config.slo.goodput)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)


def certificate_entry(certificate: Certificate | None) -> CertificateEntry | None:
    if certificate is None:
        return None
    parts: list[dict[str, object]] = [
        {"name": p.name, "value": p.value, "unit": p.unit, "verdict": p.verdict, "reason": p.reason}
        for p in certificate.parts
    ]
    return CertificateEntry(verdict=certificate.verdict, reasons=list(certificate.reasons), parts=parts)


def _share_of(wall_ns: int, worker_ns: Sequence[int]) -> float | None:
    """Of the busiest worker; None for a run so short that what a thread does at its end is a large part of it."""
    return max(worker_ns, default=0) / wall_ns if wall_ns >= _SHORTEST_NS else None


def engine_facts(outcome: Outcome | None, config: Config, known: Sequence[GeneratorEntry] = ()) -> EngineFacts | None:
    """None if the engine did not get to say anything (the run was killed)."""
    if outcome is None or not outcome.measured:
        return None
    phases, measured = outcome.phases, outcome.measured
    skews = [g.start_skew_ns for g in known if g.start_skew_ns is not None]
    bounds = [g.clock_bound_ns for g in known if g.clock_bound_ns is not None]
    wall = max(1, outcome.end_ns - min(p.start_ns for p in phases))
    bounded = config.load.benchmark_duration is None
    asked = load_of(config)
    return EngineFacts(
        planned=sum(p.planned for p in measured) if bounded else None,
        sent=sum(p.sent for p in measured),
        unsent=sum(p.unsent for p in measured),
        requested_rate=asked.per_s * _share(config) if isinstance(asked, Rate) else None,
        busiest_worker=_share_of(wall, outcome.worker_cpu_ns),
        cpu_wait=_share_of(wall, outcome.worker_wait_ns),
        calibrated=outcome.calibrated,
        clock_step=outcome.clock_steps > 0,
        all_requests=sum(p.sent for p in phases),
        lost_rows=outcome.journal_lost_rows,
        generators=tuple(
            (g.name, _verdict(g.certificate), tuple(g.certificate.reasons)) for g in known if g.certificate
        ),
        lost_generators=outcome.lost_generators,
        start_skew_ns=max(skews, default=None),
        clock_bound_ns=max(bounds) if bounds and len(bounds) == len(skews) else None,
    )


def _verdict(told: CertificateEntry) -> Verdict:
    """Of an unknown word, which another version wrote, the middle one."""
    return next((v for v in VERDICTS if v == told.verdict), "degraded")


def _share(config: Config) -> float:
    """Of the whole load; less than 1 in a part of a run."""
    if config.distributed.part is None:
        return 1.0
    part = parse_part(config.distributed.part)
    parts = min(part.of, config.load.concurrency or part.of, config.load.prefill_concurrency or part.of)
    return 1 / parts if part.index < parts else 0.0


def energy_entries(energy: Mapping[str, GpuEnergy]) -> list[EnergyEntry]:
    """For `run.json`; `energy_of` reads it."""
    return [
        EnergyEntry(
            vendor=vendor,
            energy_j=e.energy_j,
            seconds=e.seconds,
            power_w=None if math.isnan(e.power_w) else e.power_w,
        )
        for vendor, e in energy.items()
    ]


def energy_of(entries: Iterable[EnergyEntry], config: Config) -> dict[str, GpuEnergy]:
    """By vendor, what the GPUs took, for the metrics; empty without GPUs."""
    return {
        e.vendor: GpuEnergy(
            e.energy_j, e.seconds, math.nan if e.power_w is None else e.power_w, config.load.concurrency
        )
        for e in entries
    }


def network_rtt_of(measured_ns: float | None, config: Config) -> float | None:
    """The round trip the user told, or the mean that was measured, ns; None without the flags or a probe that succeeded."""
    told = config.telemetry.network_latency_mean
    return measured_ns if told is None else told * 1e6


def server_counters(told: ServerMetrics | None) -> ServerCounters | None:
    return None if told is None or told.conservation is None else ServerCounters(**told.conservation)


def server_gauges(told: ServerMetrics | None) -> tuple[Gauge, ...]:
    gauges = () if told is None else told.gauges
    return tuple(Gauge(g.name, g.times_ns, g.levels, GAUGES.get(g.name, False)) for g in gauges)


def server_view(told: ServerMetrics | None) -> ServerView | None:
    """What the server said in standard names; None if nothing was scraped."""
    return None if told is None or told.view is None else view_from_json(told.view)


def summary_options(
    config: Config,
    metrics: MetricOptions,
    json: RunJson,
    server: ServerCounters | None = None,
    gauges: tuple[Gauge, ...] = (),
) -> SummaryOptions:
    """`json`: `run.json`, as far as it is known."""
    output, slo = config.output, config.slo
    mark = marked_percentile(output.mark)
    marked = () if mark is None else (mark,)
    return SummaryOptions(
        metrics=replace(metrics, network_rtt_ns=network_rtt_of(json.network_rtt_ns, config)),
        phases=phases_of(json.phases),
        percentiles=tuple(sorted({*output.percentiles, *marked})),
        tiers=tuple(build_tiers(slo.goodput)),
        target_rate=slo.target_rate,
        slice_ns=None if output.slice_duration is None else round(output.slice_duration * 1e9),
        exclude_slices=slo.exclude_slices,
        steady_state=slo.steady_state,
        conditions=slo.asserts,
        facts=engine_facts(json.outcome, config, json.generators),
        server=server,
        gauges=gauges,
        view=server_view(json.server_metrics),
        cancels=bool(config.load.request_cancellation_rate),
        energy=energy_of(json.gpu_energy, config),
        stall_ns=DEFAULT_STALL_NS if slo.stall_threshold is None else round(slo.stall_threshold * 1e6),
    )

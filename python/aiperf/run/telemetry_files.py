"""Files beside the run's own, about the server, its GPUs and the network: `server_metrics_export.*`, `gpu_telemetry_export.jsonl`,
`profile_export_network_latency.jsonl` (aiperf-compatibility.md §2, §11, §12).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.config.as_aiperf import aiperf_version
from aiperf.config.model import Config
from aiperf.errors import Note
from aiperf.metrics.gpu_energy import GpuEnergy
from aiperf.outcome import Outcome
from aiperf.records.run_json import RunJson
from aiperf.reports.input_config import input_config_of
from aiperf.reports.paths import Files

if TYPE_CHECKING:
    from aiperf.telemetry.network import Handshake
    from aiperf.telemetry.prometheus import Readings
    from aiperf.telemetry.prometheus.export import PhaseSpan

__all__ = ["GpuFiles", "NetworkFiles", "write_gpu_files", "write_network_file", "write_server_files"]


def _window(outcome: Outcome) -> tuple[int, int]:
    """The profiling phases, ns since the epoch."""
    measured = outcome.measured or outcome.phases
    return outcome.start_wall_ns + measured[0].start_ns, outcome.start_wall_ns + measured[-1].end_ns


def write_server_files(
    files: Files, config: Config, readings: Sequence[Readings], json: RunJson, outcome: Outcome
) -> list[tuple[str, Path]]:
    """(what, path) of the files written; none where no page answered."""
    from aiperf.telemetry.prometheus.export import ExportHeader, render_files
    from aiperf.telemetry.prometheus.parquet import write_parquet

    if not outcome.phases:
        return []
    start_ns, end_ns = _window(outcome)
    told = ExportHeader(
        start_ns=start_ns,
        end_ns=end_ns,
        aiperf_version=aiperf_version(config),
        benchmark_id=json.benchmark_id,
        configured=[r.url for r in readings],
        input_config=input_config_of(config, json),
        slice_s=config.output.slice_duration,
        phases=_phases(outcome),
        models=json.models,
        concurrency=config.load.concurrency,
        ends_load=outcome.ends_measured,
    )
    out: list[tuple[str, Path]] = []
    for ending, data in render_files(config.telemetry.server_metrics_formats, readings, told).items():
        path = files.server_metrics(ending)
        path.write_bytes(data)
        out.append(("server metrics", path))
    table = files.server_metrics("parquet")
    if "parquet" in {f.lower() for f in config.telemetry.server_metrics_formats} and write_parquet(
        table, readings, told
    ):
        out.append(("server metrics", table))
    return out


def _phases(outcome: Outcome) -> list[PhaseSpan]:
    from aiperf.telemetry.prometheus.export import PhaseSpan

    measured = itertools.count()
    return [
        PhaseSpan(
            start_ns=outcome.start_wall_ns + phase.start_ns,
            end_ns=outcome.start_wall_ns + phase.end_ns,
            name=phase.name,
            kind=phase.kind,
            index=index,
            profiling_index=next(measured) if phase.is_measured else None,
        )
        for index, phase in enumerate(outcome.phases)
    ]


@dataclass(frozen=True, slots=True)
class GpuFiles:
    """`data`: `telemetry_data` of the summary; `energy`: of all GPUs, by vendor; `written`: (what, path)."""

    data: Mapping[str, object] = field(default_factory=dict)
    energy: Mapping[str, GpuEnergy] = field(default_factory=dict)
    written: Sequence[tuple[str, Path]] = ()


def write_gpu_files(files: Files, pages: Sequence[str], readings: Sequence[Readings], outcome: Outcome) -> GpuFiles:
    """Nothing but an empty `telemetry_data` where no GPU told anything."""
    from aiperf.telemetry.gpu.devices import gpus_of
    from aiperf.telemetry.gpu.energy import measure_energy
    from aiperf.telemetry.gpu.export import render_gpu_jsonl, telemetry_data
    from aiperf.telemetry.gpu.sources import DEFAULT_PAGES

    if not outcome.phases:
        return GpuFiles()
    start_ns, end_ns = _window(outcome)
    gpus = gpus_of(readings)
    # Of the pages that are tried without being asked for, nobody misses one that is not there.
    missed = [r for r in readings if r.num_failed and (r.num_readings or r.url not in DEFAULT_PAGES)]
    failed = {r.url: (r.num_failed, r.error or "no response") for r in missed}
    data = telemetry_data(gpus, pages if gpus else (), start_ns, end_ns, failed)
    if not gpus:
        return GpuFiles(data)
    files.gpu.write_bytes(render_gpu_jsonl(gpus))
    return GpuFiles(data, measure_energy(gpus, start_ns, end_ns), (("GPU telemetry", files.gpu),))


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """`rtt_ns`: mean round trip, None if no probe succeeded; `written`: (what, path)."""

    rtt_ns: float | None = None
    notes: tuple[Note, ...] = ()
    written: Sequence[tuple[str, Path]] = ()


def write_network_file(files: Files, samples: Sequence[Handshake], outcome: Outcome) -> NetworkFiles:
    """The probes of `--network-latency-automatic` and what they say of the measured phases."""
    from aiperf.telemetry.network import mean_rtt, probe_notes, render_samples

    files.network_latency.write_bytes(render_samples(samples))
    window = _window(outcome) if outcome.phases else (0, 0)
    return NetworkFiles(mean_rtt(samples, *window), probe_notes(samples), (("network latency", files.network_latency),))

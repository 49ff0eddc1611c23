"""GPU metrics over time for the charts: one course per GPU, utilization, memory, power and clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from aiperf.metrics.server import ServerSeries
from aiperf.telemetry.gpu.devices import gpus_of
from aiperf.telemetry.prometheus.readings import Readings

__all__ = ["gpu_courses"]

_SHOWN: Final = {
    "nvidia_gpu_utilization": "gpu_utilization",
    "nvidia_memory_used": "gpu_memory_used",
    "nvidia_power_usage": "gpu_power",
    "nvidia_sm_clock": "gpu_clock",
    "amd_gfx_activity": "gpu_utilization",
    "amd_memory_used": "gpu_memory_used",
    "amd_power": "gpu_power",
    "amd_sm_clock": "gpu_clock",
}
_MOST_GPUS: Final = 16
_MOST_POINTS: Final = 300


def gpu_courses(readings: Sequence[Readings], load: tuple[int, int], wall_ns: int) -> tuple[ServerSeries, ...]:
    """Of the first 16 GPUs during the load (ns since the epoch); `wall_ns`: run time 0. Every n-th reading of more than 300."""
    out: list[ServerSeries] = []
    for gpu in gpus_of(readings)[:_MOST_GPUS]:
        for tag, name in _SHOWN.items():
            sampled = gpu.samples.get(tag)
            if sampled is None:
                continue
            inside = (sampled.times_ns >= load[0]) & (sampled.times_ns <= load[1])
            step = max(1, math.ceil(int(inside.sum()) / _MOST_POINTS))
            times, values = sampled.times_ns[inside][::step], sampled.values[inside][::step]
            if len(times):
                out.append(
                    ServerSeries(
                        name=name,
                        unit=sampled.unit,
                        times_s=tuple(round(t, 3) for t in ((times - wall_ns) / 1e9).tolist()),
                        values=tuple(float(f"{v:.5g}") for v in values.tolist()),
                        label=f"GPU {gpu.index}",
                    )
                )
    return tuple(out)

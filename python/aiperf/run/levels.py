"""The last readings of the server and the GPUs as gauges for whoever watches the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiperf.observer import Level

if TYPE_CHECKING:
    from aiperf.telemetry.prometheus import Readings

__all__ = ["gpu_levels", "server_levels"]

_SERVER: Final = (
    ("requests_running", "requests"),
    ("requests_waiting", "requests"),
    ("requests_swapped", "requests"),
    ("kv_cache_usage", "ratio"),
)
_GPU: Final = (
    "nvidia_gpu_utilization",
    "nvidia_power_usage",
    "nvidia_memory_used",
    "nvidia_temperature",
    "amd_gfx_activity",
    "amd_power",
    "amd_memory_used",
    "amd_temperature",
)


def server_levels(pages: Sequence[Readings]) -> tuple[Level, ...]:
    """By page where there are several."""
    from aiperf.telemetry.prometheus import gauge

    several = len(pages) > 1
    out: list[Level] = []
    for page in pages:
        for name, unit in _SERVER:
            level = gauge(page, name)
            if level is not None:
                out.append(
                    Level(
                        source="server",
                        name=name,
                        value=float(level[1][-1]),
                        unit=unit,
                        place=page.url if several else "",
                    )
                )
    return tuple(out)


def gpu_levels(pages: Sequence[Readings]) -> tuple[Level, ...]:
    """By GPU."""
    from aiperf.telemetry.gpu.devices import gpus_of

    return tuple(
        Level(source="gpu", name=name, value=float(samples.values[-1]), unit=samples.unit, place=f"GPU {gpu.index}")
        for gpu in gpus_of(pages)
        for name in _GPU
        if (samples := gpu.samples.get(name)) is not None and len(samples.values)
    )

"""AMD's device metrics exporter: `gpu_*`, a series per GPU. https://github.com/ROCm/device-metrics-exporter

Power is the socket's in W (`gpu_package_power` on MI3xx, `gpu_average_package_power` on MI2xx), activity in %, memory in MB.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_POWER = Mapped(name="amd_power_usage", kind="gauge", unit="W")
_TEMPERATURE = Mapped(name="amd_temperature", kind="gauge", unit="°C", combine="max")

FAMILY = Family(
    name="rocm",
    title="AMD device metrics exporter",
    prefixes=("gpu_package_power", "gpu_average_package_power", "gpu_gfx_activity", "gpu_used_vram"),
    metrics={
        "gpu_package_power": _POWER,
        "gpu_average_package_power": _POWER,
        "gpu_gfx_activity": Mapped(name="amd_gpu_utilization", kind="gauge", unit="%", combine="mean"),
        "gpu_umc_activity": Mapped(name="amd_memory_utilization", kind="gauge", unit="%", combine="mean"),
        "gpu_used_vram": Mapped(name="amd_memory_used", kind="gauge", unit="GB", scale=1e-3),
        "gpu_junction_temperature": _TEMPERATURE,
        "gpu_edge_temperature": _TEMPERATURE,
        "gpu_clock": Mapped(
            name="amd_gpu_clock",
            kind="gauge",
            unit="MHz",
            combine="mean",
            where={"clock_type": "GPU_CLOCK_TYPE_SYSTEM"},
        ),
    },
)

"""AMD's device metrics exporter: `gpu_*`, a series per GPU. https://github.com/ROCm/device-metrics-exporter (docs: metrics list)

Our names and units are those of AIPerf's `telemetry_data`. Power is the socket's in W (`gpu_package_power` on MI3xx,
`gpu_average_package_power` on MI2xx), energy in µJ, activity in %, memory in MB. `amdsmi` is read under the same raw names.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_POWER = Mapped(name="amd_power", kind="gauge", unit="W")
_TEMPERATURE = Mapped(name="amd_temperature", kind="gauge", unit="°C", combine="max")


def _clock(name: str, kind: str) -> Mapped:
    return Mapped(name=name, kind="gauge", unit="MHz", combine="mean", where={"clock_type": f"GPU_CLOCK_TYPE_{kind}"})


FAMILY = Family(
    name="rocm",
    title="AMD device metrics exporter",
    prefixes=("gpu_package_power", "gpu_average_package_power", "gpu_gfx_activity", "gpu_used_vram"),
    metrics={
        "gpu_package_power": _POWER,
        "gpu_power_usage": _POWER,
        "gpu_average_package_power": _POWER,
        "gpu_energy_consumed": Mapped(name="amd_energy_consumption", kind="counter", unit="MJ", scale=1e-12),
        "gpu_gfx_activity": Mapped(name="amd_gfx_activity", kind="gauge", unit="%", combine="mean"),
        "gpu_umc_activity": Mapped(name="amd_umc_activity", kind="gauge", unit="%", combine="mean"),
        "gpu_mma_activity": Mapped(name="amd_mm_activity", kind="gauge", unit="%", combine="mean"),
        "gpu_used_vram": Mapped(name="amd_memory_used", kind="gauge", unit="GB", scale=1e-3),
        "gpu_junction_temperature": _TEMPERATURE,
        "gpu_edge_temperature": _TEMPERATURE,
        "gpu_ecc_uncorrect_total": Mapped(name="amd_ecc_uncorrectable", kind="counter", unit="count"),
        "gpu_throttle_status": Mapped(name="amd_throttle_status", kind="gauge", unit="count", combine="max"),
        "gpu_clock": (_clock("amd_sm_clock", "SYSTEM"), _clock("amd_mem_clock", "MEMORY")),
    },
)

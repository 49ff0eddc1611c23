"""DCGM exporter: `DCGM_FI_*`, a series per GPU. https://docs.nvidia.com/datacenter/dcgm/latest/gpu-telemetry/dcgm-exporter.html

Our names and units are those of AIPerf's `telemetry_data`. Memory is given in MiB and written in GB (10⁹ bytes); energy in mJ
and written in MJ; the SM's activity is a ratio written in %.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

FAMILY = Family(
    name="dcgm",
    title="DCGM",
    prefixes=("DCGM_FI_",),
    metrics={
        "DCGM_FI_DEV_POWER_USAGE": Mapped("nvidia_power_usage", "gauge", "W"),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": Mapped("nvidia_energy_consumption", "counter", "MJ", 1e-9),
        "DCGM_FI_DEV_GPU_UTIL": Mapped("nvidia_gpu_utilization", "gauge", "%", combine="mean"),
        "DCGM_FI_DEV_MEM_COPY_UTIL": Mapped("nvidia_memory_utilization", "gauge", "%", combine="mean"),
        "DCGM_FI_DEV_FB_USED": Mapped("nvidia_memory_used", "gauge", "GB", 1.048576e-3),
        "DCGM_FI_DEV_GPU_TEMP": Mapped("nvidia_temperature", "gauge", "°C", combine="max"),
        "DCGM_FI_PROF_SM_ACTIVE": Mapped("nvidia_sm_utilization", "gauge", "%", 100.0, combine="mean"),
        "DCGM_FI_DEV_DEC_UTIL": Mapped("nvidia_decoder_utilization", "gauge", "%", combine="mean"),
        "DCGM_FI_DEV_ENC_UTIL": Mapped("nvidia_encoder_utilization", "gauge", "%", combine="mean"),
        "DCGM_FI_DEV_XID_ERRORS": Mapped("nvidia_xid_errors", "counter", "count"),
        "DCGM_FI_DEV_POWER_VIOLATION": Mapped("nvidia_power_violation", "counter", "us", 1e-3),
    },
)

"""DCGM exporter: `DCGM_FI_*`, a series per GPU. https://docs.nvidia.com/datacenter/dcgm/latest/gpu-telemetry/dcgm-exporter.html

Our names and units are those of AIPerf's `telemetry_data`. Memory is given in MiB and written in GB (10⁹ bytes); energy in mJ
and written in MJ; the SM's activity is a ratio written in %.
"""

from __future__ import annotations

from aiperf.telemetry import Family, Mapped

__all__ = ["FAMILY"]

_THROTTLED = Mapped(name="nvidia_throttle_reasons", kind="gauge", unit="bitmask", combine="max")
"""NVML's bits (`nvmlClocksEventReasons`): 0 none, 1 idle, 4 power cap, 32 and 64 thermal, …"""

FAMILY = Family(
    name="dcgm",
    title="DCGM",
    prefixes=("DCGM_FI_",),
    metrics={
        "DCGM_FI_DEV_POWER_USAGE": Mapped(name="nvidia_power_usage", kind="gauge", unit="W"),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": Mapped(
            name="nvidia_energy_consumption", kind="counter", unit="MJ", scale=1e-9
        ),
        "DCGM_FI_DEV_GPU_UTIL": Mapped(name="nvidia_gpu_utilization", kind="gauge", unit="%", combine="mean"),
        "DCGM_FI_DEV_MEM_COPY_UTIL": Mapped(name="nvidia_memory_utilization", kind="gauge", unit="%", combine="mean"),
        "DCGM_FI_DEV_FB_USED": Mapped(name="nvidia_memory_used", kind="gauge", unit="GB", scale=1.048576e-3),
        "DCGM_FI_DEV_GPU_TEMP": Mapped(name="nvidia_temperature", kind="gauge", unit="°C", combine="max"),
        "DCGM_FI_PROF_SM_ACTIVE": Mapped(
            name="nvidia_sm_utilization", kind="gauge", unit="%", scale=100.0, combine="mean"
        ),
        "DCGM_FI_DEV_DEC_UTIL": Mapped(name="nvidia_decoder_utilization", kind="gauge", unit="%", combine="mean"),
        "DCGM_FI_DEV_ENC_UTIL": Mapped(name="nvidia_encoder_utilization", kind="gauge", unit="%", combine="mean"),
        "DCGM_FI_DEV_XID_ERRORS": Mapped(name="nvidia_xid_errors", kind="counter", unit="count"),
        "DCGM_FI_DEV_POWER_VIOLATION": Mapped(name="nvidia_power_violation", kind="counter", unit="us", scale=1e-3),
        "DCGM_FI_DEV_SM_CLOCK": Mapped(name="nvidia_sm_clock", kind="gauge", unit="MHz", combine="mean"),
        "DCGM_FI_DEV_MEM_CLOCK": Mapped(name="nvidia_memory_clock", kind="gauge", unit="MHz", combine="mean"),
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": _THROTTLED,
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": _THROTTLED,
        "DCGM_FI_PROF_PCIE_TX_BYTES": Mapped(name="nvidia_pcie_tx", kind="gauge", unit="GB/s", scale=1e-9),
        "DCGM_FI_PROF_PCIE_RX_BYTES": Mapped(name="nvidia_pcie_rx", kind="gauge", unit="GB/s", scale=1e-9),
        "DCGM_FI_PROF_NVLINK_TX_BYTES": Mapped(name="nvidia_nvlink_tx", kind="gauge", unit="GB/s", scale=1e-9),
        "DCGM_FI_PROF_NVLINK_RX_BYTES": Mapped(name="nvidia_nvlink_rx", kind="gauge", unit="GB/s", scale=1e-9),
    },
)

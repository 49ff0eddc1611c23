"""The GPUs behind the server: power, energy, use and memory, from DCGM exporters or from NVML on this machine.

`watch_gpus(config)` reads beside the load; `devices.gpus_of` sorts what was read by GPU; `energy` relates it to the work done,
`export` writes AIPerf's `telemetry_data` and `gpu_telemetry_export.jsonl`.
"""

from __future__ import annotations

from aiperf.telemetry.gpu.devices import Gpu, Sampled, gpus_of
from aiperf.telemetry.gpu.energy import EnergyFacts, EnergyMetric, energy_metrics
from aiperf.telemetry.gpu.watch import GpuWatch, watch_gpus

__all__ = ["EnergyFacts", "EnergyMetric", "Gpu", "GpuWatch", "Sampled", "energy_metrics", "gpus_of", "watch_gpus"]

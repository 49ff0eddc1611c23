"""Energy and power of the GPUs over a window: what `aiperf.metrics.energy` relates to the work done.

Energy is the growth of the GPUs' own counters; where a GPU has none, the integral of its power.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics.gpu_energy import VENDORS, GpuEnergy
from aiperf.telemetry.gpu.devices import Gpu, Sampled

__all__ = ["measure_energy"]


def measure_energy(gpus: Sequence[Gpu], start_ns: int, end_ns: int) -> dict[str, GpuEnergy]:
    """By vendor, of all of its GPUs together. `start_ns`, `end_ns`: since the epoch. Without vendors of whose GPUs none tells power or energy."""
    found = {v: _of_vendor([g for g in gpus if g.platform == v], start_ns, end_ns) for v in VENDORS}
    return {vendor: energy for vendor, energy in found.items() if energy is not None}


def _of_vendor(gpus: Sequence[Gpu], start_ns: int, end_ns: int) -> GpuEnergy | None:
    energies = [e for g in gpus if (e := _energy_j(g, start_ns, end_ns)) is not None]
    powers = [p for g in gpus if (p := _power_w(g, start_ns, end_ns)) is not None]
    if not energies or end_ns <= start_ns:
        return None
    return GpuEnergy(
        energy_j=float(sum(energies)),
        seconds=(end_ns - start_ns) / 1e9,
        power_w=float(sum(powers)) if powers else float("nan"),
    )


def _energy_j(gpu: Gpu, start_ns: int, end_ns: int) -> float | None:
    counter = gpu.samples.get(f"{gpu.platform}_energy_consumption")
    grown = counter.growth(start_ns, end_ns) if counter is not None else None
    if grown is not None:
        return grown * 1e6  # MJ
    power = _power(gpu)
    return power.integral(start_ns, end_ns) if power is not None else None


def _power_w(gpu: Gpu, start_ns: int, end_ns: int) -> float | None:
    power = _power(gpu)
    inside = power.inside(start_ns, end_ns) if power is not None else np.zeros(0)
    return float(inside.mean()) if len(inside) else None


def _power(gpu: Gpu) -> Sampled | None:
    return gpu.samples.get("nvidia_power_usage") or gpu.samples.get("amd_power")

"""What the GPUs took, for the metrics of `energy.py`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GpuEnergy"]


@dataclass(frozen=True, slots=True)
class GpuEnergy:
    """Of all GPUs together: `energy_j` over `seconds`; `power_w`: the sum of each one's mean reading, NaN if none told it.

    `users`: the concurrency, None where there is none.
    """

    energy_j: float
    seconds: float
    power_w: float = float("nan")
    users: float | None = None

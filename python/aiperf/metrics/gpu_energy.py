"""What the GPUs took, for the metrics of `energy.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["VENDORS", "GpuEnergy"]

VENDORS: Final = ("nvidia", "amd")
"""Whose GPUs are read; the first part of the metrics' tags."""


@dataclass(frozen=True, slots=True)
class GpuEnergy:
    """Of all GPUs of a vendor together: `energy_j` over `seconds`; `power_w`: the sum of each one's mean reading, NaN if none told it.

    `users`: the concurrency, None where there is none.
    """

    energy_j: float
    seconds: float
    power_w: float = float("nan")
    users: float | None = None

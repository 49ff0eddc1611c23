"""Energy and power next to the work done. Tags, units and definitions are AIPerf 0.13's (`nvidia_…`).

Energy is the growth of the GPUs' own counters over the profiling phase; where a GPU has none, the integral of its power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aiperf.telemetry.gpu.devices import Gpu

__all__ = ["EnergyFacts", "EnergyMetric", "energy_metrics"]


@dataclass(frozen=True, slots=True)
class EnergyFacts:
    """What the client measured in the profiling phase. `users`: the concurrency; None where there is none.

    `start_ns`, `end_ns`: since the epoch. `requests`: successful ones.
    """

    start_ns: int
    end_ns: int
    requests: int
    output_tokens: float | None = None
    total_tokens: float | None = None
    users: float | None = None
    mean_latency_s: float | None = None
    goodput_per_s: float | None = None

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class EnergyMetric:
    tag: str
    header: str
    unit: str
    value: float


def energy_metrics(gpus: Sequence[Gpu], facts: EnergyFacts) -> tuple[EnergyMetric, ...]:
    """What can be said; empty without a GPU that tells power or energy.

    total_gpu_power = Σ mean power of each GPU · total_gpu_energy = Σ energy · average_gpu_power = energy ÷ duration ·
    energy_per_… = energy ÷ count · …_per_watt = rate ÷ average power · energy_delay_product = energy per request × mean latency.
    """
    energies = [e for g in gpus if (e := _energy_j(g, facts)) is not None]
    powers = [p for g in gpus if (p := _power_w(g, facts)) is not None]
    if not energies or facts.duration_s <= 0:
        return ()
    energy = float(sum(energies))
    power = energy / facts.duration_s
    found: list[tuple[str, str, str, float | None]] = [
        ("total_gpu_power", "Total GPU Power", "W", float(sum(powers)) if powers else None),
        ("average_gpu_power", "Average GPU Power", "W", power),
        ("total_gpu_energy", "Total GPU Energy", "J", energy),
        ("output_tokens_per_joule", "Output Tokens per Joule", "tokens/J", _ratio(facts.output_tokens, energy)),
        ("energy_per_output_token", "Energy per Output Token", "mJ/token", _ratio(1000 * energy, facts.output_tokens)),
        ("energy_per_total_token", "Energy per Total Token", "mJ/token", _ratio(1000 * energy, facts.total_tokens)),
        ("energy_per_request", "Energy per Request", "joules/request", _ratio(energy, facts.requests)),
        ("energy_per_user", "Energy per User", "joules/user", _ratio(energy, facts.users)),
        ("energy_delay_product", "Energy Delay Product", "J*s", _product(_ratio(energy, facts.requests), facts.mean_latency_s)),
        ("performance_per_watt", "Performance per Watt", "requests/sec/W", _ratio(facts.requests / facts.duration_s, power)),
        ("output_tps_per_watt", "Output Tokens per Second per Watt", "tokens/sec/W", _ratio(_rate(facts), power)),
        ("goodput_per_watt", "Goodput per Watt", "requests/sec/W", _ratio(facts.goodput_per_s, power)),
    ]  # fmt: skip
    return tuple(
        EnergyMetric(f"nvidia_{tag}", header, unit, value) for tag, header, unit, value in found if value is not None
    )


def _energy_j(gpu: Gpu, facts: EnergyFacts) -> float | None:
    counter = gpu.samples.get("nvidia_energy_consumption")
    grown = counter.growth(facts.start_ns, facts.end_ns) if counter is not None else None
    if grown is not None:
        return grown * 1e6  # MJ
    power = gpu.samples.get("nvidia_power_usage")
    return power.integral(facts.start_ns, facts.end_ns) if power is not None else None


def _power_w(gpu: Gpu, facts: EnergyFacts) -> float | None:
    power = gpu.samples.get("nvidia_power_usage")
    inside = power.inside(facts.start_ns, facts.end_ns) if power is not None else np.zeros(0)
    return float(inside.mean()) if len(inside) else None


def _rate(facts: EnergyFacts) -> float | None:
    return None if facts.output_tokens is None else facts.output_tokens / facts.duration_s


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def _product(a: float | None, b: float | None) -> float | None:
    return a * b if a is not None and b is not None else None

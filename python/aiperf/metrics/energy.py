"""What the GPUs' energy and power were spent on. Tags, units and definitions are AIPerf 0.13's: `nvidia_…` and `amd_…`.

Energy and power are the GPUs' own, over the profiling phases (`aiperf.telemetry.gpu.energy`); work done is the client's account
of the same phases. They exist for the whole run only: a part of it has no energy of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aiperf.metrics import metric
from aiperf.metrics.context import MetricContext
from aiperf.metrics.gpu_energy import VENDORS, GpuEnergy

__all__ = ["total_gpu_energy"]

_NAN = float("nan")
_Compute = Callable[[MetricContext, GpuEnergy], float]


def _energy_metric(name: str, formula: str, *, larger_is_better: bool = False) -> Callable[[_Compute], _Compute]:
    """A scalar for each vendor, `<vendor>_<name>`: it exists where that vendor's GPUs told their energy. `{gpu}` in the formula: the vendor."""

    def register(function: _Compute) -> _Compute:
        for vendor in VENDORS:
            metric(
                f"{vendor}_{name}",
                kind="scalar",
                formula=formula.format(gpu=vendor),
                larger_is_better=larger_is_better,
                provenance="GPU telemetry, client clock",
            )(_of_vendor(vendor, function))
        return function

    return register


def _of_vendor(vendor: str, function: _Compute) -> Callable[[MetricContext], float]:
    def compute(context: MetricContext) -> float:
        gpus = context.energy.get(vendor)
        return _NAN if gpus is None or gpus.seconds <= 0 else function(context, gpus)

    compute.__doc__ = function.__doc__
    return compute


def _ratio(a: float, b: float | None) -> float:
    return a / b if b else _NAN


def _requests(context: MetricContext) -> float:
    return float(np.count_nonzero(context.ok))


def _total_tokens(context: MetricContext) -> float:
    return context.total("input_sequence_length") + context.total("output_sequence_length")


@_energy_metric(
    "total_gpu_energy",
    "Σ over GPUs of the growth of their energy counter, else ∫ power",
)
def total_gpu_energy(_: MetricContext, gpus: GpuEnergy) -> float:
    """Energy of all GPUs over the profiling phases."""
    return gpus.energy_j


@_energy_metric("average_gpu_power", "{gpu}_total_gpu_energy / duration of the phases")
def average_gpu_power(_: MetricContext, gpus: GpuEnergy) -> float:
    """Power of all GPUs together, averaged over time."""
    return gpus.energy_j / gpus.seconds


@_energy_metric("total_gpu_power", "Σ over GPUs of the mean of their power readings")
def total_gpu_power(_: MetricContext, gpus: GpuEnergy) -> float:
    """As the GPUs' power gauges say; the energy counters may know better."""
    return gpus.power_w


@_energy_metric("energy_per_request", "{gpu}_total_gpu_energy / request_count")
def energy_per_request(context: MetricContext, gpus: GpuEnergy) -> float:
    """Energy for each successful request."""
    return _ratio(gpus.energy_j, _requests(context))


@_energy_metric(
    "energy_per_output_token",
    "1000 × {gpu}_total_gpu_energy / Σ OSL",
)
def energy_per_output_token(context: MetricContext, gpus: GpuEnergy) -> float:
    """Energy for each token produced."""
    return _ratio(1000 * gpus.energy_j, context.total("output_sequence_length"))


@_energy_metric(
    "energy_per_total_token",
    "1000 × {gpu}_total_gpu_energy / Σ (ISL + OSL)",
)
def energy_per_total_token(context: MetricContext, gpus: GpuEnergy) -> float:
    """Energy for each token read or produced."""
    return _ratio(1000 * gpus.energy_j, _total_tokens(context))


@_energy_metric(
    "output_tokens_per_joule",
    "Σ OSL / {gpu}_total_gpu_energy",
    larger_is_better=True,
)
def output_tokens_per_joule(context: MetricContext, gpus: GpuEnergy) -> float:
    """Tokens produced for each joule."""
    return _ratio(context.total("output_sequence_length"), gpus.energy_j)


@_energy_metric("energy_per_user", "{gpu}_total_gpu_energy / concurrency")
def energy_per_user(_: MetricContext, gpus: GpuEnergy) -> float:
    """Energy for each of the users the load stands for; absent without a concurrency."""
    return _ratio(gpus.energy_j, gpus.users)


@_energy_metric(
    "energy_delay_product",
    "{gpu}_energy_per_request × mean request_latency in seconds",
)
def energy_delay_product(context: MetricContext, gpus: GpuEnergy) -> float:
    """What a request costs in energy and in waiting, in one figure."""
    mean_s = _ratio(context.total("request_latency"), _requests(context)) / 1e9
    return _ratio(gpus.energy_j, _requests(context)) * mean_s


@_energy_metric(
    "performance_per_watt",
    "request_count / duration of the phases / {gpu}_average_gpu_power",
    larger_is_better=True,
)
def performance_per_watt(context: MetricContext, gpus: GpuEnergy) -> float:
    """Successful requests per second for each watt."""
    return _ratio(_requests(context), gpus.energy_j)


@_energy_metric(
    "output_tps_per_watt",
    "Σ OSL / duration of the phases / {gpu}_average_gpu_power",
    larger_is_better=True,
)
def output_tps_per_watt(context: MetricContext, gpus: GpuEnergy) -> float:
    """Output tokens per second for each watt."""
    return _ratio(context.total("output_sequence_length"), gpus.energy_j)


@_energy_metric(
    "goodput_per_watt",
    "goodput / {gpu}_average_gpu_power",
    larger_is_better=True,
)
def goodput_per_watt(context: MetricContext, gpus: GpuEnergy) -> float:
    """Requests per second that met every objective, for each watt; absent without --goodput."""
    return _ratio(context.scalar("goodput"), gpus.energy_j / gpus.seconds)

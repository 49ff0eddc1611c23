"""The GPUs of this machine by NVML (`--gpu-telemetry pynvml`, extra `gpu`): the same series a DCGM exporter would show."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType

import numpy as np

from aiperf.errors import ConfigError
from aiperf.telemetry.gpu.local import LocalReader
from aiperf.telemetry.prometheus.exposition import MetricSeries

__all__ = ["URL", "nvml_reader"]

URL = "pynvml://localhost"
_FIGURES: tuple[tuple[str, str, Callable[[ModuleType, object], float]], ...] = (
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", lambda n, h: n.nvmlDeviceGetPowerUsage(h) / 1e3),
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", lambda n, h: n.nvmlDeviceGetTotalEnergyConsumption(h)),
    ("DCGM_FI_DEV_GPU_UTIL", "gauge", lambda n, h: n.nvmlDeviceGetUtilizationRates(h).gpu),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", lambda n, h: n.nvmlDeviceGetUtilizationRates(h).memory),
    ("DCGM_FI_DEV_FB_USED", "gauge", lambda n, h: n.nvmlDeviceGetMemoryInfo(h).used / (1 << 20)),
    ("DCGM_FI_DEV_GPU_TEMP", "gauge", lambda n, h: n.nvmlDeviceGetTemperature(h, 0)),
    ("DCGM_FI_DEV_SM_CLOCK", "gauge", lambda n, h: n.nvmlDeviceGetClockInfo(h, 1)),
    ("DCGM_FI_DEV_MEM_CLOCK", "gauge", lambda n, h: n.nvmlDeviceGetClockInfo(h, 2)),
    ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "gauge", lambda n, h: n.nvmlDeviceGetCurrentClocksThrottleReasons(h)),
)
"""DCGM's name and unit for what NVML gives in mW, mJ, %, bytes, °C."""


def nvml_reader(interval_s: float) -> LocalReader:
    """All GPUs of this host. ConfigError without the library, the driver or a GPU."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise ConfigError("`--gpu-telemetry pynvml` needs nvidia-ml-py", "pip install 'aiperf[gpu]'") from error
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        raise ConfigError(f"NVML found no GPU on this host: {error}", "DCGM exporters are read by URL") from error
    if not handles:
        raise ConfigError("NVML found no GPU on this host", "DCGM exporters are read by URL")

    def read() -> list[float]:
        return [_value(nvml, ask, handle) for handle in handles for _, _, ask in _FIGURES]

    series = [
        MetricSeries(metric=raw, kind=kind, part="value", labels=_labels(nvml, i, handle))
        for i, handle in enumerate(handles)
        for raw, kind, _ in _FIGURES
    ]
    return LocalReader(url=URL, series=series, read=read, close=nvml.nvmlShutdown, interval_s=interval_s)


def _value(nvml: ModuleType, ask: Callable[[ModuleType, object], float], handle: object) -> float:
    try:
        return float(ask(nvml, handle))
    except (nvml.NVMLError, AttributeError):  # AttributeError: of an older library
        return float(np.nan)


def _labels(nvml: ModuleType, index: int, handle: object) -> tuple[tuple[str, str], ...]:
    labels = {
        "gpu": str(index),
        "UUID": _text(nvml.nvmlDeviceGetUUID(handle)),
        "modelName": _text(nvml.nvmlDeviceGetName(handle)),
        "device": f"nvidia{index}",
        "Hostname": socket.gethostname(),
    }
    with suppress(nvml.NVMLError, AttributeError):  # a virtual GPU has none; older libraries have no such call
        labels["pci_bus_id"] = _text(nvml.nvmlDeviceGetPciInfo(handle).busId)
    return tuple(sorted(labels.items()))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

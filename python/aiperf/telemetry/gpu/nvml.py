"""The GPUs of this machine by NVML (`--gpu-telemetry pynvml`, extra `gpu`): the same series a DCGM exporter would show."""

from __future__ import annotations

import importlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ConfigError
from aiperf.telemetry.prometheus.exposition import MetricSeries
from aiperf.telemetry.prometheus.readings import Readings

__all__ = ["URL", "NvmlReader"]

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


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class NvmlReader:
    """A thread that reads all GPUs every `interval_s`. ConfigError without the library, the driver or a GPU."""

    def __init__(self, interval_s: float) -> None:
        try:
            self._nvml = importlib.import_module("pynvml")
        except ImportError as error:
            raise ConfigError("`--gpu-telemetry pynvml` needs nvidia-ml-py", "pip install 'aiperf[gpu]'") from error
        try:
            self._nvml.nvmlInit()
            handles = [self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(self._nvml.nvmlDeviceGetCount())]
        except self._nvml.NVMLError as error:
            raise ConfigError(f"NVML found no GPU on this host: {error}", "DCGM exporters are read by URL") from error
        if not handles:
            raise ConfigError("NVML found no GPU on this host", "DCGM exporters are read by URL")
        self._handles = handles
        self._interval_s = interval_s
        self._series = tuple(
            MetricSeries(metric=raw, kind=kind, part="value", labels=self._labels(i, handle))
            for i, handle in enumerate(handles)
            for raw, kind, _ in _FIGURES
        )
        self._rows: list[NDArray[np.float64]] = []
        self._times: list[tuple[int, int]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        self._read()
        self._thread.start()

    def latest(self) -> Readings:
        """The last reading, while it goes on."""
        return self._table(self._rows[-1:], self._times[-1:])

    def stop(self) -> Readings:
        """One last reading, then all of them."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            self._read()
            self._nvml.nvmlShutdown()
        return self._table(self._rows, self._times)

    def _table(self, rows: Sequence[NDArray[np.float64]], times: Sequence[tuple[int, int]]) -> Readings:
        stamps = np.array(times, dtype=np.int64).reshape(-1, 2)
        return Readings(
            url=URL,
            is_own=True,
            series=self._series,
            times_ns=stamps[:, 1],
            latencies_ns=stamps[:, 1] - stamps[:, 0],
            values=np.array(rows),
        )

    def _labels(self, index: int, handle: object) -> tuple[tuple[str, str], ...]:
        labels = {
            "gpu": str(index),
            "UUID": _text(self._nvml.nvmlDeviceGetUUID(handle)),
            "modelName": _text(self._nvml.nvmlDeviceGetName(handle)),
            "device": f"nvidia{index}",
            "Hostname": socket.gethostname(),
        }
        return tuple(sorted(labels.items()))

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._read()

    def _read(self) -> None:
        """What a GPU does not tell is NaN."""
        began = time.time_ns()
        values: list[float] = []
        for handle in self._handles:
            for _, _, ask in _FIGURES:
                try:
                    values.append(float(ask(self._nvml, handle)))
                except (self._nvml.NVMLError, AttributeError):  # of an older library
                    values.append(np.nan)
        self._rows.append(np.array(values))
        self._times.append((began, time.time_ns()))

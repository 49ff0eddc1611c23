"""AMD's GPUs of this machine by AMD SMI (`--gpu-telemetry amdsmi`): the series AMD's device metrics exporter would show.

https://rocm.docs.amd.com/projects/amdsmi (Python API). Its Python package comes with ROCm and must be of ROCm's version, as it lays
out the library's structures; so it is no dependency of ours.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import socket
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import numpy as np

from aiperf.errors import ConfigError
from aiperf.telemetry.gpu.local import LocalReader
from aiperf.telemetry.prometheus.exposition import MetricSeries

__all__ = ["URL", "amdsmi_reader"]

URL = "amdsmi://localhost"
_HINT: Final = "install ROCm's own: `pip install /opt/rocm/share/amd_smi`; AMD's exporter is read by URL"
_BY_URL: Final = "AMD's device metrics exporter is read by URL: `http://node:5000/metrics`"
_CELSIUS_SINCE: Final = 26
"""Major version of the package from which on temperatures are in °C; before in 0.001 °C."""
_HOTTEST: Final = 200.0
"""°C; more is in 0.001 °C, whatever the version says."""
Handle = Any
Read = Callable[[ModuleType, Handle], Iterator[object]]


def _power(smi: ModuleType, gpu: Handle) -> Iterator[object]:
    told = smi.amdsmi_get_power_info(gpu)
    # Since ROCm 7 for all GPUs; of MI3xx; of MI2xx and before.
    yield from (told.get(name) for name in ("socket_power", "current_socket_power", "average_socket_power"))


def _energy_uj(smi: ModuleType, gpu: Handle) -> Iterator[object]:
    told = smi.amdsmi_get_energy_count(gpu)
    ticks, size = _number(told.get("energy_accumulator", told.get("power"))), _number(told.get("counter_resolution"))
    yield None if ticks is None or size is None else ticks * size


def _activity(name: str) -> Read:
    def read(smi: ModuleType, gpu: Handle) -> Iterator[object]:
        yield smi.amdsmi_get_gpu_activity(gpu).get(name)

    return read


def _memory_mb(smi: ModuleType, gpu: Handle) -> Iterator[object]:
    yield smi.amdsmi_get_gpu_memory_usage(gpu, smi.AmdSmiMemoryType.VRAM) / 1e6


def _temperature(smi: ModuleType, gpu: Handle) -> Iterator[object]:
    for place in ("JUNCTION", "EDGE"):
        with contextlib.suppress(smi.AmdSmiException):  # this GPU has no such sensor
            sensor = getattr(smi.AmdSmiTemperatureType, place)
            value = _number(smi.amdsmi_get_temp_metric(gpu, sensor, smi.AmdSmiTemperatureMetric.CURRENT))
            if value is not None:
                yield value if value <= _HOTTEST and _is_celsius(smi) else value / 1e3


def _is_celsius(smi: ModuleType) -> bool:
    major = str(getattr(smi, "__version__", "")).partition(".")[0]
    return not major.isdigit() or int(major) >= _CELSIUS_SINCE


def _ecc(smi: ModuleType, gpu: Handle) -> Iterator[object]:
    yield smi.amdsmi_get_gpu_total_ecc_count(gpu).get("uncorrectable_count")


def _throttled(smi: ModuleType, gpu: Handle) -> Iterator[object]:
    told = smi.amdsmi_get_gpu_metrics_info(gpu)
    known = [v for name in ("throttle_status", "indep_throttle_status") if isinstance(v := told.get(name), int | float)]
    yield float(any(known)) if known else None


def _clock(name: str) -> Read:
    def read(smi: ModuleType, gpu: Handle) -> Iterator[object]:
        told = smi.amdsmi_get_clock_info(gpu, getattr(smi.AmdSmiClkType, name))
        yield told.get("clk", told.get("cur_clk"))

    return read


_FIGURES: Final[tuple[tuple[str, str, Read, dict[str, str]], ...]] = (
    ("gpu_package_power", "gauge", _power, {}),
    ("gpu_energy_consumed", "counter", _energy_uj, {}),
    ("gpu_gfx_activity", "gauge", _activity("gfx_activity"), {}),
    ("gpu_umc_activity", "gauge", _activity("umc_activity"), {}),
    ("gpu_mma_activity", "gauge", _activity("mm_activity"), {}),
    ("gpu_used_vram", "gauge", _memory_mb, {}),
    ("gpu_junction_temperature", "gauge", _temperature, {}),
    ("gpu_ecc_uncorrect_total", "counter", _ecc, {}),
    ("gpu_throttle_status", "gauge", _throttled, {}),
    ("gpu_clock", "gauge", _clock("GFX"), {"clock_type": "GPU_CLOCK_TYPE_SYSTEM"}),
    ("gpu_clock", "gauge", _clock("MEM"), {"clock_type": "GPU_CLOCK_TYPE_MEMORY"}),
)
"""The exporter's name, its kind, what gives it in the exporter's unit (the first of several values that is one), further labels."""


def amdsmi_reader(interval_s: float) -> LocalReader:
    """All AMD GPUs of this host. ConfigError without the package, the library, the driver or a GPU."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # without the library the package prints
            smi = importlib.import_module("amdsmi")
    except (
        ImportError,
        OSError,
        KeyError,
        AttributeError,
    ) as error:  # the last three: no library, or one of another version
        raise ConfigError("`--gpu-telemetry amdsmi` needs AMD SMI with its Python package", _HINT) from error
    try:
        smi.amdsmi_init()
        gpus = smi.amdsmi_get_processor_handles()
    except smi.AmdSmiException as error:
        what = " ".join(str(error).split())
        raise ConfigError(f"AMD SMI found no GPU on this host: {what}", _BY_URL) from error
    if not gpus:
        smi.amdsmi_shut_down()
        raise ConfigError("AMD SMI found no GPU on this host", _BY_URL)

    def read() -> list[float]:
        return [_value(smi, ask, gpu) for gpu in gpus for _, _, ask, _ in _FIGURES]

    series = [
        MetricSeries(metric=raw, kind=kind, part="value", labels=tuple(sorted((labels | more).items())))
        for labels in (_labels(smi, i, gpu) for i, gpu in enumerate(gpus))
        for raw, kind, _, more in _FIGURES
    ]
    return LocalReader(url=URL, series=series, read=read, close=smi.amdsmi_shut_down, interval_s=interval_s)


def _number(value: object) -> float | None:
    """None for what is no number: the package writes "N/A" for a sensor that a GPU does not have."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _value(smi: ModuleType, ask: Read, gpu: Handle) -> float:
    """NaN for what a GPU does not tell, and for what an older library does not know."""
    try:
        return next((v for told in ask(smi, gpu) if (v := _number(told)) is not None), float(np.nan))
    except (smi.AmdSmiException, AttributeError):
        return float(np.nan)


def _labels(smi: ModuleType, index: int, gpu: Handle) -> dict[str, str]:
    labels = {"gpu_id": str(index), "device": f"amd{index}", "hostname": socket.gethostname()}
    with contextlib.suppress(smi.AmdSmiException):  # a label that the GPU does not tell is left out
        labels["gpu_uuid"] = str(smi.amdsmi_get_gpu_device_uuid(gpu))
    with contextlib.suppress(smi.AmdSmiException, AttributeError):  # as above; older libraries have no such call
        labels["pci_bus_id"] = str(smi.amdsmi_get_gpu_device_bdf(gpu))
    with contextlib.suppress(smi.AmdSmiException):  # as above
        name = smi.amdsmi_get_gpu_board_info(gpu).get("product_name")
        if name and name != "N/A":
            labels["card_model"] = str(name)
    return labels

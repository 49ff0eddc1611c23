"""Readings of GPU exporters, sorted by GPU, in AIPerf's names and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from aiperf.telemetry.families.dcgm import FAMILY as DCGM
from aiperf.telemetry.families.rocm import FAMILY as ROCM
from aiperf.telemetry.prometheus.readings import Floats, Ints, Readings

__all__ = ["Gpu", "Sampled", "gpus_of"]


_FAMILIES: Final = (DCGM, ROCM)
_VENDORS: Final = {raw: vendor for family, vendor in ((DCGM, "nvidia"), (ROCM, "amd")) for raw in family.metrics}


@dataclass(frozen=True, slots=True)
class Sampled:
    """(samples,) of one figure. `times_ns`: since the epoch; `values`: in `unit`, without gaps."""

    unit: str
    is_counter: bool
    times_ns: Ints = field(repr=False)
    values: Floats = field(repr=False)

    def inside(self, start_ns: int, end_ns: int) -> Floats:
        """Values read in the window."""
        return self.values[(self.times_ns >= start_ns) & (self.times_ns <= end_ns)]

    def growth(self, start_ns: int, end_ns: int) -> float | None:
        """Of a counter, between two instants: interpolated between the readings around each, held where there is none.

        DCGM's own interval is a second or more: the nearest readings alone would be off by that much of the power. None with
        fewer than two readings. A fall is a restart, from 0.
        """
        if len(self.values) < 2:
            return None
        steps = np.diff(self.values)
        total = np.concatenate([[0.0], np.cumsum(np.where(steps < 0, self.values[1:], steps))])
        at = np.interp(
            [start_ns - self.times_ns[0], end_ns - self.times_ns[0]], self.times_ns - self.times_ns[0], total
        )
        return float(at[1] - at[0])

    def integral(self, start_ns: int, end_ns: int) -> float | None:
        """∫ value dt over the window in unit × s, by trapezoids, ends held. None without a reading."""
        if not len(self.values):
            return None
        inner = self.times_ns[(self.times_ns > start_ns) & (self.times_ns < end_ns)]
        times = np.concatenate([[start_ns], inner, [end_ns]]) - start_ns
        values = np.interp(times, self.times_ns - start_ns, self.values)
        return float(np.trapezoid(values, times)) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """`place`: host:port of the page it was read from, and its path unless that is `/metrics`. What a page does not say is None."""

    place: str
    url: str
    index: int
    name: str
    uuid: str
    pci_bus_id: str | None = None
    device: str | None = None
    hostname: str | None = None
    namespace: str | None = None
    pod: str | None = None
    platform: str = "nvidia"
    samples: Mapping[str, Sampled] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.place} | GPU {self.index} | {self.name}"


def gpus_of(readings: Sequence[Readings]) -> tuple[Gpu, ...]:
    """All GPUs of all pages, by page, then by index; GPUs seen on two pages (by UUID) are the first page's."""
    gpus: list[Gpu] = []
    seen: set[str] = set()
    for page in readings:
        for gpu in sorted(_of_page(page), key=lambda g: (g.index, g.uuid)):
            if gpu.uuid not in seen:
                seen.add(gpu.uuid)
                gpus.append(gpu)
    return tuple(gpus)


def _place(url: str) -> str:
    """As AIPerf names an endpoint: `http://h:9400/metrics` is `h:9400`, `http://h/gpu/metrics` is `h/gpu`."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path.removesuffix("/metrics").rstrip("/") if parts.netloc else url


def _of_page(page: Readings) -> list[Gpu]:
    place = _place(page.url)
    columns: dict[str, dict[str, int]] = {}
    labels_of: dict[str, dict[str, str]] = {}
    vendor_of: dict[str, str] = {}
    for column, series in enumerate(page.series):
        labels = dict(series.labels)
        vendor = _VENDORS.get(series.metric)
        name = _name(series.metric, labels)
        key = _identity(labels, place)
        if vendor is not None and name is not None and key is not None:
            columns.setdefault(key, {}).setdefault(name, column)
            labels_of.setdefault(key, {}).update(labels)
            vendor_of[key] = vendor
    return [
        _gpu(page, place, key, labels_of[key], vendor_of[key], _samples(page, named)) for key, named in columns.items()
    ]


def _identity(labels: Mapping[str, str], place: str) -> str | None:
    """What tells a GPU from all others; None for a series that is of no GPU."""
    own = labels.get("UUID") or labels.get("gpu_uuid") or labels.get("serial_number")
    index = labels.get("gpu") or labels.get("gpu_id")
    return own or (f"{place}/{index}" if index else None)


def _name(raw: str, labels: Mapping[str, str]) -> str | None:
    """Our name of a series; None if it is not one we read, or of another kind (a clock that is not the GPU's)."""
    for family in _FAMILIES:
        for mapped in family.mapped(raw):
            if set(mapped.where.items()) <= set(labels.items()):
                return mapped.name
    return None


def _samples(page: Readings, named: Mapping[str, int]) -> dict[str, Sampled]:
    samples: dict[str, Sampled] = {}
    for name, column in named.items():
        mapped = next(m for family in _FAMILIES for m in family.mapped(page.series[column].metric) if m.name == name)
        values = page.values[:, column]
        there = ~np.isnan(values)
        if there.any():
            samples[name] = Sampled(
                mapped.unit, mapped.kind == "counter", page.times_ns[there], values[there] * mapped.scale
            )
    return samples


def _gpu(
    page: Readings, place: str, key: str, labels: Mapping[str, str], vendor: str, samples: Mapping[str, Sampled]
) -> Gpu:
    index = labels.get("gpu") or labels.get("gpu_id") or ""
    return Gpu(
        place=place,
        url=page.url,
        index=int(index) if index.isdigit() else 0,
        name=labels.get("modelName") or labels.get("card_model") or "GPU",
        uuid=key,
        platform=vendor,
        pci_bus_id=labels.get("pci_bus_id"),
        device=labels.get("device"),
        hostname=labels.get("Hostname") or labels.get("hostname"),
        namespace=labels.get("namespace"),
        pod=labels.get("pod"),
        samples=samples,
    )

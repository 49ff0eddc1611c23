"""`telemetry_data` of the summary, its CSV section, and `gpu_telemetry_export.jsonl`, as AIPerf 0.13 writes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from aiperf.config.secrets import mask_url
from aiperf.json_text import json_text
from aiperf.metrics.stats import STANDARD_PERCENTILES, percentile_name
from aiperf.telemetry.gpu.devices import Gpu, Sampled

__all__ = ["HEADERS", "gpu_csv_section", "gpu_stats", "render_gpu_jsonl", "telemetry_data"]

HEADERS: Mapping[str, str] = {
    "nvidia_power_usage": "NVIDIA GPU Power Usage",
    "nvidia_energy_consumption": "NVIDIA Energy Consumption",
    "nvidia_gpu_utilization": "NVIDIA GPU Utilization",
    "nvidia_memory_utilization": "NVIDIA Memory Utilization",
    "nvidia_memory_used": "NVIDIA GPU Memory Used",
    "nvidia_temperature": "NVIDIA GPU Temperature",
    "nvidia_sm_utilization": "NVIDIA SM Utilization",
    "nvidia_decoder_utilization": "NVIDIA Decoder Utilization",
    "nvidia_encoder_utilization": "NVIDIA Encoder Utilization",
    "nvidia_xid_errors": "NVIDIA XID Errors",
    "nvidia_power_violation": "NVIDIA Power Violation",
    "nvidia_sm_clock": "NVIDIA SM Clock",
    "nvidia_memory_clock": "NVIDIA Memory Clock",
    "nvidia_throttle_reasons": "NVIDIA Throttle Reasons",
    "nvidia_pcie_tx": "NVIDIA PCIe Sent",
    "nvidia_pcie_rx": "NVIDIA PCIe Received",
    "nvidia_nvlink_tx": "NVIDIA NVLink Sent",
    "nvidia_nvlink_rx": "NVIDIA NVLink Received",
    "amd_power": "AMD GPU Power",
    "amd_energy_consumption": "AMD Energy Consumption",
    "amd_gfx_activity": "AMD GFX Activity",
    "amd_umc_activity": "AMD UMC Activity",
    "amd_mm_activity": "AMD MM Activity",
    "amd_memory_used": "AMD GPU Memory Used",
    "amd_temperature": "AMD GPU Temperature",
    "amd_ecc_uncorrectable": "AMD ECC Uncorrectable",
    "amd_throttle_status": "AMD Throttle Status",
    "amd_sm_clock": "AMD SM Clock",
    "amd_mem_clock": "AMD Memory Clock",
}
"""Names in tables, in their order."""
_PERCENTILES = tuple(percentile_name(p) for p in STANDARD_PERCENTILES)
_COLUMNS = ("avg", "min", "max", "sum", *_PERCENTILES, "std")
_PLACES = (("Hostname", "hostname"), ("Namespace", "namespace"), ("Pod Name", "pod_name"))


def gpu_stats(sampled: Sampled, start_ns: int, end_ns: int) -> dict[str, float | int | str] | None:
    """`{unit, avg, …}` over the window; counters have `avg` alone, which is their growth. None if nothing was read in it."""
    out: dict[str, float | int | str] = {"unit": sampled.unit}
    if sampled.is_counter:
        grown = sampled.growth(start_ns, end_ns)
        return None if grown is None else {**out, "avg": grown}
    values = sampled.inside(start_ns, end_ns)
    if not len(values):
        return None
    out["avg"] = float(values.mean())
    out |= dict(zip(_PERCENTILES, np.percentile(values, STANDARD_PERCENTILES).tolist(), strict=True))
    out |= {"min": float(values.min()), "max": float(values.max()), "std": float(values.std())}
    return {**out, "count": len(values), "sum": float(values.sum())}


def _metrics(gpu: Gpu, start_ns: int, end_ns: int) -> dict[str, dict[str, float | int | str]]:
    found = {tag: gpu_stats(gpu.samples[tag], start_ns, end_ns) for tag in HEADERS if tag in gpu.samples}
    return {tag: stats for tag, stats in found.items() if stats is not None}


def telemetry_data(
    gpus: Sequence[Gpu],
    configured: Sequence[str],
    start_ns: int,
    end_ns: int,
    failed: Mapping[str, tuple[int, str]] | None = None,
) -> dict[str, object]:
    """The value of `telemetry_data` in `profile_export_aiperf.json`. `start_ns`, `end_ns`: the profiling phase, since the epoch.

    `failed`: URL → how many readings of it failed, and why the last one did.
    """
    endpoints: dict[str, dict[str, dict[str, object]]] = {}
    for gpu in gpus:
        entry: dict[str, object] = {
            "gpu_index": gpu.index,
            "gpu_name": gpu.name,
            "gpu_uuid": gpu.uuid,
            "platform": gpu.platform,
            "hostname": gpu.hostname,
            "namespace": gpu.namespace,
            "pod_name": gpu.pod,
            "metrics": _metrics(gpu, start_ns, end_ns),
        }
        kept = {k: v for k, v in entry.items() if v is not None}
        endpoints.setdefault(gpu.place, {"gpus": {}})["gpus"][f"gpu_{gpu.index}"] = kept
    local = [datetime.fromtimestamp(ns / 1e9).isoformat() for ns in (start_ns, end_ns)]  # noqa: DTZ006 - as AIPerf
    summary = {
        "endpoints_configured": list(configured),
        "endpoints_successful": list(dict.fromkeys(g.url for g in gpus)),
        "start_time": local[0],
        "end_time": local[1],
    }
    errors = [
        {"error_details": {"type": "TelemetryScrapeError", "message": f"{mask_url(url)}: {reason}"}, "count": count}
        for url, (count, reason) in (failed or {}).items()
    ]
    return {"summary": summary, "endpoints": endpoints, "error_summary": errors}


def gpu_csv_section(data: Mapping[str, Any]) -> str:
    """To be put behind the CSV's sections: two empty lines, header, a row per GPU and figure; empty without GPUs.

    `data`: what `telemetry_data` gives, also as read back from a run's summary.
    """
    gpus = [(place, gpu) for place, page in data.get("endpoints", {}).items() for gpu in page["gpus"].values()]
    if not gpus:
        return ""
    places = [(title, name) for title, name in _PLACES if any(gpu.get(name) for _, gpu in gpus)]
    out = io.StringIO()
    out.write("\n\n")
    writer = csv.writer(out, lineterminator="\n")
    head = ["Endpoint", "GPU_Index", "GPU_Name", "GPU_UUID", "Platform", "Metric"]
    writer.writerow([*head, *_COLUMNS, *(title for title, _ in places)])
    for place, gpu in gpus:
        who = [place, gpu["gpu_index"], gpu["gpu_name"], gpu["gpu_uuid"], gpu["platform"]]
        names = [gpu.get(name) or "" for _, name in places]
        for tag, stats in gpu["metrics"].items():
            cells = ["" if (v := stats.get(c)) is None else f"{v:.2f}" for c in _COLUMNS]
            writer.writerow([*who, f"{HEADERS[tag]} ({stats['unit']})", *cells, *names])
    return out.getvalue()


def render_gpu_jsonl(gpus: Sequence[Gpu]) -> bytes:
    """One line per GPU and reading, in order of time; counters as they stand."""
    lines: list[tuple[int, int, bytes]] = []
    for index, gpu in enumerate(gpus):
        by_time: dict[int, dict[str, float]] = {}
        for tag in HEADERS:
            sampled = gpu.samples.get(tag)
            if sampled is not None:
                for when, value in zip(sampled.times_ns.tolist(), sampled.values.tolist(), strict=True):
                    by_time.setdefault(when, {})[tag] = value
        who = {
            "gpu_index": gpu.index,
            "gpu_uuid": gpu.uuid,
            "gpu_model_name": gpu.name,
            "pci_bus_id": gpu.pci_bus_id,
            "device": gpu.device,
            "hostname": gpu.hostname,
            "namespace": gpu.namespace,
            "pod_name": gpu.pod,
            "platform": gpu.platform,
        }
        known = {k: v for k, v in who.items() if v is not None}
        for when, data in by_time.items():
            line = {**known, "timestamp_ns": when, "telemetry_source_url": gpu.url, "telemetry_data": data}
            lines.append((when, index, json_text(line, separators=(",", ":")).encode() + b"\n"))
    return b"".join(line for _, _, line in sorted(lines))

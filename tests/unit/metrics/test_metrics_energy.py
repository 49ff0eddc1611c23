"""Energy metrics by hand: 1,000 J in 2 s for ten requests of 60 + 40 tokens, half a second each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.unit.metrics.metric_rows import columns_of, stream

from aiperf.metrics.context import MetricOptions, Slo
from aiperf.metrics.gpu_energy import VENDORS, GpuEnergy
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import Summary, SummaryOptions

ENERGY = {"nvidia": GpuEnergy(1000, 2.0, 480, users=4)}
ROWS = [stream(200 * i, 200 * i + 100, 200 * i + 500, isl=60, output=40) for i in range(10)]


def summary(energy: Mapping[str, GpuEnergy] = ENERGY, **options: object) -> Summary:
    return summarise(columns_of(ROWS), replace(SummaryOptions(energy=energy), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("vendor", VENDORS)
def test_energy_metrics_by_hand(vendor: str) -> None:
    metrics = summary({vendor: ENERGY["nvidia"]}).metrics
    found = {tag: (r.stats.avg, r.unit) for tag, r in metrics.items() if tag.startswith(VENDORS)}
    assert found == {
        f"{vendor}_total_gpu_power": (480, "W"),
        f"{vendor}_average_gpu_power": (500, "W"),
        f"{vendor}_total_gpu_energy": (1000, "J"),
        f"{vendor}_output_tokens_per_joule": (0.4, "tokens/J"),
        f"{vendor}_energy_per_output_token": (2500, "mJ/token"),
        f"{vendor}_energy_per_total_token": (1000, "mJ/token"),
        f"{vendor}_energy_per_request": (100, "joules/request"),
        f"{vendor}_energy_per_user": (250, "joules/user"),
        f"{vendor}_energy_delay_product": (50, "J*s"),
        f"{vendor}_performance_per_watt": (0.01, "requests/sec/W"),
        f"{vendor}_output_tps_per_watt": (0.4, "tokens/sec/W"),
    }


def test_goodput_per_watt_needs_objectives() -> None:
    options = MetricOptions(slos=(Slo("time_to_first_token", 200e6),))
    found = summary(metrics=options)
    goodput = found.stat("goodput")
    assert goodput is not None
    assert found.stat("nvidia_goodput_per_watt") == pytest.approx(goodput / 500)


def test_what_nobody_told_is_absent() -> None:
    assert not [tag for tag in summary({}).metrics if tag.startswith(VENDORS)]
    found = summary({"nvidia": GpuEnergy(1000, 2.0)}).metrics
    assert "nvidia_total_gpu_power" not in found
    assert "nvidia_energy_per_user" not in found


def test_a_slice_has_no_energy_of_its_own() -> None:
    slices = summary(slice_ns=500_000_000).slices
    assert slices
    assert not [tag for part in slices for tag in part.metrics if tag.startswith(VENDORS)]


def test_vendors_are_never_added() -> None:
    """Energy of an AMD GPU under NVIDIA's names is what AIPerf's files do not have."""
    found = summary({"nvidia": GpuEnergy(1000, 2.0), "amd": GpuEnergy(300, 2.0)})
    assert found.stat("nvidia_total_gpu_energy") == 1000
    assert found.stat("amd_total_gpu_energy") == 300

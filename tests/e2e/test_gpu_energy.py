"""A run with a DCGM exporter beside it: figures in every file, and again from disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from tests.e2e.runs import Sim
from tests.unit.telemetry.fake_server import Say, fake_server, prometheus

from aiperf import Run, report, write

WATTS = 500.0


def dcgm(_: int) -> Say:
    """A GPU that draws a steady 500 W, by its gauge and by its counter (mJ)."""
    labels = '{gpu="0",UUID="GPU-a",device="nvidia0",modelName="NVIDIA H100",Hostname="node"}'
    return prometheus(
        "# TYPE DCGM_FI_DEV_POWER_USAGE gauge\n"
        f"DCGM_FI_DEV_POWER_USAGE{labels} {WATTS}\n"
        "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\n"
        f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{labels} {time.monotonic() * WATTS * 1000}\n"
    )


def test_energy_is_in_every_file_and_the_same_from_disk(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=20, itl_ms=3)
    with fake_server({("GET", "/metrics"): dcgm}) as gpus:
        run = sim.run(
            concurrency=8,
            request_count=120,
            osl=20,
            no_gpu_telemetry=False,
            gpu_telemetry=(gpus.url,),
            server_metrics_interval=0.1,
        )
    told = json.loads((run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert told["nvidia_average_gpu_power"] == {"unit": "W", "avg": pytest.approx(WATTS, rel=0.05)}
    joules = told["nvidia_total_gpu_energy"]["avg"]
    assert told["nvidia_energy_per_request"]["avg"] == pytest.approx(joules / 120)
    assert told["nvidia_energy_per_output_token"]["avg"] == pytest.approx(1000 * joules / (120 * 20))
    assert told["nvidia_energy_per_user"]["avg"] == pytest.approx(joules / 8)
    table = (run.dir / "profile_export_aiperf.csv").read_text(encoding="utf-8")
    assert "Total GPU Energy (J)" in table
    assert "NVIDIA GPU Power Usage (W)" in table
    assert "AIPerf | GPU Energy" in (run.dir / "profile_export_console.txt").read_text(encoding="utf-8")
    again = write(report(run.dir))
    assert (run.dir / "profile_export_aiperf.csv").read_text(encoding="utf-8") == table
    assert again.summary().stat("nvidia_total_gpu_energy") == joules
    assert Run.open(run.dir).summary().stat("nvidia_total_gpu_energy") == joules

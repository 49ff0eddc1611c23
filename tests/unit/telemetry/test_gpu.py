"""GPU figures: names and units of AIPerf, energy against sums worked out by hand, what is missing is absent."""

from __future__ import annotations

import csv
import io
import json
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tests.conftest import Golden
from tests.unit.telemetry.fake_server import fake_server, prometheus
from tests.unit.telemetry.pages import NS_PER_S, START, read_texts, texts_of

from aiperf.config.model import Config
from aiperf.errors import ConfigError
from aiperf.metrics.gpu_energy import GpuEnergy
from aiperf.telemetry.gpu.courses import gpu_courses
from aiperf.telemetry.gpu.devices import Gpu, Sampled, gpus_of
from aiperf.telemetry.gpu.energy import measure_energy
from aiperf.telemetry.gpu.export import gpu_csv_section, gpu_stats, render_gpu_jsonl, telemetry_data
from aiperf.telemetry.gpu.sources import DEFAULT_PAGES, watch_gpus


def sampled(values: list[float], unit: str = "W", *, is_counter: bool = False) -> Sampled:
    """One value a second from START on."""
    return Sampled(
        unit, is_counter, START + NS_PER_S * np.arange(len(values), dtype=np.int64), np.array(values, dtype=float)
    )


def gpu(**samples: Sampled) -> Gpu:
    return Gpu(place="h:9400", url="http://h:9400/metrics", index=0, name="H100", uuid="GPU-a", samples=samples)


def config(*sources: str, **more: object) -> Config:
    return Config.model_validate({"telemetry": {"gpu_telemetry": sources, "server_metrics_interval": 60, **more}})


# --- DCGM -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="two")
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> tuple[Gpu, ...]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return gpus_of([read_texts(texts_of("dcgm"), "http://h:9400/metrics")])


def test_gpus_of_a_page(two: tuple[Gpu, ...]) -> None:
    assert [g.label for g in two] == ["h:9400 | GPU 0 | NVIDIA H100", "h:9400 | GPU 1 | NVIDIA H100"]
    first = two[0].samples
    assert first["nvidia_power_usage"].values.tolist() == [302.5, 500]
    assert first["nvidia_energy_consumption"].values.tolist() == pytest.approx([0.001, 0.006])
    assert first["nvidia_memory_used"].values.tolist() == pytest.approx([41.94304, 62.91456])  # MiB → GB
    assert first["nvidia_sm_utilization"].values.tolist() == [50, 75]
    assert "nvidia_sm_utilization" not in two[1].samples


def test_gpu_on_two_pages_is_one() -> None:
    page = read_texts(texts_of("dcgm"), "http://h:9400/metrics")
    again = read_texts(texts_of("dcgm"), "http://h:9401/metrics")
    assert [g.place for g in gpus_of([page, again])] == ["h:9400", "h:9400"]


def test_amd_s_exporter_is_read_with_its_own_names() -> None:
    gpus = gpus_of([read_texts(texts_of("rocm"), "http://h:5000/metrics")])
    assert [(g.index, g.uuid, g.platform, g.name, g.hostname) for g in gpus] == [
        (0, "S0", "amd", "102-G30218-00", "node"),
        (1, "S1", "amd", "102-G30218-00", "node"),
    ]
    assert gpus[0].samples["amd_power"].values.tolist() == [140, 740]
    assert gpus[0].samples["amd_memory_used"].values.tolist() == [1, 180]  # MB → GB
    assert gpus[0].samples["amd_sm_clock"].values.tolist() == [500, 2100], "the memory's clock is another"
    assert "amd_sm_clock" not in gpus[1].samples
    energy = measure_energy(gpus, START, START + NS_PER_S)
    assert set(energy) == {"amd"}
    assert energy["amd"].energy_j == pytest.approx((140 + 740) / 2 + (130 + 700) / 2)
    courses = gpu_courses([read_texts(texts_of("rocm"))], (START, START + NS_PER_S), START)
    assert {(c.name, c.label) for c in courses} >= {("gpu_utilization", "GPU 0"), ("gpu_power", "GPU 1")}


def test_telemetry_data(two: tuple[Gpu, ...], golden: Golden) -> None:
    found = telemetry_data(two, ["http://h:9400/metrics", "http://h:9401/metrics"], START, START + NS_PER_S)
    golden("telemetry/telemetry_data.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def test_a_page_below_a_path_keeps_it_and_failed_readings_are_told() -> None:
    """AIPerf's key: host, port and path without `/metrics`; its `error_summary` counts what did not answer."""
    found = gpus_of([read_texts(texts_of("dcgm"), "http://u:p@h:9400/node1/metrics")])
    assert {g.place for g in found} == {"h:9400/node1"}
    failed = {"http://u:p@h:9400/metrics": (3, "connection refused")}
    told = telemetry_data(found, [], START, START + NS_PER_S, failed)["error_summary"]
    assert isinstance(told, list)
    assert told[0]["count"] == 3
    assert told[0]["error_details"]["message"].endswith("h:9400/metrics: connection refused")
    assert "u:p" not in json.dumps(told)


def test_jsonl(two: tuple[Gpu, ...], golden: Golden) -> None:
    golden("telemetry/gpu_telemetry_export.jsonl", render_gpu_jsonl(two).decode())


def test_csv_section(two: tuple[Gpu, ...]) -> None:
    data = telemetry_data(two, [], START, START + NS_PER_S)
    text = gpu_csv_section(data)
    assert text.startswith("\n\nEndpoint,GPU_Index,GPU_Name,GPU_UUID,Platform,Metric,avg,min,max,sum,p1,")
    head, *rows = csv.reader(io.StringIO(text.lstrip()))
    assert head[-2:] == ["std", "Hostname"]
    assert {len(r) for r in rows} == {len(head)}
    power = next(r for r in rows if r[1] == "0" and r[5] == "NVIDIA GPU Power Usage (W)")
    assert power[6:10] == ["401.25", "302.50", "500.00", "802.50"]
    assert gpu_csv_section(json.loads(json.dumps(data))) == text, "also as a later report reads it back"
    assert gpu_csv_section(telemetry_data((), [], START, START + NS_PER_S)) == ""


# --- counters and integrals ---------------------------------------------------------------------------------------------------


def test_counter_is_interpolated_at_the_edges_of_the_phase() -> None:
    """Readings a second apart: half of the first and of the last second belong to the phase."""
    energy = sampled([0, 100, 200, 400], "MJ", is_counter=True)
    assert energy.growth(START + NS_PER_S // 2, START + 2 * NS_PER_S + NS_PER_S // 2) == pytest.approx(50 + 100 + 100)
    assert gpu_stats(energy, START + NS_PER_S // 2, START + 2 * NS_PER_S + NS_PER_S // 2) == {
        "unit": "MJ",
        "avg": pytest.approx(250),
    }


def test_counter_that_starts_again() -> None:
    assert sampled([100, 150, 20], is_counter=True).growth(START, START + 2 * NS_PER_S) == 70


def test_integral_of_power() -> None:
    assert sampled([100, 200, 200]).integral(START, START + 2 * NS_PER_S) == pytest.approx(150 + 200)
    assert sampled([100, 200, 200]).integral(START + NS_PER_S // 2, START + NS_PER_S) == pytest.approx(0.5 * 175)
    assert sampled([100]).integral(START - NS_PER_S, START + NS_PER_S) == pytest.approx(200)


def test_nothing_read_in_the_phase_is_absent() -> None:
    assert gpu_stats(sampled([1, 2]), START + 5 * NS_PER_S, START + 6 * NS_PER_S) is None
    assert gpu_stats(sampled([1], is_counter=True), START, START + NS_PER_S) is None


# --- energy -------------------------------------------------------------------------------------------------------------------


def test_energy_is_the_counters_where_there_is_one() -> None:
    one = gpu(
        nvidia_power_usage=sampled([400, 500, 600]),
        nvidia_energy_consumption=sampled([0, 0.0006, 0.0012], "MJ", is_counter=True),
    )
    assert measure_energy([one], START, START + 2 * NS_PER_S) == {"nvidia": GpuEnergy(1200, 2.0, 500)}
    assert measure_energy([one, one], START, START + NS_PER_S) == {"nvidia": GpuEnergy(1200, 1.0, 900)}


def test_energy_from_power_where_there_is_no_counter() -> None:
    found = measure_energy([gpu(nvidia_power_usage=sampled([100, 100, 100]))] * 2, START, START + 2 * NS_PER_S)
    assert found == {"nvidia": GpuEnergy(400, 2.0, 200)}


def test_no_energy_without_a_gpu_that_tells_it() -> None:
    assert measure_energy([gpu(nvidia_gpu_utilization=sampled([1, 2], "%"))], START, START + NS_PER_S) == {}
    assert measure_energy([], START, START + NS_PER_S) == {}


# --- sources ------------------------------------------------------------------------------------------------------------------


def test_exporter_is_read_at_start_and_end() -> None:
    page = prometheus(texts_of("dcgm")[0])
    with fake_server({("GET", "/metrics"): page}) as fake:
        watch = watch_gpus(config(fake.url))
        assert watch is not None
        watch.start()
        readings = watch.stop()
        assert len(gpus_of(readings)) == 2
        assert readings[0].num_readings == 2
        assert watch.notes(readings) == ()
        assert "Authorization" not in fake.seen[0][3]


def test_named_exporter_that_is_silent_is_a_note() -> None:
    with fake_server({}) as fake:
        watch = watch_gpus(config(fake.url))
        assert watch is not None
        with watch:
            pass
        assert [n.kind for n in watch.notes(watch.stop())] == ["gpu_telemetry_failed"]


def test_sources_by_option() -> None:
    watch = watch_gpus(config())
    assert watch is not None
    assert (watch.pages, watch.is_named) == (DEFAULT_PAGES, False)
    named = watch_gpus(config("dashboard", "n:9400", "n:9400/metrics"))
    assert named is not None
    assert named.pages == ("http://n:9400/metrics",)
    assert watch_gpus(config(no_gpu_telemetry=True)) is None


def test_source_that_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        watch_gpus(config("mine.csv"))
    assert "mine.csv" in caught.value.message
    assert caught.value.problems[0].hint


class NVMLError(Exception):
    """The library's."""


def fake_nvml(count: int = 1) -> ModuleType:
    """What nvidia-ml-py looks like; the energy counter is missing, as on old GPUs."""
    reads = threading.Event()

    def refuse(handle: int) -> int:
        raise NVMLError

    def temperature(handle: int, sensor: int) -> int:
        reads.set()
        return 60 + handle

    module = ModuleType("pynvml")
    functions = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: count,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetName": lambda _h: b"NVIDIA A100",
        "nvmlDeviceGetUUID": lambda _h: f"GPU-{_h}",
        "nvmlDeviceGetPciInfo": lambda _h: SimpleNamespace(busId=f"0000000{_h}:01:00.0".encode()),
        "nvmlDeviceGetPowerUsage": lambda _h: 250_000,
        "nvmlDeviceGetTotalEnergyConsumption": refuse,
        "nvmlDeviceGetUtilizationRates": lambda _h: SimpleNamespace(gpu=80, memory=30),
        "nvmlDeviceGetMemoryInfo": lambda _h: SimpleNamespace(used=10 * 2**30),
        "nvmlDeviceGetTemperature": temperature,
        "nvmlDeviceGetClockInfo": lambda _h, kind: {1: 1980, 2: 2619}[kind],
    }
    for name, value in functions.items():
        setattr(module, name, value)
    return module


def test_nvml_gives_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(2))
    watch = watch_gpus(config("pynvml"))
    assert watch is not None
    assert watch.pages == ()
    watch.start()
    readings = watch.stop()
    one, two = gpus_of(readings)
    assert (one.name, one.uuid, two.index) == ("NVIDIA A100", "GPU-0", 1)
    assert {tag: s.values[-1] for tag, s in two.samples.items()} == {
        "nvidia_power_usage": 250.0,
        "nvidia_gpu_utilization": 80.0,
        "nvidia_memory_utilization": 30.0,
        "nvidia_memory_used": pytest.approx(10.73741824),
        "nvidia_sm_clock": 1980.0,
        "nvidia_memory_clock": 2619.0,
        "nvidia_temperature": 61.0,
    }
    assert watch.stop()[0].num_readings == readings[0].num_readings == 2


def test_nvml_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(0))
    with pytest.raises(ConfigError, match="no GPU"):
        watch_gpus(config("pynvml"))


def test_nvml_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ConfigError) as caught:
        watch_gpus(config("pynvml"))
    assert "aiperf[gpu]" in str(caught.value)

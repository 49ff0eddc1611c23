"""AMD's GPUs of this host through AMD's own Python package, over a library that makes two GPUs up (`fake_amd_smi.c`).

In a process of its own each: the package loads the library once, when it is imported. It is in a folder of its own (`make amdsmi`):
where Ray finds it without the library, Ray cannot be imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.requires import AMDSMI

from aiperf.config.model import Config
from aiperf.errors import ConfigError
from aiperf.telemetry.gpu.sources import watch_gpus

SOURCE = Path(__file__).with_name("fake_amd_smi.c")
READ = """
import json
from aiperf.config.model import Config
from aiperf.errors import ConfigError
from aiperf.telemetry.gpu.devices import gpus_of
from aiperf.telemetry.gpu.energy import measure_energy
from aiperf.telemetry.gpu.sources import watch_gpus

telemetry = {"gpu_telemetry": ("amdsmi",), "server_metrics_interval": 60}
try:
    watch = watch_gpus(Config.model_validate({"telemetry": telemetry}))
except ConfigError as error:
    print(json.dumps({"error": error.message, "hint": error.hint or error.problems[0].hint}))
    raise SystemExit
watch.start()
readings = watch.stop()
times = readings[0].times_ns
gpus = gpus_of(readings)
energy = measure_energy(gpus, int(times[0]), int(times[-1]))
print(json.dumps({
    "pages": watch.pages,
    "readings": readings[0].num_readings,
    "gpus": [
        {"name": g.name, "uuid": g.uuid, "index": g.index, "platform": g.platform, "device": g.device, "url": g.url,
         "last": {tag: [s.values[-1], s.unit] for tag, s in g.samples.items()}}
        for g in gpus
    ],
    "joules": {vendor: e.energy_j for vendor, e in energy.items()},
}))
"""


def read(rocm: Path) -> dict[str, Any]:
    """What a process sees whose ROCm is there."""
    done = subprocess.run(
        [sys.executable, "-c", READ],
        env=os.environ | {"PYTHONPATH": str(AMDSMI), "ROCM_PATH": str(rocm), "ROCM_HOME": str(rocm)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)  # and nothing else is printed
    return found


def build(rocm: Path, *, gpus: int = 2, status: int = 0) -> Path:
    """`<rocm>/lib/libamd_smi.so`: the fake functions, and those that the package only looks up."""
    wrapper = (AMDSMI / "amdsmi/amdsmi_wrapper.py").read_text(encoding="utf-8")
    own = SOURCE.read_text(encoding="utf-8")
    wanted = set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper)) - set(
        re.findall(r"int (amdsmi_\w+)\(", own)
    )
    (rocm / "lib").mkdir(parents=True)
    code = rocm / "fake.c"
    code.write_text(own + "".join(f"int {name}(void) {{ return NOT_SUPPORTED; }}\n" for name in sorted(wanted)))
    defined = [f"-DFAKE_GPUS={gpus}", f"-DFAKE_STATUS={status}"]
    subprocess.run(["cc", "-shared", "-fPIC", *defined, "-o", rocm / "lib/libamd_smi.so", code], check=True)
    return rocm


@pytest.mark.amd
def test_two_gpus_through_the_package(tmp_path: Path) -> None:
    told = read(build(tmp_path))
    assert (told["pages"], told["readings"]) == ([], 2)
    one, two = told["gpus"]
    assert (one["name"], one["index"], one["platform"], one["device"]) == ("AMD Instinct MI300X OAM", 0, "amd", "amd0")
    assert [g["uuid"][:8] for g in told["gpus"]] == ["c4ff74a1", "aaff74a1"]
    assert one["url"] == "amdsmi://localhost"
    assert one["last"] == {
        "amd_power": [700.0, "W"],
        "amd_energy_consumption": [pytest.approx(2e9 * 15.25e-12), "MJ"],
        "amd_gfx_activity": [97.0, "%"],
        "amd_umc_activity": [41.0, "%"],
        "amd_mm_activity": [3.0, "%"],
        "amd_memory_used": [pytest.approx(180.0), "GB"],
        "amd_temperature": [71.0, "°C"],
        "amd_ecc_uncorrectable": [0.0, "count"],
        "amd_sm_clock": [2100.0, "MHz"],
        "amd_mem_clock": [1300.0, "MHz"],
    }
    assert two["last"]["amd_power"] == [650.0, "W"], "where a GPU lacks the socket's power, the current one counts"
    assert not {"amd_energy_consumption", "amd_mm_activity"} & set(two["last"]), "what a GPU refuses is absent"
    # The first GPU's counter, and of the second its power over the (short) time.
    assert told["joules"]["amd"] == pytest.approx(1e9 * 15.25e-6, rel=0.1)


@pytest.mark.amd
@pytest.mark.parametrize(("gpus", "status"), [(0, 0), (2, 34)])
def test_no_gpu_and_no_driver_are_said(tmp_path: Path, gpus: int, status: int) -> None:
    told = read(build(tmp_path, gpus=gpus, status=status))
    assert "AMD SMI found no GPU on this host" in told["error"]
    assert "exporter" in told["hint"]


@pytest.mark.amd
def test_without_the_library_nothing_is_printed(tmp_path: Path) -> None:
    told = read(tmp_path)
    assert "needs AMD SMI" in told["error"]
    assert "/opt/rocm" in told["hint"]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with pytest.raises(ConfigError) as caught:
        watch_gpus(Config.model_validate({"telemetry": {"gpu_telemetry": ("amdsmi",)}}))
    assert "/opt/rocm" in str(caught.value)

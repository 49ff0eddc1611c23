"""`run.json` of earlier versions is still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiperf.records.run_json import RUN_FILE, load_run_json

ENTRY = {"energy_j": 12.0, "seconds": 3.0, "power_w": 4.0}


@pytest.mark.parametrize(("kept", "count"), [(None, 0), (ENTRY, 1), ([ENTRY, {**ENTRY, "vendor": "amd"}], 2), ([], 0)])
def test_energy_of_one_vendor_is_that_of_nvidia(tmp_path: Path, kept: object, count: int) -> None:
    """Runs from before AMD's GPUs were read have one entry, or null: `aiperf report` must open them."""
    (tmp_path / RUN_FILE).write_text(json.dumps({"config": {}, "gpu_energy": kept}), encoding="utf-8")
    found = load_run_json(tmp_path).gpu_energy
    assert len(found) == count
    assert all(e.energy_j == 12 for e in found)
    if count == 1:
        assert found[0].vendor == "nvidia"

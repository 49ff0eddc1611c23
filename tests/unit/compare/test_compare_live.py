"""Two live pairs: the same server twice, and one that is 5 % slower between tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiperf import profile
from aiperf._core import SimServer
from aiperf.compare.comparison import compare_runs
from aiperf.config.resolve import config_from
from aiperf.run.imported import load_many

pytestmark = pytest.mark.slow


def measure(url: str, folder: Path) -> Path:
    config = config_from(
        model="m",
        url=url,
        streaming=True,
        isl=20,
        osl=20,
        tokenizer="builtin",
        artifact_dir=str(folder),
        report=False,
        concurrency=32,  # so many that a machine busy with other tests does not hide 5 %
        request_count=640,
        no_server_metrics=True,
        no_gpu_telemetry=True,
        calibrate=False,
    )
    return profile(config).dir


def test_same_server_twice_and_a_slower_one(tmp_path: Path) -> None:
    with (
        SimServer(json.dumps({"ttft_ms": 60, "itl_ms": 8, "models": ["m"]})) as server,
        SimServer(json.dumps({"ttft_ms": 60, "itl_ms": 8.4, "models": ["m"]})) as slower,
    ):
        first, again, slow = (
            measure(url, tmp_path / name)
            for name, url in (("a", server.url), ("again", server.url), ("slow", slower.url))
        )
    same, worse = compare_runs(load_many([first, again, slow])).pairs
    assert same.relation.kind == "alike", "another seed was drawn"
    assert "inter_token_latency:avg" not in {f"{d.tag}:{d.stat}" for d in same.differences if d.is_significant}
    itl = next(d for d in worse.differences if d.tag == "inter_token_latency" and d.stat == "avg")
    assert itl.verdict == "worse"
    assert itl.change == pytest.approx(0.05, abs=0.015)

"""Five templates of AIPerf 0.13's own wheel, run: the phases, loads and limits that each describes. `.ci/run` names the folder in `UPSTREAM_TEMPLATES`.

What is changed in them: the server's address, the tokenizer, and times (a minute is a second), for a test has no two minutes.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.runs import Sim

from aiperf.cli import main

FOLDER = Path(os.environ.get("UPSTREAM_TEMPLATES", "nowhere"))
MODEL = "meta-llama/Llama-3.1-8B-Instruct"

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs AIPerf's templates (UPSTREAM_TEMPLATES)"),
    pytest.mark.slow,
]

Records = list[dict[str, Any]]
RunTemplate = Callable[..., tuple[Sim, Records, dict[str, Any]]]


@pytest.fixture
def run_template(
    serve: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunTemplate:
    """Runs one; the server, the records, and the summary."""

    def run(name: str, **server: object) -> tuple[Sim, Records, dict[str, Any]]:
        sim = serve(models=[MODEL], **{"ttft_ms": 2, **server})
        monkeypatch.chdir(sim.dir)
        text = (
            (FOLDER / f"{name}.yaml")
            .read_text(encoding="utf-8")
            .replace("localhost:8000", sim.url.removeprefix("http://"))
        )
        text = re.sub(
            r"(?m)^( *(?:duration|rateRamp|gracePeriod|sliceDuration): )(\d+)s?",
            lambda m: f"{m[1]}{int(m[2]) / 60:g}",
            text,
        )
        path = sim.dir / "template.yaml"
        path.write_text(text, encoding="utf-8")
        out = sim.dir / "out"
        words = [
            "profile",
            "--config",
            str(path),
            "--tokenizer",
            "builtin",
            "--artifact-dir",
            str(out),
            "--no-report",
            "--ui",
            "none",
        ]
        code = main(words)
        told = capsys.readouterr()
        assert code == 0, told.err
        lines = (out / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
        summary: dict[str, Any] = json.loads((out / "profile_export_aiperf.json").read_text(encoding="utf-8"))
        return sim, [json.loads(line) for line in lines], summary

    return run


def phases(records: Records) -> Counter[str]:
    return Counter(r["metadata"]["benchmark_phase"] for r in records)


def most_in_flight(records: Records, phase: str = "profiling") -> int:
    times = [r["metadata"] for r in records if r["metadata"]["benchmark_phase"] == phase]
    moments = sorted([(m["request_end_ns"], -1) for m in times] + [(m["request_start_ns"], 1) for m in times])
    level = most = 0
    for _, step in moments:
        level += step
        most = max(most, level)
    return most


def test_minimal(run_template: RunTemplate) -> None:
    sim, records, summary = run_template("minimal", itl_ms=0.2)
    assert phases(records) == {"profiling": 100}
    assert 6 <= most_in_flight(records) <= 8
    assert summary["input_sequence_length"]["avg"] == 512
    assert summary["output_sequence_length"]["avg"] == 128
    assert (
        summary["input_config"]["phases"][0] | {"requests": 100, "concurrency": 8}
        == summary["input_config"]["phases"][0]
    )
    assert len([row for row in sim.ledger() if row.get("request_id")]) == 100


def test_inline_dataset(run_template: RunTemplate) -> None:
    sim, records, _ = run_template("inline_dataset", osl=4)
    assert phases(records) == {"profiling": 50}
    assert most_in_flight(records) <= 4
    asked = Counter(row["max_tokens"] for row in sim.ledger() if row.get("request_id"))
    assert asked[200] == 10, "one of its five records asks for 200 tokens"


def test_goodput_slo(run_template: RunTemplate) -> None:
    """A warm-up of 100 at 16, two seconds at 30 requests/s, four limits."""
    _, records, summary = run_template("goodput_slo", itl_ms=1)
    found = phases(records)
    assert found["warmup"] == 100
    assert most_in_flight(records, "warmup") <= 16
    assert 35 <= found["profiling"] <= 90, "a Poisson process with a mean of 60"
    assert 0.9 * found["profiling"] <= summary["good_request_count"]["avg"] <= found["profiling"]
    assert len(summary["input_config"]["slos"]) == 4


def test_request_cancellation(run_template: RunTemplate) -> None:
    """At 20 requests/s for two seconds; a tenth is cancelled half a second after it was sent."""
    _, records, summary = run_template("request_cancellation", ttft_ms=5, itl_ms=1.2)
    counts = phases(records)
    assert counts["warmup"] == 50
    assert 20 <= counts["profiling"] <= 65
    cancelled = [r for r in records if r["metadata"]["was_cancelled"]]
    assert all(r["error"]["code"] == 499 for r in cancelled)
    assert all(r["metadata"]["benchmark_phase"] == "profiling" for r in cancelled)
    assert summary["input_config"]["phases"][1]["cancellation"] == {"rate": 10.0, "delay": 0.5}
    assert len(cancelled) <= 0.35 * counts["profiling"]


def test_warmup_profiling(run_template: RunTemplate) -> None:
    """A warm-up of 100 at 8, then a gamma process that reaches 50 requests/s within half a second."""
    _, records, summary = run_template("warmup_profiling")
    found = phases(records)
    assert found["warmup"] == 100
    assert most_in_flight(records, "warmup") <= 8
    assert 170 <= found["profiling"] <= 280, "5 s at 50, the first half second a ramp"
    phase = summary["input_config"]["phases"][1]
    assert (phase["type"], phase["rate"], phase["concurrency"], phase["smoothness"]) == ("gamma", 50.0, 64, 1.5)

"""A package of somebody else's, one file and one entry point for each kind of plug-in: found in help, files, page and the lists of the docs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.runs import MODEL, Sim

FILES = {
    "endpoints": (
        "acme_chat",
        """'Acme: chat by another name.'
from aiperf.endpoints.apis.chat import ENDPOINT as CHAT

class Acme(type(CHAT)):
    features = type(CHAT).features

ENDPOINT = Acme()
""",
    ),
    "traces": (
        "acme_trace",
        """'Acme: lines of its gateway.'
from aiperf.traces.formats import mooncake_trace as m

FILES, FIELDS, Options, load, retime = m.FILES, (frozenset({"acme"}),), m.Options, m.load, m.retime

def read(path, options):
    return m.read(path, options)
""",
    ),
    "charts": (
        "acme_dots",
        """'Acme: a dot per request.'
def draw(runs):
    values = [{"x": i} for i in range(runs[0].num_rows)]
    return {"title": "Acme dots", "data": {"values": values}, "mark": "point", "encoding": {"x": {"field": "x", "type": "quantitative"}}}
""",
    ),
    "exporters": (
        "acme_export",
        """'Acme: what its dashboard eats.'
from aiperf.reports import Exporter

EXPORTER = Exporter(
    what="acme", path=lambda run: run.dir / "acme.txt", render=lambda run: f"{run.summary()['request_count'].avg:g} requests"
)
""",
    ),
    "metrics": (
        "acme_metric",
        """'Acme: two of them.'
import numpy as np
from aiperf.metrics import metric

@metric("acme_double_latency", header="Acme Double Latency", unit="ns", formula="2 × request_latency", console_order=9999)
def acme_double_latency(r):
    "Twice the latency; source: Acme."
    return 2 * r.value("request_latency")
""",
    ),
}


@pytest.fixture
def run_aiperf(tmp_path: Path) -> Callable[..., str]:
    """Run a command with the package installed; its stdout."""
    site = tmp_path / "site"
    for group, (name, text) in FILES.items():
        site.mkdir(exist_ok=True)
        (site / f"{name}.py").write_text(text, encoding="utf-8")
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[aiperf.{group}]\n{name} = {name}\n", encoding="utf-8")

    def run(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "120", "NO_COLOR": "1"}
        ended = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=90, check=False, env=environment
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


@pytest.mark.slow
def test_plug_ins_of_another_package_are_found_everywhere(
    serve: Callable[..., Sim], run_aiperf: Callable[..., str], tmp_path: Path
) -> None:
    sim = serve()
    shown = run_aiperf("-m", "aiperf", "profile", "--help")
    assert "acme_chat" in shown
    assert "acme_trace" in shown
    assert "acme_dots" in run_aiperf("-m", "aiperf", "plot", "--help")
    assert "2 × request_latency" in run_aiperf("-m", "aiperf", "explain", "acme_double_latency")

    line = {"acme": 1, "timestamp": 0, "input_length": 20, "output_length": 4}
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(line) + "\n" for _ in range(8)), encoding="utf-8")
    folder = tmp_path / "run"
    screen = run_aiperf(
        "-m",
        "aiperf",
        "profile",
        "--model",
        MODEL,
        "--url",
        sim.url,
        "--endpoint-type",
        "acme-chat",
        "--streaming",
        "--input-file",
        str(trace),
        "--custom-dataset-type",
        "acme_trace",
        "--no-fixed-schedule",
        "--concurrency",
        "2",
        "--tokenizer",
        "builtin",
        "--artifact-dir",
        str(folder),
        "--no-server-metrics",
        "--no-gpu-telemetry",
        "--no-calibrate",
    )
    assert "Acme Double Latency" in screen
    assert (folder / "acme.txt").read_text(encoding="utf-8") == "8 requests"
    assert str(folder / "acme.txt") in screen
    summary = json.loads((folder / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert summary["acme_double_latency"]["avg"] == pytest.approx(2 * summary["request_latency"]["avg"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Acme Double Latency" in page
    assert "Acme dots" in page
    run_aiperf("-m", "aiperf", "plot", str(folder), "--chart", "acme_dots", "--format", "svg")
    assert (folder / "plots" / "acme_dots.svg").exists()

    listed = run_aiperf("-c", "from aiperf.cli.reference import *; print(render_plugins(), render_metrics())")
    for _, (name, text) in sorted(FILES.items()):
        if name != "acme_metric":
            assert f"| `{name}` | {text.splitlines()[0].strip(chr(39)).rstrip('.')} |" in listed
    assert "| `acme_double_latency` |" in listed


def test_an_entry_point_that_is_no_plug_in_is_refused_by_name(tmp_path: Path) -> None:
    info = tmp_path / "wrong-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[aiperf.endpoints]\nwrong = json:dumps\n", encoding="utf-8")
    words = [
        "-m",
        "aiperf",
        "profile",
        "--model",
        "m",
        "--url",
        "http://127.0.0.1:9",
        "--endpoint-type",
        "wrong",
        "--no-probe",
    ]
    ended = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert ended.returncode != 0
    assert "`json:dumps` is not a usable endpoint" in ended.stderr
    assert "Traceback" not in ended.stderr

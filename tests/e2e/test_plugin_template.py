"""The template package is built, installed and used; AIPerf's own plug-ins are named with what serves instead."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.runs import MODEL, Sim

TEMPLATE = Path(__file__).parents[2] / "docs" / "plugin-template"


def install(site: Path, work: Path) -> None:
    """By pip where its build backend is there, else as pip lays it out."""
    copy = work / "template"
    shutil.copytree(TEMPLATE, copy)
    if all(importlib.util.find_spec(name) is not None for name in ("setuptools", "wheel")):
        words = [
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--target",
            str(site),
            str(copy),
        ]
        subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True, timeout=120)
        return
    project = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(copy / "aiperf_example", site / "aiperf_example")
    info = site / "aiperf_example-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aiperf-example\nVersion: 0.1.0\n", encoding="utf-8")
    groups = project["entry-points"].items()
    text = "".join(f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in found.items()) for group, found in groups)
    (info / "entry_points.txt").write_text(text, encoding="utf-8")


def aiperf(site: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "140", "NO_COLOR": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "aiperf", *words],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_template_is_installed_and_used(serve: Callable[..., Sim], tmp_path: Path) -> None:
    sim, site = serve(), tmp_path / "site"
    install(site, tmp_path)
    assert "example_answers" in aiperf(site, "plugins", "endpoints")
    assert "checked" in aiperf(site, "plugins", "--validate")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "why is the sky blue", "words": 4}\n{"question": "how"}\n', encoding="utf-8")
    folder = tmp_path / "run"
    words = [
        "profile",
        "--model",
        MODEL,
        "--url",
        sim.url,
        "--endpoint-type",
        "example_answers",
        "--tokenizer",
        "builtin",
    ]
    words += ["--custom-dataset-type", "example_questions", "--input-file", str(questions), "--request-count", "4"]
    words += ["--artifact-dir", str(folder), "--no-report", "--no-calibrate", "--export-level", "raw"]
    assert "Example Shrinkage" in aiperf(site, *words)
    summary = json.loads((folder / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert summary["example_shrinkage"]["avg"] > 0
    raw = [json.loads(row) for row in (folder / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["payload"]["user"] for row in raw} == {"example"}
    assert {row["request_headers"]["X-Example"] for row in raw} == {"1"}


def test_a_plug_in_of_aiperf_is_named_with_what_serves_instead(tmp_path: Path) -> None:
    info = tmp_path / "nvidia_rag-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-rag\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[aiperf.plugins]\nnvidia_rag = nvidia_rag:plugins\n", encoding="utf-8")
    told = aiperf(tmp_path, "plugins")
    assert "`nvidia_rag` (package `nvidia-rag`)" in told
    assert "--endpoint /v1/generate" in told

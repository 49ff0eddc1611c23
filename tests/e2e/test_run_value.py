"""The run as a value: silent, the same from disk, and computed alike by whoever asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.runs import MODEL, Sim

from aiperf import Run, config_from, profile, report, sweep, write
from aiperf.reports.page.view import plot_run
from aiperf.run.imported import run_of
from aiperf.sweeps.page import load_run


def test_profile_and_write_print_nothing(serve: Callable[..., Sim], capfd: pytest.CaptureFixture[str]) -> None:
    sim = serve()
    run = sim.run(report=True, auto_plot=True)
    assert run.exit_code == 0
    assert run._repr_html_().startswith("<div><table>")
    assert run.figure("latency_ecdf").svg().startswith(b"<svg")
    assert capfd.readouterr() == ("", "")
    assert {"summary", "table", "requests", "records", "page", "charts"} <= {what for what, _ in run.written}
    assert all(path.exists() for _, path in run.written)


def test_a_run_from_disk_is_the_same_value(serve: Callable[..., Sim]) -> None:
    run = serve(ttft_ms=20).run(goodput="time_to_first_token:500", slice_duration=1)
    again = Run.open(run.dir)
    assert again.options == run.options
    assert again.json == run.json
    assert {t: r.stats for t, r in again.summary().metrics.items()} == {
        t: r.stats for t, r in run.summary().metrics.items()
    }
    assert again.data.figures == run.data.figures
    strict = Run.open(run.dir, goodput="time_to_first_token:1")
    assert strict.summary()["goodput"].avg == 0


def test_an_embeddings_run_with_streaming_is_computed_alike_by_all(serve: Callable[..., Sim]) -> None:
    """It does not stream, whatever the flag says: once a page and a sweep took the flag at its word, and showed other metrics."""
    sim = serve()
    asked = {
        "model": MODEL,
        "url": sim.url,
        "endpoint_type": "embeddings",
        "streaming": True,
        "request_count": 12,
        "isl": 20,
        "tokenizer": "builtin",
        "no_server_metrics": True,
        "no_gpu_telemetry": True,
        "calibrate": False,
        "probe": False,
    }
    run = write(profile(config_from({**asked, "concurrency": 2, "artifact_dir": sim.dir / "one"})))
    study = sweep(config_from({**asked, "concurrency": "1,2", "artifact_dir": sim.dir / "study"}))
    assert study.table is not None
    expected = set(run.summary().metrics)
    assert "time_to_first_token" not in expected
    of_study = [plot_run(run_of(r)) for p in study.table.points for r in p.runs]
    assert len(of_study) == 2
    seen = {
        "report": set(report(run.dir).summary().metrics),
        "view, plot": set(load_run(run.dir).summary.metrics),
        **{f"sweep {one.label}": set(one.summary.metrics) for one in of_study},
    }
    assert seen == dict.fromkeys(seen, expected)
    options = {one.options for one in (load_run(run.dir), *of_study)}
    assert options == {run.options.metrics}


def test_run_json_keeps_what_another_version_wrote(serve: Callable[..., Sim], tmp_path: Path) -> None:
    run = serve().run()
    path = run.dir / "run.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told |= {"status": "running", "of_the_future": {"x": 1}}
    path.write_text(json.dumps(told), encoding="utf-8")
    report(run.dir)
    after = json.loads(path.read_text(encoding="utf-8"))
    assert after["of_the_future"] == {"x": 1}
    assert after["status"] == "recovered"
    assert after["outcome"] == told["outcome"]

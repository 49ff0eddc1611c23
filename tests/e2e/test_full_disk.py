"""A disk that is full for a while, for ever, and at each step: what is counted, said and written then. On small file systems in memory."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import aiperf, arguments, started, wait_for
from tests.e2e.disks import Disk, mounted
from tests.e2e.runs import Sim, simulate

from aiperf.config.resolve import config_from
from aiperf.records import open_run

pytestmark = [pytest.mark.root, pytest.mark.slow]
if os.geteuid() != 0:
    pytest.skip("mounting needs root", allow_module_level=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "small", 24) as found:
        yield found


def words(sim: Sim, disk: Disk, *flags: str) -> list[str]:
    kept = arguments(sim, "--concurrency", "8", *flags)
    kept[kept.index("--artifact-dir") + 1] = str(disk.path / "run")
    return kept


def facts_of(disk: Disk) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((disk.path / "run" / "run.json").read_text(encoding="utf-8"))
    return found


def account_of(facts: dict[str, Any]) -> tuple[int, int, int]:
    """(requests sent, records written, records lost)."""
    sent = sum(p["sent"] for p in facts["outcome"]["phases"])
    return sent, facts["outcome"]["journal_rows"], facts["outcome"]["journal_lost_rows"]


def lines_of(file: Any, into: list[str]) -> threading.Thread:
    thread = threading.Thread(target=lambda: into.extend(file), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("level", ["records", "raw"])
def test_a_disk_full_for_four_seconds_costs_nothing(serve: Callable[..., Sim], disk: Disk, level: str) -> None:
    sim = serve(ttft_ms=5)
    with started(
        words(sim, disk, "--request-rate", "200", "--benchmark-duration", "7", "--export-level", level)
    ) as process:
        said: list[str] = []
        reader = lines_of(process.stderr, said)
        wait_for(lambda: sim.stats()["requests"] >= 200, "requests")
        disk.fill()
        wait_for(lambda: any("wait in memory" in line for line in said), "the message")
        time.sleep(4)
        disk.free()
        wait_for(lambda: any("takes the records again" in line for line in said), "the message")
        assert process.wait(60) == 0, said
        reader.join(10)
    assert "No space left on device" in next(line for line in said if "wait in memory" in line)
    facts = facts_of(disk)
    sent, written, lost = account_of(facts)
    assert (written, lost) == (sent, 0)
    assert open_run(disk.path / "run").num_rows == sent == len(sim.ledger())
    kinds = [n["kind"] for n in facts["notes"]]
    assert "records_delayed" in kinds
    assert "records_lost" not in kinds
    assert facts["outcome"]["journal_longest_wait_ns"] > 3.5e9
    if level == "raw":
        raw = (disk.path / "run" / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()
        assert len({json.loads(line)["metadata"]["x_request_id"] for line in raw}) == len(raw) == sent


def test_a_disk_that_stays_full_ends_in_a_partial_report(serve: Callable[..., Sim], disk: Disk) -> None:
    sim = serve(ttft_ms=5)
    with started(words(sim, disk, "--benchmark-duration", "3")) as process:
        said: list[str] = []
        reader = lines_of(process.stderr, said)
        out: list[str] = []
        shown = lines_of(process.stdout, out)
        wait_for(lambda: sim.stats()["requests"] >= 200, "requests")
        wait_for(lambda: any((disk.path / "run" / "journal").glob("*.arrows")), "the journal")
        time.sleep(1)  # something is on the disk
        disk.fill()
        code = process.wait(60)
        reader.join(10)
        shown.join(10)
    text = "".join(said)
    assert code == 1, text
    assert "internal" not in text
    assert "bug" not in text
    assert "records are lost, as the disk did not take them" in text
    # Files that come after the journal is gone may find its room.
    assert "run.json`: No space left on device" in text
    assert any("LLM Metrics" in line for line in out)
    assert any("records are lost (the disk or a worker failed)" in line for line in out)  # the certificate
    disk.free()
    done = aiperf("report", str(disk.path / "run"))
    assert "LLM Metrics" in done.stdout
    assert 0 < open_run(disk.path / "run").num_rows < len(sim.ledger())


def test_past_the_bound_the_load_stops(serve: Callable[..., Sim], disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = importlib.import_module("aiperf.run.profile")

    sim = serve(ttft_ms=5)
    build = recipe.build_settings
    monkeypatch.setattr(
        recipe,
        "build_settings",
        lambda *a, **k: build(*a, **k).model_copy(update={"queue_bytes": 200_000, "queue_patience_ns": 500_000_000}),
    )
    timer = threading.Timer(2.0, disk.fill)
    timer.start()
    run = recipe.profile(
        config_from(
            {
                "model": "qwen3-0.6b",
                "url": sim.url,
                "endpoint_type": "chat",
                "streaming": True,
                "concurrency": 8,
                "isl": 20,
                "osl": 8,
                "tokenizer": "builtin",
                "artifact_dir": disk.path / "run",
                "probe": False,
                "no_server_metrics": True,
                "calibrate": False,
                "report": False,
                "benchmark_duration": 600,
                "random_seed": 1,
            }
        )
    )
    timer.join()
    assert run.exit_code == 1
    kinds = {n.kind for n in run.notes}
    assert {"stopped_by_disk", "records_lost", "file_failed"} <= kinds
    lost = next(n.data["lost_rows"] for n in run.notes if n.kind == "records_lost")
    assert isinstance(lost, int)
    assert run.summary().counts.rows + lost == len(sim.ledger())
    assert run.summary().certificate is not None
    assert run.summary().certificate.verdict == "client-limited"


@pytest.mark.parametrize("leave_kb", [0, 24, 64, 128, 200, 300, 500, 800])
def test_short_of_space_at_any_step_each_file_is_whole_or_named(
    serve: Callable[..., Sim], disk: Disk, leave_kb: int
) -> None:
    """`report` over a run of 500 requests, with so much space left: what fits is there, what does not is named."""
    sim = serve()
    words_ = [w for w in words(sim, disk, "--request-count", "500") if w != "--no-report"]
    assert aiperf(*words_).returncode == 0
    run = disk.path / "run"
    whole = {p.name: p.stat().st_size for p in run.iterdir() if p.is_file()}
    rerun = [
        "profile_export_aiperf.json",
        "profile_export_aiperf.csv",
        "profile_export.jsonl",
        "profile_export_console.txt",
        "report.html",
    ]
    for name in rerun:
        (run / name).unlink()
    disk.fill(leave=leave_kb * 1024)
    done = aiperf("report", str(run))
    there = [name for name in rerun if (run / name).exists()]
    for name in rerun:
        named = f"`{run / name}`: No space left on device" in done.stderr
        assert named != (name in there), (name, done.stderr)
    for name in there:
        assert (run / name).stat().st_size > 0.9 * whole[name]
    assert done.returncode == (0 if len(there) == len(rerun) else 1)
    assert not list(run.glob("*.part"))
    assert "internal" not in done.stderr
    assert "LLM Metrics" in done.stdout
    assert open_run(run).num_rows == 500


def test_a_folder_removed_during_the_run_is_said(tmp_path: Path) -> None:
    with simulate(tmp_path, ttft_ms=5) as sim:
        words = arguments(sim, "--concurrency", "4", "--benchmark-duration", "120")
        with started(words) as process:
            wait_for(lambda: sim.stats()["requests"] >= 100, "requests")
            shutil.rmtree(sim.dir / "run")
            _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "removed" in err
    assert "internal" not in err


def test_a_full_disk_at_the_start_is_said_before_the_first_request(serve: Callable[..., Sim], disk: Disk) -> None:
    sim = serve()
    disk.fill()
    done = aiperf(*words(sim, disk, "--request-count", "10"))
    assert done.returncode in {1, 2}
    assert "No space left on device" in done.stderr
    assert "internal" not in done.stderr
    assert sim.ledger() == []


def test_a_disk_that_cannot_be_written_is_said_before_the_first_request(serve: Callable[..., Sim], disk: Disk) -> None:
    sim = serve()
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    done = aiperf(*words(sim, disk, "--request-count", "10"))
    assert done.returncode == 2
    assert f"cannot write to `{disk.path / 'run'}`" in done.stderr
    assert sim.ledger() == []

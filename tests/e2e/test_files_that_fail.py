"""A file that cannot be written costs that file, named, and exit code 1: never another file, never a wrong figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.command import aiperf, arguments, run_dir
from tests.e2e.runs import Sim

from aiperf.records import open_run

FILES = (
    "profile_export_aiperf.json",
    "profile_export_aiperf.csv",
    "profile_export.jsonl",
    "profile_export_console.txt",
    "inputs.json",
    "report.html",
    "records.parquet",
)


@pytest.mark.parametrize(
    "name", ["profile_export_aiperf.csv", "profile_export_console.txt", "inputs.json", "report.html"]
)
def test_a_run_goes_on_without_the_file(serve: Callable[..., Sim], name: str) -> None:
    sim = serve()
    (run_dir(sim) / name).mkdir(parents=True)
    words = [w for w in arguments(sim, "--request-count", "10") if w != "--no-report"]
    done = aiperf(*words)
    assert done.returncode == 1, done.stderr
    assert f"`{run_dir(sim) / name}`: Is a directory" in done.stderr
    assert "internal" not in done.stderr
    assert "LLM Metrics" in done.stdout
    for other in FILES:
        assert (run_dir(sim) / other).is_file() == (other != name), other
    facts = json.loads((run_dir(sim) / "run.json").read_text(encoding="utf-8"))
    assert facts["status"] == "complete"
    assert facts["exit_code"] == 1
    assert [n["data"]["path"] for n in facts["notes"] if n["kind"] == "file_failed"] == [str(run_dir(sim) / name)]


@pytest.mark.parametrize("name", FILES[:4])
def test_a_report_goes_on_without_the_file(serve: Callable[..., Sim], name: str) -> None:
    sim = serve()
    assert sim.run().exit_code == 0
    for file in FILES[:4]:
        (run_dir(sim) / file).unlink()
    (run_dir(sim) / f"{name}.part").mkdir()
    done = aiperf("report", str(run_dir(sim)))
    assert done.returncode == 1, done.stderr
    assert f"`{run_dir(sim) / name}`: Is a directory" in done.stderr
    for other in FILES[:4]:
        assert (run_dir(sim) / other).is_file() == (other != name), other


def test_without_the_records_file_the_figures_are_the_same(
    serve: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts of tokens are in that file only; the journal stays, and a later report makes the file from it."""
    import aiperf._core as core

    sim = serve(usage="never")

    class Full:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def append(self, *_: object, **__: object) -> None:
            raise OSError(28, "No space left on device", "records.parquet.part")

        def discard(self) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(core, "RecordsWriter", Full)
        run = sim.run()
    assert run.exit_code == 1
    assert [n.data["what"] for n in run.notes if n.kind == "file_failed"] == ["records"]
    assert (run_dir(sim) / "journal").is_dir()
    lines = (run_dir(sim) / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 20
    assert [json.loads(line)["metrics"]["output_sequence_length"]["value"] for line in lines] == [8] * 20
    before = json.loads((run_dir(sim) / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert before["output_sequence_length"]["avg"] == 8
    assert aiperf("report", str(run_dir(sim))).returncode == 0
    after = json.loads((run_dir(sim) / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert after["output_sequence_length"] == before["output_sequence_length"]
    assert not (run_dir(sim) / "journal").exists()
    assert open_run(run_dir(sim)).num_rows == 20


def test_short_space_is_given_to_the_records_first(serve: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch) -> None:
    """The two files of the one pass may fail each other; made one after the other both may fit."""
    import aiperf._core as core

    sim = serve()
    written: list[Path] = []
    native = core.write_jsonl

    def first_time_full(path: Path, batch: object, **options: int) -> int:
        written.append(path)
        if len(written) == 1:
            raise OSError(28, "No space left on device", str(path))
        return native(path, batch, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(core, "write_jsonl", first_time_full)
    run = sim.run()
    assert run.exit_code == 0
    assert len((run_dir(sim) / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()) == 20
    assert not list(run_dir(sim).glob("*.part"))

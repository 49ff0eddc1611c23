"""Whose folder it is: earlier runs are moved aside, files of others stay, a folder that is being written into is left alone."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

import aiperf
from aiperf.errors import ConfigError
from aiperf.reports.paths import Files
from aiperf.run.directory import claim


def old_run(folder: Path, prefix: str | None = None) -> list[str]:
    """A run's files as they lie about; their names."""
    stem = "profile_export" if prefix is None else prefix
    names = [
        f"{stem}.jsonl",
        "records.parquet",
        "inputs.json",
        "server_metrics_export.json",
        "report.html",
        "replies.npz",
    ]
    names += (
        ["profile_export_aiperf.json"]
        if prefix is None
        else [f"{prefix}.json", f"{prefix}.csv", f"{prefix}_console.txt"]
    )
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    (folder / "logs").mkdir()
    (folder / "logs" / "aiperf.log").write_text("old", encoding="utf-8")
    config = {"output": {"profile_export_prefix": {"value": prefix}}}
    (folder / "run.json").write_text(json.dumps({"config": config}), encoding="utf-8")
    return sorted([*names, "logs", "run.json"])


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("prefix", [None, "mine"])
def test_only_what_a_run_writes_is_moved(tmp_path: Path, prefix: str | None) -> None:
    """A folder may hold the configuration this run is started with, a log that `tee` writes, or other runs."""
    folder = tmp_path / "d"
    (folder / "other").mkdir(parents=True)
    (folder / "other" / "run.json").write_text("{}", encoding="utf-8")
    (folder / "bench.yaml").write_text("", encoding="utf-8")
    files = old_run(folder, prefix)
    with claim(folder) as (path, note):
        assert path == folder
        assert note is not None
        assert note.text == f"the results that were in `{folder}` are in `{tmp_path / 'd.1'}` now"
        assert names(folder) == ["bench.yaml", "other"]
    assert names(tmp_path / "d.1") == files


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["plots", "logs"], ["inputs.json"]])
def test_a_folder_without_a_run_is_taken_as_it_is(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).mkdir()
    with claim(tmp_path) as (path, note):
        assert (path, note) == (tmp_path, None)
        assert names(tmp_path) == sorted(content)


@pytest.mark.parametrize("mark", ["sweep_aggregate", "profile_runs", "search_history.json", "study.json"])
def test_a_study_is_moved_with_its_points(tmp_path: Path, mark: str) -> None:
    """Also AIPerf's, which have no `study.json`."""
    folder = tmp_path / "s"
    for name in (mark, "concurrency_2", "concurrency_2-incomplete-1", "mine"):
        (folder / name).mkdir(parents=True)
    for name in ("concurrency_2", "concurrency_2-incomplete-1"):
        (folder / name / "profile_export_aiperf.json").write_text("{}", encoding="utf-8")
    with claim(folder):
        assert names(folder) == ["mine"]
    assert names(tmp_path / "s.1") == sorted([mark, "concurrency_2", "concurrency_2-incomplete-1"])


def test_a_folder_that_another_run_is_writing_into_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    with ExitStack() as held:
        first, none = held.enter_context(claim(folder))
        old_run(folder)
        before = names(folder)
        second, note = held.enter_context(claim(folder))
        assert none is None
        assert note is not None
        assert (first.name, second.name, note.kind) == ("d", "d-2", "directory_taken")
        assert names(folder) == before
    with claim(folder) as (path, _):
        assert path == folder, "free again"


def test_the_current_folder_by_its_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--artifact-dir .` has no name of its own to put a number after."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    files = old_run(Path())
    with claim(Path()) as (path, note):
        assert path == Path()
        assert note is not None
        assert "here.1" in note.text
    assert names(tmp_path / "here.1") == files


def test_where_nothing_can_be_put_beside_it_it_is_moved_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mounted volume: its parent is another device, or not ours."""
    folder = tmp_path / "results"
    folder.mkdir()
    files, make = old_run(folder), Path.mkdir

    def refused(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if self.parent == tmp_path and self.name != "results":
            raise PermissionError(13, "Permission denied")
        make(self, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", refused)
    with claim(folder) as (path, _):
        assert names(path) == ["results.1"]
    assert names(folder / "results.1") == files


def test_a_file_of_that_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="it is a file"), claim(tmp_path / "d"):
        pass


def test_every_file_a_run_can_leave_is_moved_with_it(tmp_path: Path) -> None:
    """What one run read beside its records and the next one did not write would be read as the next one's."""
    constant = re.compile(r'^[A-Z_]+_(?:FILE|DIR): Final = "([^"]+)"', re.MULTILINE)
    package = Path(aiperf.__file__).parent
    names = {n for path in package.rglob("*.py") for n in constant.findall(path.read_text(encoding="utf-8"))}
    files = Files(tmp_path)
    for name, member in vars(Files).items():
        if isinstance(member, property):
            found = getattr(files, name)
            names |= {found.name} if isinstance(found, Path) and found.parent == tmp_path else set()
    assert {"media.npz", "agents.npz", "replies.npz", "parts.json", "run.json", "report.html"} <= names
    (tmp_path / "run").mkdir()
    for name in names:
        (tmp_path / "run" / name).write_text("{}", encoding="utf-8")
    (tmp_path / "run" / "mine.txt").touch()
    with claim(tmp_path / "run") as (folder, note):
        left = {p.name for p in folder.iterdir()}
    assert note is not None
    assert left <= {"mine.txt", ".lock"}, left


def ends_with(error: BaseException, folder: Path, writes: str | None = None) -> None:
    with claim(folder) as (path, _):
        assert path == folder
        if writes is not None:
            (path / writes).write_bytes(b"")
        raise error


@pytest.mark.parametrize("content", [None, [], ["note.txt"], ["run.json", "note.txt"]])
def test_a_run_that_is_refused_leaves_the_folder_as_it_was(tmp_path: Path, content: list[str] | None) -> None:
    folder = tmp_path / "run"
    if content is not None:
        folder.mkdir()
        for name in content:
            (folder / name).write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="refused"):
        ends_with(ConfigError("refused"), folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ([] if content is None else ["run"])
    assert content is None or sorted(p.name for p in folder.iterdir()) == sorted(content)


def test_a_refused_run_leaves_no_folder_above_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="refused"):
        ends_with(ConfigError("refused"), tmp_path / "artifacts" / "model" / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_later_keeps_what_it_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        ends_with(KeyboardInterrupt(), folder, writes="records.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.1"]

"""The cache of recorded agent sessions: what comes out of it is what the files hold now, whatever happens to either."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.unit.traces.weka_sessions import (
    FORK,
    OVERLAPPING,
    SUBAGENTS,
    SYSTEM,
    agent,
    request,
    session,
    write_sessions,
)

from aiperf.errors import DatasetError
from aiperf.traces import stored
from aiperf.traces.agents import AgentTable, Layout, lay_out

ALL = [
    SYSTEM,
    OVERLAPPING,
    FORK,
    SUBAGENTS,
    session(
        "empty", [request(2, 64, 0, [0], None), agent(1, "none", []), request(1, 64, 9, [4294967295], think_time=0.5)]
    ),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIPERF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)
    return tmp_path / "cache" / "agents"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_sessions(tmp_path / "traces.jsonl", ALL)


def same(left: AgentTable, right: AgentTable) -> bool:
    pairs = ((getattr(left, name), getattr(right, name)) for name in AgentTable.__dataclass_fields__)
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


def entries(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir()) if cache.exists() else []


def without_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, files of sessions cannot be parsed: what is returned can only be an entry's."""
    from aiperf import _core

    class Entries:
        from_bytes = staticmethod(_core.AgentCorpus.from_bytes)

    monkeypatch.setattr(_core, "AgentCorpus", Entries)


def test_an_entry_gives_what_the_file_gave_notes_included(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stored.CACHE_SWITCH, "false")
    read = lay_out(file, Layout(mark="first_user"))
    assert entries(cache) == [], "switched off"
    monkeypatch.delenv(stored.CACHE_SWITCH)
    first = lay_out(file, Layout(mark="first_user"))
    assert len(entries(cache)) == 1
    without_reading(monkeypatch)
    assert same(read, first)
    assert same(read, lay_out(file, Layout(mark="first_user")))
    assert {n.kind for n in read.notes} == {"agents_time_order", "agents_empty_agent"}
    # What is made of the sessions is no part of the entry.
    assert lay_out(file, Layout(entries=1)).num_traces == 1


def test_a_changed_file_is_read_again_though_size_and_times_are_the_same(file: Path, cache: Path) -> None:
    before = lay_out(file, Layout())
    stat = file.stat()
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"out": 70', '"out": 71'), encoding="utf-8")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    changed = lay_out(file, Layout())
    assert (before.osl == 70).sum() == (changed.osl == 71).sum() > 0
    assert before.digest != changed.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(entries(cache)) == 2


def test_damaged_and_foreign_entries_are_read_past_and_replaced(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = lay_out(file, Layout())
    (name,) = entries(cache)
    whole = (cache / name).read_bytes()
    older = bytes([whole[0] ^ 1]) + whole[1:]
    for data in (b"", whole[:-1], whole[:40], b"no entry", older, whole + whole):
        (cache / name).write_bytes(data)
        assert same(read, lay_out(file, Layout()))
        assert (cache / name).read_bytes() == whole
    # Whole, but another file's: its digest is not the one that was asked for.
    other = write_sessions(file.parent / "other.jsonl", [SYSTEM])
    lay_out(other, Layout())
    (theirs,) = set(entries(cache)) - {name}
    (cache / name).write_bytes((cache / theirs).read_bytes())
    assert same(read, lay_out(file, Layout()))
    without_reading(monkeypatch)
    assert same(read, lay_out(file, Layout()))


def test_files_with_problems_are_not_kept(tmp_path: Path, cache: Path) -> None:
    path = write_sessions(tmp_path / "bad.jsonl", [SYSTEM, session("bad", [request(-1, 64, 5, [1])])])
    for _ in range(2):
        with pytest.raises(DatasetError, match="session `bad`"):
            lay_out(path, Layout())
        assert lay_out(path, Layout(), skip_invalid=True).trace_ids == ["system"]
    assert entries(cache) == []
    with pytest.raises(DatasetError, match="nowhere"):
        lay_out(tmp_path / "nowhere.jsonl", Layout())


def test_folders_and_archives_are_kept_by_all_that_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sessions"
    folder.mkdir()
    lines = []
    for name, one in (("a", SYSTEM), ("b", FORK)):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(one), encoding="utf-8")
        lines.append(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}.json\n")
    archive = tmp_path / "sessions.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="s")
    digests = {folder: "".join(lines).encode(), archive: archive.read_bytes()}
    tables = {path: lay_out(path, Layout()) for path in digests}
    with monkeypatch.context() as patched:
        without_reading(patched)
        for path, content in digests.items():
            assert same(tables[path], lay_out(path, Layout()))
            assert tables[path].digest == hashlib.sha256(content).hexdigest()
    (folder / "a.json").rename(folder / "c.json")
    assert lay_out(folder, Layout()).trace_ids == ["fork", "system"]


def test_entries_not_used_for_longest_make_room(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write_sessions(tmp_path / f"{i}.jsonl", [session(f"s{i}", FORK["requests"])]) for i in range(4)]
    lay_out(files[0], Layout())
    (first,) = entries(cache)
    size = (cache / first).stat().st_size
    monkeypatch.setattr(stored, "MOST_BYTES", 3 * size + size // 2)
    for age, file in enumerate(files[1:3]):
        before = set(entries(cache))
        lay_out(file, Layout())
        (new,) = set(entries(cache)) - before
        os.utime(cache / new, (1000 + age, 1000 + age))
    os.utime(cache / first, (500, 500))
    lay_out(files[0], Layout())  # used: now the latest
    kept = set(entries(cache))
    lay_out(files[3], Layout())
    (gone,) = kept - set(entries(cache))
    assert len(entries(cache)) == 3
    assert gone != first
    monkeypatch.setattr(stored, "MOST_BYTES", size // 2)
    last = entries(cache)
    lay_out(write_sessions(tmp_path / "5.jsonl", [FORK]), Layout())
    assert entries(cache) == last, "one that is larger than the whole is not begun"


def test_small_files_and_a_cache_that_cannot_be_written_do_not_matter(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "LEAST_BYTES", file.stat().st_size + 1)
    read = lay_out(file, Layout())
    assert entries(cache) == []
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)
    cache.parent.mkdir()
    cache.write_text("in the way", encoding="utf-8")
    assert same(read, lay_out(file, Layout()))
    assert cache.read_text(encoding="utf-8") == "in the way"


def test_several_at_once_write_one_whole_entry(file: Path, cache: Path) -> None:
    tables: list[AgentTable] = []
    threads = [threading.Thread(target=lambda: tables.append(lay_out(file, Layout()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 8
    assert all(same(tables[0], table) for table in tables)
    assert len(entries(cache)) == 1

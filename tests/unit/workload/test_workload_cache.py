"""What is made once and kept: also when several make it at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aiperf.workload.disk_cache import cached_bytes


def test_it_is_made_once_and_survives_writers_at_the_same_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[int] = []
    together = threading.Barrier(4)
    monkeypatch.setenv("AIPERF_CACHE_DIR", str(tmp_path))

    def make() -> bytes:
        together.wait()
        made.append(1)
        return b"what was made"

    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(cached_bytes("a.bin", make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [b"what was made"] * 4
    assert len(made) == 4
    assert cached_bytes("a.bin", make) == b"what was made"
    assert len(made) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]

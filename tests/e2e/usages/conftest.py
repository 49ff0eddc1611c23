from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.runs import Sim
from tests.e2e.usages.bench import Bench


@pytest.fixture
def bench(serve: Callable[..., Sim], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    return Bench(serve(ttft_ms=4, itl_ms=2), tmp_path / "out" / "c10")

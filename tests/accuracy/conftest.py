from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.runs import Sim, simulate

Serve = Callable[..., Sim]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(ttft_ms=30)`: a simulated server until the end of the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(simulate(tmp_path, **options))

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.runs import Sim, simulate

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Serve = Callable[..., Sim]
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(ttft_ms=30)`: a simulated server until the end of the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(simulate(tmp_path, **options))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium by Playwright, of which a process can have one."""
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("not installed: Debian's Chromium, /usr/bin/chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-background-networking"]
        )
        yield found
        found.close()

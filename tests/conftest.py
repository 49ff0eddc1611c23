"""Golden files: `--update-golden` rewrites what differs and fails all the same, so that a diff is always looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files that differ, and fail")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden("cli/help.txt", text)`: the text is that of tests/golden/cli/help.txt."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        expected = path.read_text(encoding="utf-8") if path.exists() else None
        if text == expected:
            return
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            pytest.fail(f"rewritten: {path.relative_to(GOLDEN.parent)}; look at the diff")
        assert text == expected, f"{path.relative_to(GOLDEN.parent)} differs; `--update-golden` rewrites it"

    return compare

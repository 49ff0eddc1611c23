"""What the dashboard draws when a little of a page changes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.geometry import Size
from textual.strip import Strip

from aiperf.ui.dashboard.lines import Lines

Result = TypeVar("Result")


def finished(work: Coroutine[Any, Any, Result]) -> Result:
    """Its result, from a thread of its own: a browser's tests may have left a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class _App(App[None]):
    """Counts the lines that are made."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = _Counting(id="body", can_scroll=True)

    def compose(self) -> ComposeResult:
        yield self.lines


class _Counting(Lines):
    drawn: list[int]

    def render_line(self, y: int) -> Strip:
        self.drawn.append(y)
        return super().render_line(y)


@pytest.mark.parametrize(
    ("change", "drawn"),
    [
        ({}, []),
        ({3: Text("other")}, [3]),
        ({3: Text("line 3", style="red")}, [3]),
        ({0: Text("a"), 1: Text("b"), 9: Text("c")}, [0, 1, 9]),
        ({30: Text("below the window")}, []),
    ],
)
def test_only_lines_that_changed_are_drawn(change: dict[int, Text], drawn: list[int]) -> None:
    async def run() -> list[int]:
        app = _App()
        app.lines.drawn = []
        async with app.run_test(size=(40, 20)) as pilot:
            lines = [Text(f"line {i}") for i in range(40)]
            app.lines.show(lines)
            await pilot.pause()
            app.lines.drawn.clear()
            app.lines.show([change.get(i, line) for i, line in enumerate(lines)])
            await pilot.pause()
            return sorted(set(app.lines.drawn))

    assert finished(run()) == drawn


def test_lines_scroll_and_are_cut_off_with_an_ellipsis() -> None:
    async def run() -> tuple[list[str], list[str], Size]:
        app = _App()
        app.lines.drawn = []
        async with app.run_test(size=(10, 3)) as pilot:
            app.lines.show([Text("0123456789abc"), *(Text(f"line {i}") for i in range(1, 6))])
            await pilot.pause()
            top = [app.lines.render_line(y).text for y in range(3)]
            await pilot.press("end")
            await pilot.pause()
            end = [app.lines.render_line(y).text for y in range(3)]
            app.lines.show([Text("short")])
            await pilot.pause()
            return top, end, app.lines.virtual_size

    top, end, size = finished(run())
    assert top[0].rstrip().endswith("…")
    assert top[1].rstrip() == "line 1"
    assert [line.rstrip() for line in end] == ["line 3", "line 4", "line 5"]
    assert size.height == 1

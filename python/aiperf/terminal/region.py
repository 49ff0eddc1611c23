"""The last lines of a terminal, redrawn in place, with the cursor hidden; what is printed meanwhile stays above."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.terminal.console import Console, Part
from aiperf.terminal.text import Text

__all__ = ["Region"]

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_UP_AND_ERASE = "\x1b[1A\x1b[2K"


class Region:
    """Nothing is drawn before `show`; `close` erases it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: list[Text] = []
        self._height = 0
        self._is_open = False

    def show(self, lines: Sequence[Text]) -> None:
        """Instead of what was shown: at most as many lines as the terminal has, each cut to its width."""
        self._shown = list(lines)[: max(self._console.height - 1, 1)]
        self._draw(self._erase() if self._is_open else _HIDE)
        self._is_open = True

    def print(self, part: Part) -> None:
        """Above the region."""
        lines = self._console.lines_of(part)
        if not self._is_open:
            self._console.write(lines)
            return
        self._console.write(lines, before=self._erase())
        self._draw("")

    def close(self) -> None:
        """Erased, and the cursor back."""
        if self._is_open:
            self._console.write([], before=self._erase() + _SHOW)
            self._is_open = False

    def _draw(self, before: str) -> None:
        width = self._console.width
        lines = [line for text in self._shown for line in text.lines(width)]
        self._console.write(lines, before=before)
        self._height = len(lines)

    def _erase(self) -> str:
        erased, self._height = _UP_AND_ERASE * self._height, 0
        return f"\r{erased}"

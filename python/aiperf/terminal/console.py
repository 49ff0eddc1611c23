"""A stream that is a terminal, or not: how wide it is, whether it shows colour, and what is written to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from aiperf.terminal.style import escape
from aiperf.terminal.table import ScreenTable
from aiperf.terminal.text import Line, Text

__all__ = ["Console", "Part"]

#: What a console prints: a string as it is, words with styles, a table.
Part = str | Text | ScreenTable

_WIDTH = 80
_HEIGHT = 25


class Console:
    """`width` None: as wide as the terminal (`COLUMNS` before it). `color` None: styles if it is a terminal that shows them.

    With `NO_COLOR` a terminal is sent bold and dim, but no colour; with `FORCE_COLOR` a stream that is none is treated as one.
    """

    def __init__(self, file: TextIO, *, width: int | None = None, color: bool | None = None) -> None:
        self._file = file
        forced = bool(os.environ.get("FORCE_COLOR"))
        self.is_terminal = color if color is not None else forced or _is_terminal(file)
        self._styles = self.is_terminal and os.environ.get("TERM", "") not in {"dumb", "unknown"}
        self._color = not os.environ.get("NO_COLOR")
        self._width = width

    @property
    def width(self) -> int:
        """Columns."""
        return self._width or _from_environment("COLUMNS") or _size(self._file)[0]

    @property
    def height(self) -> int:
        """Lines."""
        return _from_environment("LINES") or _size(self._file)[1]

    def print(self, *parts: Part) -> None:
        """Each on lines of its own; at most as wide as the console, but for text that is not to be wrapped."""
        for part in parts:
            self.write(self.lines_of(part))

    def lines_of(self, part: Part) -> list[Line]:
        """The lines of a part at this console's width."""
        if isinstance(part, ScreenTable):
            return part.lines(self.width, plain=not _has_frames(self._file))
        text = Text(part) if isinstance(part, str) else part
        return text.lines(None if text.no_wrap else self.width)

    def write(self, lines: Iterable[Line], *, before: str = "") -> None:
        """In one piece; `before`: codes that the terminal is sent first."""
        shown = ("".join(self._piece(*piece) for piece in line) for line in lines)
        self._file.write(before + "".join(f"{line}\n" for line in shown))
        self._file.flush()

    def _piece(self, text: str, styles: tuple[str, ...]) -> str:
        return escape(text, styles, color=self._color) if self._styles else text


def _is_terminal(file: TextIO) -> bool:
    with suppress(ValueError):  # a closed stream is no terminal
        return file.isatty()
    return False


def _has_frames(file: TextIO) -> bool:
    """A stream without an encoding takes any character."""
    return (getattr(file, "encoding", None) or "utf-8").lower().startswith("utf")


def _from_environment(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) or None if text.isdecimal() else None


def _size(file: TextIO) -> tuple[int, int]:
    """Of the terminal behind `file`, or behind the process's other streams where it is none."""
    for stream in (file, sys.__stdin__, sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):  # no terminal, closed, or not there
            size = os.get_terminal_size(stream.fileno())  # type: ignore[union-attr]
            if size.columns > 0:
                return size.columns, size.lines or _HEIGHT
    return _WIDTH, _HEIGHT

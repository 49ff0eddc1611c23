"""A line, or several, with styles; as wide as a terminal shows it; wrapped and cut to a width."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from aiperf.terminal.style import Shades

__all__ = ["Justify", "Line", "Text", "cells", "cropped", "line_width"]

Justify = Literal["left", "center", "right"]
#: Pieces of one line of the screen, each with its styles.
Line = list[tuple[str, Shades]]

_WORD = re.compile(r"\s*\S+\s*")


@lru_cache(4096)
def _cells_of(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf", "Cc"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cells(text: str) -> int:
    """Columns of a terminal that `text` takes: 2 for a wide character, 0 for one that joins the one before."""
    return len(text) if text.isascii() and text.isprintable() else sum(map(_cells_of, text))


def line_width(line: Line) -> int:
    """Columns of a terminal that a line takes."""
    return sum(cells(text) for text, _ in line)


def _fitting(text: str, width: int) -> int:
    """How many characters of `text` fit into `width` columns."""
    used = 0
    for i, char in enumerate(text):
        used += _cells_of(char)
        if used > width:
            return i
    return len(text)


def _breaks(text: str, width: int, *, fold: bool) -> list[int]:
    """Where to break `text` between words; `fold`: a word that is wider than a line is broken, too."""
    places: list[int] = []
    used = 0
    for match in _WORD.finditer(text):
        word, start = match[0], match.start()
        length = cells(word.rstrip())
        if length <= width - used:
            used += cells(word)
        elif length > width:
            if start:
                places.append(start)
            while fold and cells(word) > width and (size := _fitting(word, width)):
                start += size
                word = word[size:]
                places.append(start)
            used = cells(word)
        elif used and start:
            places.append(start)
            used = cells(word)
    return places


class Text:
    """Words with styles. `no_wrap`: a line stays one, and is cut with `…` in a table or a redrawn region, but never on the screen."""

    __slots__ = ("_spans", "no_wrap", "plain", "style")

    def __init__(self, text: str = "", style: str = "", *, no_wrap: bool = False) -> None:
        self.plain = _shown(text)
        self.style = style
        self.no_wrap = no_wrap
        self._spans: list[tuple[int, int, str]] = []

    def __bool__(self) -> bool:
        return bool(self.plain)

    def __str__(self) -> str:
        return self.plain

    def unwrapped(self) -> Text:
        """The same, each line of which stays one."""
        copy = Text(self.plain, self.style, no_wrap=True)
        copy._spans = self._spans
        return copy

    def append(self, text: str, style: str = "") -> Text:
        """Adds words at the end, with a style on top of the whole line's; returns itself."""
        begin = len(self.plain)
        self.plain += _shown(text)
        if style:
            self._spans.append((begin, len(self.plain), style))
        return self

    def lines(self, width: int | None, outer: Iterable[str] = (), *, fold: bool = True) -> list[Line]:
        """As lines of at most `width` columns (None: as they are), in `outer` styles; without `fold`, what is too wide is cut with `…`."""
        out: list[Line] = []
        base = (*outer, self.style)
        begin = 0
        for line in self.plain.split("\n"):
            cuts = [] if width is None or self.no_wrap else _breaks(line, width, fold=fold)
            for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
                part = self._pieces(begin + start, begin + end, base)
                out.append(part if width is None else _cut(part, width))
            begin += len(line) + 1
        return out

    def _pieces(self, begin: int, end: int, base: Shades) -> Line:
        edges = {begin, end, *(edge for a, b, _ in self._spans for edge in (a, b) if begin < edge < end)}
        marks = sorted(edges)
        line: Line = []
        for a, b in itertools.pairwise(marks):
            styles = tuple(style for low, high, style in self._spans if low <= a < high)
            line.append((self.plain[a:b], (*base, *styles)))
        return line


def _shown(text: str) -> str:
    """Without what would move the cursor or change the screen: the text may come from a server."""
    text = text.expandtabs(8)
    return text if text.isprintable() else "".join(c for c in text if c == "\n" or unicodedata.category(c) != "Cc")


def _cut(line: Line, width: int) -> Line:
    """At most `width` columns; blanks at the end go first, then words, for `…`."""
    while line and line_width(line) > width and line[-1][0] != line[-1][0].rstrip():
        text, styles = line.pop()
        text = text.rstrip()
        if text:
            line.append((text, styles))
    if line_width(line) <= width:
        return line
    out = cropped(line, width - 1)
    return [*out[:-1], (out[-1][0] + "…", out[-1][1])] if width else []


def cropped(line: Line, width: int) -> Line:
    """The first `width` columns of a line."""
    out: Line = []
    for text, styles in line:
        size = _fitting(text, width)
        out.append((text[:size], styles))
        width -= cells(text[:size])
        if size < len(text):
            break
    return out

"""A framed table: columns as wide as their cells, narrower where the terminal is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aiperf.terminal.style import Shades
from aiperf.terminal.text import Justify, Line, Text, cells, cropped, line_width

__all__ = ["ScreenTable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Its lines as left, filling, between columns, right; `None` where there is no line. `pad`: blanks left and right of a cell."""

    top: str
    head: str
    below_head: str
    row: str
    bottom: str
    pad: tuple[int, int]
    pad_edge: bool


_HEAVY = _Frame(top="┏━┳┓", head="┃ ┃┃", below_head="┡━╇┩", row="│ ││", bottom="└─┴┘", pad=(1, 1), pad_edge=True)
_LIGHT = _Frame(top="    ", head="    ", below_head=" ── ", row="    ", bottom="    ", pad=(0, 1), pad_edge=False)
_PLAIN = {"top": "+-++", "head": "| ||", "below_head": "|-+|", "row": "| ||", "bottom": "+-++"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    header: str
    justify: Justify
    style: str
    no_wrap: bool
    fold: bool


@dataclass(slots=True, kw_only=True)
class ScreenTable:
    """`frame`: `heavy` has a box around each cell, `light` a line below the header.

    Where the terminal is too narrow, columns that may wrap become narrower, the widest first, then all: what does not fit ends in `…`.
    """

    title: str
    frame: Literal["heavy", "light"] = "heavy"
    caption: str | None = None
    title_justify: Justify = "center"
    _columns: list[_Column] = field(default_factory=list)
    _rows: list[tuple[tuple[Text, ...], str]] = field(default_factory=list)

    def add_column(
        self, header: str, *, justify: Justify = "left", style: str = "", no_wrap: bool = False, fold: bool = False
    ) -> None:
        """`no_wrap`: a cell is one line. `fold`: a word wider than the column is broken, not cut."""
        self._columns.append(_Column(header=header, justify=justify, style=style, no_wrap=no_wrap, fold=fold))

    def add_row(self, *row: str | Text, style: str = "") -> None:
        """A cell for each column, in their order; `style` goes over the columns'."""
        if len(row) != len(self._columns):
            raise ValueError(f"{len(row)} cells for {len(self._columns)} columns")
        self._rows.append((tuple(cell if isinstance(cell, Text) else Text(cell) for cell in row), style))

    def lines(self, width: int, *, plain: bool = False) -> list[Line]:
        """For a terminal `width` columns wide. `plain`: the frame in ASCII."""
        frame = _HEAVY if self.frame == "heavy" else _LIGHT
        pads = [frame.pad] * len(self._columns)
        if not frame.pad_edge and pads:
            pads[0] = (0, pads[0][1])
            pads[-1] = (pads[-1][0], 0)
        edges = len(self._columns) + 1
        widths = self._widths(width - edges, pads)
        slots = [_Slot(column=c, width=w, pad=p) for c, w, p in zip(self._columns, widths, pads, strict=True)]
        total = sum(widths) + edges
        part = {name: getattr(frame, name) if not plain else _PLAIN[name] for name in _PLAIN}
        header = [slot.lines(Text(slot.column.header), ("bold",)) for slot in slots]
        out = _note(self.title, total, self.title_justify, ("bold",))
        out.append(_rule(part["top"], widths))
        out += _joined(header, slots, part["head"], at_bottom=True)
        out.append(_rule(part["below_head"], widths))
        for row, style in self._rows:
            cells_of_row = [s.lines(text, (s.column.style, style)) for s, text in zip(slots, row, strict=True)]
            out += _joined(cells_of_row, slots, part["row"], at_bottom=False)
        out.append(_rule(part["bottom"], widths))
        out += _note(self.caption, total, self.title_justify, ("dim italic",)) if self.caption else []
        return [cropped(line, width) for line in out]

    def _widths(self, room: int, pads: Sequence[tuple[int, int]]) -> list[int]:
        widths = []
        for i, column in enumerate(self._columns):
            texts = (column.header, *(row[i].plain for row, _ in self._rows))
            natural = sum(pads[i]) + max(cells(line) for text in texts for line in text.split("\n"))
            widths.append(min(natural, max(room, 0)))
        wanted = list(widths)
        may_wrap = [not column.no_wrap for column in self._columns]
        while (excess := sum(widths) - room) > 0 and any(may_wrap):
            wide = [w for w, wraps in zip(widths, may_wrap, strict=True) if wraps]
            widest = max(wide)
            step = widest - max((w for w in wide if w != widest), default=0)
            if step == 0 or widest == 0:
                break
            shrinking = [wraps and w == widest for w, wraps in zip(widths, may_wrap, strict=True)]
            widths = _reduced(widths, shrinking, [step] * len(widths), excess)
        if sum(widths) > room:
            widths = _reduced(widths, [w > 0 for w in widths], widths, sum(widths) - room)
        return [min(a, max(b, 0)) for a, b in zip(wanted, widths, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """Where a column is shown: `width` with the blanks of `pad` left and right."""

    column: _Column
    width: int
    pad: tuple[int, int]

    def lines(self, text: Text, styles: Shades) -> list[Line]:
        """A cell's lines, each as wide as the slot."""
        inner = max(self.width - sum(self.pad), 0)
        text = text.unwrapped() if self.column.no_wrap else text
        if inner == 0:
            return [[(" " * self.width, styles)]]
        lines = text.lines(inner, styles, fold=self.column.fold)
        return [_placed(line, inner, self.column.justify, self.pad, styles) for line in lines]


def _joined(row: Sequence[list[Line]], slots: Sequence[_Slot], edges: str, *, at_bottom: bool) -> list[Line]:
    """The cells of a row side by side. `at_bottom`: those with fewer lines stand at the bottom, as headers do."""
    height = max(map(len, row))
    left, between, right = edges[0], edges[2], edges[3]
    out: list[Line] = []
    for y in range(height):
        line: Line = [(left, ())]
        for i, (lines, slot) in enumerate(zip(row, slots, strict=True)):
            at = y - (height - len(lines)) if at_bottom else y
            line += lines[at] if 0 <= at < len(lines) else [(" " * slot.width, ())]
            line.append((between if i < len(row) - 1 else right, ()))
        out.append(line)
    return out


def _reduced(widths: Sequence[int], shrinking: Sequence[bool], most: Sequence[int], excess: int) -> list[int]:
    """`excess` columns taken from those that shrink, evenly, no more than `most` of each."""
    left, out = sum(shrinking), []
    for width, shrinks, limit in zip(widths, shrinking, most, strict=True):
        taken = min(limit, round(excess / left)) if shrinks else 0
        excess -= taken
        left -= shrinks
        out.append(width - taken)
    return out


def _placed(line: Line, width: int, justify: Justify, pad: tuple[int, int], styles: Iterable[str]) -> Line:
    blank: Shades = tuple(styles)
    free = max(width - line_width(line), 0)
    if justify == "right":
        line = _stripped(line)
        free = max(width - line_width(line), 0)
    before = {"left": 0, "center": free // 2, "right": free}[justify]
    return [(" " * (pad[0] + before), blank), *line, (" " * (free - before + pad[1]), blank)]


def _stripped(line: Line) -> Line:
    out = list(line)
    while out and out[-1][0].rstrip() != out[-1][0]:
        text, styles = out.pop()
        if text.rstrip():
            out.append((text.rstrip(), styles))
    return out


def _rule(part: str, widths: Sequence[int]) -> Line:
    left, fill, between, right = tuple(part)
    return [(left + between.join(fill * width for width in widths) + right, ())]


def _note(text: str, width: int, justify: Justify, styles: Shades) -> list[Line]:
    """Above or below a table, as wide as the table."""
    return [_placed(_stripped(line), width, justify, (0, 0), styles) for line in Text(text).lines(width, styles)]

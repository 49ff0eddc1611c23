"""A widget of lines that draws those that have changed: between two frames most of a page stands still, and drawing is what a frame costs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

__all__ = ["Lines"]


class Lines(ScrollView):
    """`show` what stands there now. Each line is as wide as the widget, cut off with an ellipsis; more lines than it is high can be scrolled."""

    DEFAULT_CSS = """
    Lines { overflow-x: hidden; overflow-y: auto; }
    """

    def __init__(self, lines: Sequence[Text] = (), *, id: str | None = None, can_scroll: bool = False) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id)
        self.can_focus = can_scroll
        self._lines = list(lines)

    def show(self, lines: Sequence[Text]) -> None:
        before, self._lines = self._lines, list(lines)
        if len(before) != len(lines):
            self.virtual_size = Size(self.size.width, len(lines))
        top, height = self.scroll_offset.y, self.size.height
        first = None
        for row in range(height + 1):
            is_new = row < height and not _is_same(before, self._lines, top + row)
            if is_new and first is None:
                first = row
            elif not is_new and first is not None:
                self.refresh(Region(0, first, self.size.width, row - first))
                first = None

    def render_line(self, y: int) -> Strip:
        """The line at `y` of the window, as wide as that."""
        width, place = self.size.width, self.scroll_offset.y + y
        style = self.rich_style
        if place >= len(self._lines):
            return Strip.blank(width, style)
        line = self._lines[place].copy()
        line.truncate(width, overflow="ellipsis")
        segments = list(line.render(self.app.console))
        return Strip(segments).adjust_cell_length(width, style).apply_style(style)


def _is_same(before: Sequence[Text], now: Sequence[Text], place: int) -> bool:
    """Neither has such a line, or both the same in the same style; what `Text` compares leaves out the style of the whole."""
    there = place < len(before)
    if there != (place < len(now)):
        return False
    return not there or (before[place] == now[place] and before[place].style == now[place].style)

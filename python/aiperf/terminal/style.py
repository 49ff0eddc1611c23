"""Styles by name, such as `bold red`: what a terminal is sent for them."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Shades", "escape"]

_ATTRIBUTES = {"bold": "1", "dim": "2", "italic": "3"}
_COLORS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36"}

#: Styles from the outermost to the innermost: an inner colour replaces an outer one, attributes add up.
Shades = tuple[str, ...]


def escape(text: str, styles: Iterable[str], *, color: bool) -> str:
    """`text` between the codes for `styles`; `color` False: bold and dim only (`NO_COLOR`). ValueError: no such style."""
    attributes: dict[str, None] = {}
    shade = None
    for word in (word for style in styles for word in style.split()):
        if word in _ATTRIBUTES:
            attributes[_ATTRIBUTES[word]] = None
        elif word in _COLORS:
            shade = _COLORS[word]
        else:
            raise ValueError(f"no style `{word}`: {', '.join((*_ATTRIBUTES, *_COLORS))}")
    codes = [*attributes, *([shade] if shade is not None and color else [])]
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes and text else text

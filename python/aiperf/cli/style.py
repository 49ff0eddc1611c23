"""Bold and colour where there is a terminal that wants them; everything reads the same without (`NO_COLOR`, pipes)."""

from __future__ import annotations

import os
import sys
from typing import TextIO

__all__ = ["bold", "is_coloured", "red"]


def is_coloured(stream: TextIO | None = None) -> bool:
    """https://no-color.org: any non-empty `NO_COLOR` turns colour off. `stream` None: stdout."""
    out = sys.stdout if stream is None else stream
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and out is not None and out.isatty()


def bold(text: str, stream: TextIO | None = None) -> str:
    return f"\x1b[1m{text}\x1b[0m" if is_coloured(stream) else text


def red(text: str, stream: TextIO | None = None) -> str:
    return f"\x1b[1;31m{text}\x1b[0m" if is_coloured(stream) else text

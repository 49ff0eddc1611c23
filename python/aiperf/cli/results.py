"""What goes to the terminal when the work is done: tables, and where the files are. Nobody else prints results."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiperf.observer import Observer
    from aiperf.run.run import Run
    from aiperf.terminal import Part

__all__ = ["show", "write_and_show"]


def show(parts: Iterable[Part], *, width: int = 200) -> None:
    """To stdout: as wide as the terminal, or `width` columns without colour where there is none."""
    from aiperf.terminal import Console

    console = Console(sys.stdout)
    if not console.is_terminal:
        console = Console(sys.stdout, width=width, color=False)
    console.print(*parts)


def write_and_show(run: Run, observer: Observer | None = None) -> Run:
    """The run's files, its table in between (the page takes its time), and where charts and page are."""
    from aiperf.reports.render.console import build_screen, options_of
    from aiperf.run.write import write

    run = write(run, observer, part="early")
    # Whoever reads the screen may have gone: the files are what counts.
    with suppress(OSError, UnicodeError):
        show(build_screen(run.summary(), options_of(run)))
    listed = run.written
    run = write(run, observer, part="late")
    for what, path in run.written:
        if (what, path) not in listed:
            with suppress(OSError, UnicodeError):  # as above
                sys.stdout.write(f"{what:<8}  {path}\n")
    if observer is not None:
        observer.written(run.dir)
    return run

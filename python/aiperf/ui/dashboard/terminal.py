"""Textual's driver on a thread beside the main one, which the run and its signals need.

The driver installs handlers of its own for stop, continue and window changes; Python allows that on the main thread alone. So
these calls do nothing here: the terminal is in raw mode (Ctrl-C and Ctrl-Z are keys), and the dashboard asks for the size itself.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
from contextlib import suppress
from types import ModuleType
from typing import Any, Final, TextIO

from aiperf.ui.dashboard.streams import Streams

__all__ = ["Terminal", "reason_against"]

_RESTORE: Final = (
    b"\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
)
"""Paste, line wrap, mouse, keyboard, alternate screen, cursor, focus: as a shell expects them."""
MIN_SIZE: Final = (80, 24)


def reason_against(stream: TextIO) -> str | None:
    """Why the dashboard cannot be shown on this terminal; None if it can. What to do is in the sentence."""
    import importlib.util
    import locale

    if not sys.__stdin__ or not sys.__stdin__.isatty():
        return "the dashboard needs a keyboard: stdin is not a terminal"
    term = os.environ.get("TERM", "")
    if term in {"", "dumb", "unknown"}:
        return f"the dashboard needs a terminal that moves its cursor: TERM is `{term}`"
    encoding = (getattr(stream, "encoding", None) or locale.getpreferredencoding(do_setlocale=False)).lower()
    if encoding.replace("-", "").replace("_", "") != "utf8":
        return f"the dashboard needs UTF-8: this terminal's encoding is {encoding} (set LC_ALL=C.UTF-8)"
    size = os.get_terminal_size(stream.fileno())
    if size.columns < MIN_SIZE[0] or size.lines < MIN_SIZE[1]:
        return (
            f"the dashboard needs {MIN_SIZE[0]}×{MIN_SIZE[1]} characters: this terminal has {size.columns}×{size.lines}"
        )
    if importlib.util.find_spec("textual") is None:
        return "the dashboard needs textual: pip install 'aiperf[dashboard]'"
    return None


class Terminal:
    """The terminal while the dashboard has it, and its state before, to be given back even by a process that is about to end at once."""

    def __init__(self) -> None:
        self._attributes: list[Any] | None = None
        self._input = sys.__stdin__.fileno() if sys.__stdin__ else 0
        self.streams = Streams()
        self._is_taken = False
        with suppress(termios.error):  # no terminal: there is nothing to restore
            self._attributes = termios.tcgetattr(self._input)

    def take(self) -> None:
        self._is_taken = True
        self.streams.take()

    def give_back(self, *, is_whole: bool = False) -> None:
        """Once; then nothing. `is_whole`: the application has left it as it was. What others wrote meanwhile is shown."""
        if not self._is_taken:
            return
        self._is_taken = False
        self.streams.give_back()
        if not is_whole:
            with suppress(OSError):  # the terminal is gone
                os.write(2, _RESTORE)
            if self._attributes is not None:
                with suppress(termios.error):  # as above
                    termios.tcsetattr(self._input, termios.TCSANOW, self._attributes)
        self.streams.show()

    def size(self) -> tuple[int, int]:
        """Columns and lines. OSError if the terminal is gone."""
        found = os.get_terminal_size(self.streams.screen.fileno())
        return found.columns, found.lines


class _Signals(ModuleType):
    """`signal` for the driver: handlers are installed on the main thread only."""

    def __getattr__(self, name: str) -> object:
        return getattr(signal, name)

    @staticmethod
    def signal(number: int, handler: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return signal.signal(number, handler)
        return signal.getsignal(number)


def allow_threads() -> None:
    """Before an app is run on a thread."""
    from textual.drivers import linux_driver

    vars(linux_driver)["signal"] = _Signals("signal")

"""The process's two screens, stdout and stderr: nothing that happens to them ends a command or costs a file.

* A character the screen's encoding does not have is replaced: by plain ones where that says the same (`≤` → `<=`), else by `?`.
* A reader that goes away (`| head -1`, a killed `tee`, a closed terminal) is not missed: what is written after it is dropped.
* Any other failure (`> /dev/full`) is kept, so that a command whose product is its output can end with an error.

SIGTERM and SIGHUP end a command as Ctrl-C does; `profile` has handlers of its own while it runs (`aiperf.run.signals`).
"""

from __future__ import annotations

import codecs
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Self, TextIO

__all__ = ["Screens", "endings_as_interrupts", "screens"]

_ERRORS: Final = "aiperf-screen"
_PLAIN: Final = {
    "–": "-",
    "—": "-",
    "−": "-",
    "·": "|",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "×": "x",
    "±": "+/-",
    "→": "->",
    "←": "<-",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "µ": "u",
    "μ": "u",
    "²": "^2",
    "•": "*",
    "█": "#",
    "━": "-",
    "─": "-",
    "│": "|",
    "✓": "ok",
    "✗": "x",
    "≈": "~",
    "\N{NO-BREAK SPACE}": " ",
    "\N{NARROW NO-BREAK SPACE}": " ",
}
_GONE: Final = (BrokenPipeError, ConnectionResetError)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error(_ERRORS, _replace)


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor; after a failure it takes everything and writes nothing."""

    def __init__(self, number: int | None) -> None:
        super().__init__()
        self._number = number
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._number is not None and os.isatty(self._number)

    def fileno(self) -> int:
        if self._number is None:
            raise io.UnsupportedOperation("the stream is closed")
        return self._number

    def write(self, data: object, /) -> int:
        rest = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(rest)
        while rest and self._number is not None and self.failure is None:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:
                # Whoever shares the terminal has made it non-blocking: ours is to wait.
                select.select([], [self._number], [], 1.0)
            except OSError as error:
                self.failure = error
        return size


class Screens:
    """Both streams while a command runs. They are left alone where something else took their place (tests, notebooks)."""

    def __init__(self) -> None:
        self._before: list[tuple[str, TextIO | None]] = []
        self._raw: dict[str, _Descriptor] = {}

    def __enter__(self) -> Self:
        for name in ("stdout", "stderr"):
            stream: TextIO | None = getattr(sys, name)
            if stream is not getattr(sys, f"__{name}__"):
                continue
            self._before.append((name, stream))
            setattr(sys, name, self._open(name, stream))
        return self

    def _open(self, name: str, stream: TextIO | None) -> TextIO:
        number = None
        if stream is not None:
            with suppress(OSError, ValueError):  # closed, or its reader has gone
                stream.flush()
            with suppress(OSError, ValueError):  # a stream of Python's own has no number
                number = stream.fileno()
        raw = self._raw[name] = _Descriptor(number)
        return io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=getattr(stream, "encoding", None) or "utf-8",
            errors=_ERRORS,
            line_buffering=name == "stderr" or bool(getattr(stream, "line_buffering", False)),
            write_through=bool(getattr(stream, "write_through", False)),
        )

    def __exit__(self, *_: object) -> None:
        for name, stream in self._before:
            with suppress(OSError, ValueError):  # `failure` says so
                getattr(sys, name).flush()
            setattr(sys, name, stream)

    @property
    def failure(self) -> OSError | None:
        """Why stdout did not take everything. None: it did, or its reader did not want it."""
        with suppress(OSError, ValueError):  # told below, or the reader has gone
            sys.stdout.flush()
        found = self._raw["stdout"].failure if "stdout" in self._raw else None
        return None if isinstance(found, _GONE) else found


def screens() -> Screens:
    return Screens()


@contextmanager
def endings_as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt; not where they are ignored (`nohup`) or this is no main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    ours = [n for n, handler in before.items() if handler == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)

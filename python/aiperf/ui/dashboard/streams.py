"""The process's own stdout and stderr while the dashboard has the terminal, for whoever else writes there: libraries, warnings, C code, processes.

Both lead to a file without a name meanwhile: nothing is drawn into the dashboard, and whoever asks for a file descriptor has a real one. (A pipe
would hold up a writer, or end it, once nobody reads; a process may live on.) The lines are on the dashboard's log page, and on the terminal when
it is given back.
"""

from __future__ import annotations

import faulthandler
import io
import os
import re
import sys
from contextlib import suppress
from typing import Final

__all__ = ["Streams"]

_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLOCK: Final = 1 << 16
_STREAMS: Final = (1, 2)


class Streams:
    """`screen`: the terminal, for the dashboard alone. `take` once, `give_back` as often as one likes."""

    def __init__(self) -> None:
        _flush()
        self.screen: io.TextIOWrapper = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
        self._saved: dict[int, int] = {}
        self._file = -1
        self._read = 0
        self._part = b""

    def take(self) -> None:
        """What is no terminal (`> log`) is left as it is."""
        _flush()
        self._file = os.memfd_create("aiperf-screen")
        for number in _STREAMS:
            if os.isatty(number):
                self._saved[number] = os.dup(number)
                os.dup2(self._file, number)
        if faulthandler.is_enabled():
            # Its message comes when nothing else can come any more.
            faulthandler.enable(self.screen)

    def lines(self) -> list[str]:
        """New whole lines, without colours; of one that is drawn over and over (a progress bar) what stands there last."""
        found = []
        while block := self._pread():
            *whole, self._part = (self._part + block).split(b"\n")
            found += [_text(line) for line in whole]
        return [line for line in found if line]

    def _pread(self) -> bytes:
        if self._file < 0:
            return b""
        block = os.pread(self._file, _BLOCK, self._read)
        self._read += len(block)
        return block

    def give_back(self) -> None:
        """Both streams are the terminal again; what a dashboard that hangs still draws goes nowhere."""
        if self._file < 0:
            return
        _flush()
        for number, saved in self._saved.items():
            os.dup2(saved, number)
            os.close(saved)
        self._saved.clear()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.screen.fileno())
        os.close(nowhere)
        if faulthandler.is_enabled():
            faulthandler.enable(2)

    def show(self) -> None:
        """What was written meanwhile, as it was written."""
        file, self._file = self._file, -1
        if file < 0:
            return
        at = 0
        with suppress(OSError):  # a terminal that is gone
            while block := os.pread(file, _BLOCK, at):
                at += len(block)
                while block:
                    block = block[os.write(2, block) :]
        os.close(file)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with suppress(OSError, ValueError):  # closed, or its reader has gone
                stream.flush()


def _text(line: bytes) -> str:
    text = _SEQUENCE.sub("", line.decode("utf-8", "replace")).rstrip("\r")
    return _CONTROL.sub("", text.rpartition("\r")[2].expandtabs(4))

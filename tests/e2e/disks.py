"""Small file systems in memory that can be full. Mounting needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Disk", "mounted"]


class Disk:
    """A file system of a few MB. `fill()` leaves nothing, `free()` gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, *, leave: int = 0) -> None:
        with suppress(OSError), self._filler.open("ab", buffering=0) as file:  # full: that is what is wanted
            while file.write(b"\0" * 65536):
                pass
        with suppress(OSError), self._filler.open("ab", buffering=0) as file:  # as above, to the last byte
            while file.write(b"\0" * 512):
                pass
        if leave:
            os.truncate(self._filler, self._filler.stat().st_size - leave)

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def mounted(path: Path, megabytes: int) -> Iterator[Disk]:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)

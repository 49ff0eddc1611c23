"""Folders of the user that outlast a run, and files in them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["cache_dir", "write_cached"]


def cache_dir() -> Path:
    """`$AIPERF_CACHE_DIR`, else `$XDG_CACHE_HOME/aiperf`, else `~/.cache/aiperf`; not created here."""
    own = os.environ.get("AIPERF_CACHE_DIR")
    if own:
        return Path(own)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "aiperf"


def write_cached(file: Path, data: bytes) -> None:
    """Writes beside it and renames, so a reader sees all or nothing, and of two writers the last wins. Makes the folder.

    OSError: it cannot be written; nothing is left behind then.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        Path(temporary).replace(file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise

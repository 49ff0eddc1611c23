"""Things made once per machine: files in the user's cache directory, safe against concurrent writers and read-only homes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["cache_dir", "cached_bytes"]


def cache_dir() -> Path:
    """`$AIPERF_CACHE_DIR`, else `$XDG_CACHE_HOME/aiperf`, else `~/.cache/aiperf`; not created here."""
    own = os.environ.get("AIPERF_CACHE_DIR")
    if own:
        return Path(own)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "aiperf"


def cached_bytes(name: str, make: Callable[[], bytes]) -> bytes:
    """The file `name` of the cache; made if it is not there. A cache that cannot be written is no error.

    `name` must hold everything the content depends on. Written beside and renamed, so a reader sees all or nothing and of
    two writers the last wins with the same bytes.
    """
    file = cache_dir() / name
    try:
        return file.read_bytes()
    except OSError:
        data = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{name}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            Path(temporary).replace(file)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return data
    return data

"""Things made once per machine: files in the user's cache directory, safe against concurrent writers and read-only homes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from aiperf.config.folders import cache_dir

__all__ = ["cache_dir", "cached_bytes"]


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

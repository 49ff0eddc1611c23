"""Things made once per machine: files in the user's cache directory, safe against concurrent writers and read-only homes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from aiperf.config.folders import cache_dir, write_cached

__all__ = ["cache_dir", "cached_bytes"]


def cached_bytes(name: str, make: Callable[[], bytes]) -> bytes:
    """The file `name` of the cache; made if it is not there. A cache that cannot be written is no error.

    `name` must hold everything the content depends on: two writers write the same bytes.
    """
    file = cache_dir() / name
    try:
        return file.read_bytes()
    except OSError:
        data = make()
    with suppress(OSError):  # made again by the next run
        write_cached(file, data)
    return data

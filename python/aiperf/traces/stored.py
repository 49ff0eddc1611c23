"""Recorded agent sessions in the user's cache directory: lengths, block ids and times, without the JSON they came in.

An entry is named by the SHA-256 of all that its files hold: one that changed is read again, whatever its size and time say. Entries
of another version of the core, or that are damaged, are not taken. Files below 16 MB are not kept: reading them takes no time.
`AIPERF_DATASET_MMAP_CACHE_ENABLED=false` (AIPerf's switch of its cache) turns it off.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.config.folders import cache_dir, write_cached

if TYPE_CHECKING:
    from aiperf._core import AgentCorpus

__all__ = ["CACHE_SWITCH", "LEAST_BYTES", "MOST_BYTES", "folder", "read_corpus"]

CACHE_SWITCH = "AIPERF_DATASET_MMAP_CACHE_ENABLED"
LEAST_BYTES = 16_000_000
"""Of the files, for which it is worth it."""
MOST_BYTES = 256_000_000
"""Of all entries: the ones not used for longest go."""
_OFF = {"0", "false", "no", "off"}


def folder() -> Path:
    return cache_dir() / "agents"


def read_corpus(path: Path) -> AgentCorpus:
    """The sessions of a file or folder, good and bad. OSError if it cannot be read."""
    from aiperf._core import AgentCorpus, agents_digest

    size = _size(path)
    if size < LEAST_BYTES or os.environ.get(CACHE_SWITCH, "").strip().lower() in _OFF:
        return AgentCorpus([str(path)])
    # Hashing takes a sixth of the time of reading, but is not for nothing where no entry can be meant.
    if any(folder().glob(f"{size}-*")):
        digest = agents_digest(str(path))
        found = _load(_entry(path, size, digest), digest)
        if found is not None:
            return found
    corpus = AgentCorpus([str(path)])
    if (data := corpus.to_bytes()) is not None and len(data) <= MOST_BYTES:
        # No room or no leave to write: the next run reads the files again.
        with suppress(OSError):
            write_cached(_entry(path, size, corpus.digest), data)
            _make_room()
    return corpus


def _size(path: Path) -> int:
    """Bytes of the files; 0 if they cannot be asked: whoever reads them says why."""
    try:
        files = path.iterdir() if path.is_dir() else (path,)
        return sum(f.stat().st_size for f in files)
    except OSError:
        return 0


def _entry(path: Path, size: int, digest: str) -> Path:
    """The path is part of it: sessions say where they stand."""
    name = hashlib.sha256(f"{digest}\0{path}".encode()).hexdigest()[:32]
    return folder() / f"{size}-{name}"


def _load(entry: Path, digest: str) -> AgentCorpus | None:
    """None if there is no such entry, or nothing can be made of it."""
    from aiperf._core import AgentCorpus

    try:
        corpus = AgentCorpus.from_bytes(entry.read_bytes())
    except OSError:
        return None
    if corpus is None or corpus.digest != digest:
        return None
    # A cache that cannot be written can be read.
    with suppress(OSError):
        os.utime(entry)
    return corpus


def _make_room() -> None:
    """OSError if the folder cannot be listed."""
    dated = []
    for entry in folder().iterdir():
        with suppress(OSError):  # another run has removed it
            stat = entry.stat()
            dated.append((stat.st_mtime_ns, stat.st_size, entry))
    kept = 0
    for _, size, entry in sorted(dated, reverse=True):
        kept += size
        if kept > MOST_BYTES:
            entry.unlink(missing_ok=True)

"""Folders of the user that outlast a run."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """`$AIPERF_CACHE_DIR`, else `$XDG_CACHE_HOME/aiperf`, else `~/.cache/aiperf`; not created here."""
    own = os.environ.get("AIPERF_CACHE_DIR")
    if own:
        return Path(own)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "aiperf"

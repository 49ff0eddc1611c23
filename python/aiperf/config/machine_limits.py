"""What this machine allows: open files and local ports, against what a run needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["RESERVED_FILES", "Limits", "machine_limits", "raise_file_limit"]

RESERVED_FILES = 128
"""Open files besides the connections: libraries, journal, logs, pipes, the interpreter's own. Measured 40 to 60."""

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_files`: hard limit of open files; None: no limit. `ports`: local ports towards one address; None: unknown."""

    max_files: int | None
    ports: int | None


def machine_limits() -> Limits:
    """Limits of this process; what cannot be read is None."""
    files: int | None
    try:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = None if hard == resource.RLIM_INFINITY else hard
    except (ImportError, OSError):
        files = None
    try:
        low, high = _PORT_RANGE.read_text(encoding="ascii").split()
        return Limits(files, int(high) - int(low) + 1)
    except (OSError, ValueError):
        return Limits(files, None)


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one, as far as the system lets us. For the start of a run."""
    try:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, OSError, ValueError):
        return

"""Ray clusters of tests, as users start them: `ray start`, on this machine or in network namespaces."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["RAY", "generator_pids", "ray_environment", "ray_head", "stop_ray"]


RAY = str(Path(sys.executable).with_name("ray"))


def ray_environment() -> dict[str, str]:
    return os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "NO_COLOR": "1",
        "RAY_AUTH_MODE": "disabled",
    }


def generator_pids() -> set[int]:
    """Ray names the processes of actors after their class."""
    return _pids(b"ray::Generator")


def _pids(word: bytes) -> set[int]:
    out = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_bytes():
                out.add(int(path.parent.name))
        except OSError:
            continue
    return out


def stop_ray(temp: Path) -> None:
    """End the processes of the cluster with this temporary directory, and no others."""
    for pid in _pids(str(temp).encode()):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


@contextmanager
def ray_head(prefix: Sequence[str] = (), *options: str) -> Iterator[str]:
    """`ray start --head`; its address. `prefix`: a command to run it in, as `ip netns exec NAME`."""
    short = Path(f"/tmp/ar{os.getpid()}")  # names of sockets below it must stay under 108 bytes
    words = [
        "start",
        "--head",
        "--port",
        "0",
        "--num-cpus",
        "4",
        "--include-dashboard",
        "false",
        "--temp-dir",
        str(short),
    ]
    begun = subprocess.run(
        [*prefix, RAY, *words, "--object-store-memory", "100000000", *options],
        env=ray_environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    try:
        assert begun.returncode == 0, begun.stdout + begun.stderr
        found = re.search(r"--address='([^']+)'", begun.stdout)
        assert found is not None, begun.stdout
        yield found[1]
    finally:
        stop_ray(short)

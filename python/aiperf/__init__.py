"""Measure generative-AI inference: `aiperf profile …`, or from Python.

`run = profile(config_from(model="m", url="http://localhost:8000", streaming=True, concurrency=16, request_count=200))`, then
`run.summary.stat("time_to_first_token", "p99")` in ms, or `polars.DataFrame(run.records)`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiperf.config.model import Config
    from aiperf.config.resolve import config_from
    from aiperf.run.finish import Run
    from aiperf.run.profile import profile
    from aiperf.run.report import report

    __version__: str

__all__ = ["Config", "Run", "__version__", "config_from", "profile", "report"]

_HOMES = {
    "Config": "aiperf.config.model",
    "Run": "aiperf.run.finish",
    "config_from": "aiperf.config.resolve",
    "profile": "aiperf.run.profile",
    "report": "aiperf.run.report",
}


def __getattr__(name: str) -> object:
    """Loaded on first use: `aiperf --help` needs none of it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("aiperf")
    if name not in _HOMES:
        raise AttributeError(f"module `aiperf` has no attribute `{name}`")
    return getattr(import_module(_HOMES[name]), name)

"""Measure generative-AI inference: `aiperf profile …`, or from Python (docs/guide/python.md).

`run = profile(config_from(model="m", url="http://localhost:8000", streaming=True, concurrency=16, request_count=200))`, then
`run.summary()["time_to_first_token"].p99` in ms, or `polars.DataFrame(run.records)`. Nothing here prints.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiperf.config.model import Config
    from aiperf.config.resolve import config_from
    from aiperf.live.model import LiveModel
    from aiperf.observer import Observer
    from aiperf.run.imported import open_any
    from aiperf.run.profile import profile
    from aiperf.run.report import report
    from aiperf.run.run import Run
    from aiperf.run.write import write
    from aiperf.sweeps.study import Study, sweep

    __version__: str

__all__ = [
    "Config",
    "LiveModel",
    "Observer",
    "Run",
    "Study",
    "__version__",
    "config_from",
    "open_any",
    "profile",
    "report",
    "sweep",
    "write",
]

_HOMES = {
    "Config": "aiperf.config.model",
    "LiveModel": "aiperf.live.model",
    "Observer": "aiperf.observer",
    "Run": "aiperf.run.run",
    "Study": "aiperf.sweeps.study",
    "config_from": "aiperf.config.resolve",
    "open_any": "aiperf.run.imported",
    "profile": "aiperf.run.profile",
    "report": "aiperf.run.report",
    "sweep": "aiperf.sweeps.study",
    "write": "aiperf.run.write",
}


def __getattr__(name: str) -> object:
    """Loaded on first use: `aiperf --help` needs none of it."""
    if name == "__version__":
        from aiperf.version import __version__

        return __version__
    if name not in _HOMES:
        raise AttributeError(f"module `aiperf` has no attribute `{name}`")
    return getattr(import_module(_HOMES[name]), name)

"""Which GPUs are read, and by what: `--gpu-telemetry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from aiperf.config.model import Config
from aiperf.errors import ConfigError, Note, Problem
from aiperf.telemetry.gpu.amdsmi import amdsmi_reader
from aiperf.telemetry.gpu.local import LocalReader
from aiperf.telemetry.gpu.nvml import nvml_reader
from aiperf.telemetry.prometheus.readings import Readings
from aiperf.telemetry.prometheus.scraper import Page, Scraper, full_page
from aiperf.web import access_of

__all__ = ["DEFAULT_PAGES", "GpuWatch", "watch_gpus"]

DEFAULT_PAGES: Final = ("http://localhost:9400/metrics", "http://localhost:9401/metrics")
"""Where a DCGM exporter listens by default; tried unless others are named, and no loss if it is not there."""
_LOCAL: Final[dict[str, Callable[[float], LocalReader]]] = {"pynvml": nvml_reader, "amdsmi": amdsmi_reader}
"""Words for the GPUs of this host, and what reads them."""


class GpuWatch:
    """Reads beside the load, from `start` to `stop`. `is_named`: the user asked for it, so that silence is worth a note."""

    def __init__(
        self, pages: tuple[str, ...], local: Sequence[LocalReader], scraper: Scraper | None, *, is_named: bool
    ) -> None:
        self.pages = pages
        self.is_named = is_named
        self._local = tuple(local)
        self._scraper = scraper

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        for reader in self._local:
            reader.start()
        if self._scraper is not None:
            self._scraper.start()

    def latest(self) -> tuple[Readings, ...]:
        """The last reading of each source that has one, while it goes on."""
        found = tuple(reader.latest() for reader in self._local)
        return (*found, *self._scraper.latest()) if self._scraper is not None else found

    def stop(self) -> tuple[Readings, ...]:
        """After a last reading of each source."""
        found = tuple(reader.stop() for reader in self._local)
        return (*found, *self._scraper.stop()) if self._scraper is not None else found

    def notes(self, readings: tuple[Readings, ...]) -> tuple[Note, ...]:
        """Sources that were named and did not answer."""
        silent = [r for r in readings if not r.num_readings] if self.is_named else []
        return tuple(
            Note("gpu_telemetry_failed", f"`{r.url}` returned no GPU metrics: {r.error or 'no answer'}", {"url": r.url})
            for r in silent
        )


def watch_gpus(config: Config) -> GpuWatch | None:
    """None with `--no-gpu-telemetry`. ConfigError for a word that is no source, or `pynvml` or `amdsmi` without the library or a GPU.

    `dashboard` in the list is about the screen, no source.
    """
    telemetry = config.telemetry
    if telemetry.no_gpu_telemetry:
        return None
    words = [w for w in telemetry.gpu_telemetry if w.lower() != "dashboard"]
    hint = "the metrics read are fixed: see `aiperf/telemetry/families/dcgm.py`"
    files = [w for w in words if w.lower().endswith(".csv")]
    if files:
        raise ConfigError([Problem(f"`{w}` is not a GPU telemetry source", "--gpu-telemetry", hint) for w in files])
    interval = telemetry.server_metrics_interval
    local = [_LOCAL[word](interval) for word in dict.fromkeys(w.lower() for w in words if w.lower() in _LOCAL)]
    urls = [w for w in words if w.lower() not in _LOCAL]
    pages = tuple(dict.fromkeys(full_page(u) for u in urls)) or (() if local else DEFAULT_PAGES)
    # No page is `own`: keys go to the server's hosts only, and nothing settles.
    scraper = (
        Scraper([Page(p, is_own=False) for p in pages], access_of(config), interval, accesses={}, settle_s=0.0)
        if pages
        else None
    )
    return GpuWatch(pages, local, scraper, is_named=bool(words))

"""Which GPUs are read, and by what: `--gpu-telemetry`."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from aiperf.config.model import Config
from aiperf.errors import ConfigError, Note, Problem
from aiperf.telemetry.gpu.nvml import NvmlReader
from aiperf.telemetry.prometheus.readings import Readings
from aiperf.telemetry.prometheus.scraper import Page, Scraper, full_page
from aiperf.web import access_of

__all__ = ["DEFAULT_PAGES", "GpuWatch", "watch_gpus"]

DEFAULT_PAGES: Final = ("http://localhost:9400/metrics", "http://localhost:9401/metrics")
"""Where a DCGM exporter listens by default; tried unless others are named, and no loss if it is not there."""
_REFUSED = {
    "amdsmi": "AMD's library is not read; AMD's device metrics exporter is, by its URL: `http://node:5000/metrics`",
}


class GpuWatch:
    """Reads beside the load, from `start` to `stop`. `is_named`: the user asked for it, so that silence is worth a note."""

    def __init__(
        self, pages: tuple[str, ...], nvml: NvmlReader | None, scraper: Scraper | None, *, is_named: bool
    ) -> None:
        self.pages = pages
        self.is_named = is_named
        self._nvml = nvml
        self._scraper = scraper

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        if self._nvml is not None:
            self._nvml.start()
        if self._scraper is not None:
            self._scraper.start()

    def latest(self) -> tuple[Readings, ...]:
        """The last reading of each source that has one, while it goes on."""
        found = (self._nvml.latest(),) if self._nvml is not None else ()
        return (*found, *self._scraper.latest()) if self._scraper is not None else found

    def stop(self) -> tuple[Readings, ...]:
        """After a last reading of each source."""
        found = (self._nvml.stop(),) if self._nvml is not None else ()
        return (*found, *self._scraper.stop()) if self._scraper is not None else found

    def notes(self, readings: tuple[Readings, ...]) -> tuple[Note, ...]:
        """Sources that were named and did not answer."""
        silent = [r for r in readings if not r.num_readings] if self.is_named else []
        return tuple(
            Note("gpu_telemetry_failed", f"`{r.url}` returned no GPU metrics: {r.error or 'no answer'}", {"url": r.url})
            for r in silent
        )


def watch_gpus(config: Config) -> GpuWatch | None:
    """None with `--no-gpu-telemetry`. ConfigError for a word that is no source, or `pynvml` without the library or a GPU.

    `dashboard` in the list is about the screen, no source.
    """
    t = config.telemetry
    if t.no_gpu_telemetry:
        return None
    words = [w for w in t.gpu_telemetry if w.lower() != "dashboard"]
    problems = [
        Problem(f"`{w}` is not a GPU telemetry source", "--gpu-telemetry", _reason(w)) for w in words if _reason(w)
    ]
    if problems:
        raise ConfigError(problems)
    urls = [w for w in words if w.lower() != "pynvml"]
    is_local = len(urls) < len(words)
    pages = tuple(dict.fromkeys(full_page(u) for u in urls)) or (() if is_local else DEFAULT_PAGES)
    interval = config.telemetry.server_metrics_interval
    nvml = NvmlReader(interval) if is_local else None
    # No page is `own`: keys go to the server's hosts only, and nothing settles.
    scraper = (
        Scraper([Page(p, is_own=False) for p in pages], access_of(config), interval, accesses={}, settle_s=0.0)
        if pages
        else None
    )
    return GpuWatch(pages, nvml, scraper, is_named=bool(words))


def _reason(word: str) -> str | None:
    if word.lower().endswith(".csv"):
        return "the metrics read are fixed: see `aiperf/telemetry/families/dcgm.py`"
    return _REFUSED.get(word.lower())

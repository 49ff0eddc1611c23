"""The server's gauges during a run and after it, at the study's own pace, kept beside the run: a study that goes on needs them again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from aiperf.config.model import Config
from aiperf.json_text import json_text
from aiperf.metrics import Floats
from aiperf.reports.writing import write_text
from aiperf.telemetry.prometheus import Scraper, gauge, scrape
from aiperf.telemetry.prometheus.readings import CountSpan, Readings, counters_delta, returns_to_level

__all__ = ["Levels", "Watch", "read_levels", "watching", "write_levels"]

_INTERVAL_S: Final = 0.1
_NAMES: Final = ("kv_cache_usage", "requests_waiting", "requests_running", "requests_swapped")


@dataclass(frozen=True, kw_only=True)
class Levels:
    """`times`: (scrapes,) ns since the epoch, half way between question and response. `gauges`: by name (scrapes,) values, the KV usage as
    a share of 1; a gauge that the server lacks is missing. `preemptions`: counted meanwhile, None without such a counter.
    """

    times: Floats = field(default_factory=lambda: np.zeros(0))
    gauges: dict[str, Floats] = field(default_factory=dict)
    preemptions: float | None = None

    @property
    def usage(self) -> Floats | None:
        return self.gauges.get("kv_cache_usage")

    def highest(self, name: str) -> float | None:
        """None if the server has no such gauge."""
        values = self.gauges.get(name)
        return None if values is None or not np.isfinite(values).any() else float(np.nanmax(values))

    def last(self, name: str) -> float | None:
        values = self.gauges.get(name)
        return None if values is None or not len(values) else float(values[-1])

    def back_after(self, end: float, within_s: float, *, level: float, tolerance: float) -> float | None:
        """Seconds after `end` (ns) until the KV usage is back at `level` and stays; None if it never was."""
        if self.usage is None:
            return None
        return returns_to_level(
            self.times.astype(np.int64), self.usage, int(end), within_s, level=level, tolerance=tolerance
        )


class Watch:
    """What is scraped while the context lasts; `levels` afterwards."""

    def __init__(self) -> None:
        self.levels = Levels()


@contextmanager
def watching(config: Config, path: Path, settle_s: float) -> Iterator[Watch]:
    """Scrapes around the body, and after it until nothing runs or waits and the KV usage stands still, at most `settle_s`.

    Written to `path`. Nothing is scraped if the server has no metrics, or with --no-server-metrics.
    """
    watch = Watch()
    interval = min(_INTERVAL_S, config.telemetry.server_metrics_interval)
    scraper = scrape(config.replace({"telemetry.server_metrics_interval": interval}))
    if scraper is None:
        yield watch
        return
    scraper.start()
    try:
        yield watch
        _settle(scraper, settle_s, interval)
    finally:
        readings = scraper.stop(wait_for_rest=False)
        watch.levels = _levels(readings)
        write_levels(path, watch.levels)


def _settle(scraper: Scraper, settle_s: float, interval: float) -> None:
    deadline = time.monotonic() + settle_s
    before: list[float] | None = None
    while time.monotonic() < deadline:
        time.sleep(interval)
        found = _levels(scraper.latest())
        now = [found.last(name) or 0.0 for name in _NAMES]
        if now == before and not any(now[1:]):
            return
        before = now


def _levels(readings: Sequence[Readings]) -> Levels:
    """Each name from the first page that has it: the measured server's own, then those named besides (`--server-metrics`)."""
    pages = sorted((r for r in readings if r.num_readings), key=lambda r: (not r.is_own, -r.num_readings))
    if not pages:
        return Levels()
    base = next((p for p in pages if gauge(p, "kv_cache_usage") is not None), pages[0])
    times = _middle(base)
    gauges = {}
    for name in _NAMES:
        for page in pages:
            found = gauge(page, name)
            if found is not None:
                at, values = found
                known = np.isin(page.times_ns, at)
                # A server may show a gauge only from its first request on: what it was before is not known.
                gauges[name] = np.interp(times, _middle(page)[known], values, left=np.nan)
                break
    counts = [counters_delta([p], _whole(p)).get("preemptions") for p in pages]
    return Levels(times=times, gauges=gauges, preemptions=next((c for c in counts if c is not None), None))


def _whole(page: Readings) -> CountSpan:
    """From the first scrape to the last."""
    first = int(page.times_ns[0])
    return CountSpan(start_ns=first, end_ns=first)


def _middle(page: Readings) -> Floats:
    """(scrapes,) ns, half way between question and response."""
    return (page.times_ns - page.latencies_ns // 2).astype(np.float64)


def write_levels(path: Path, levels: Levels) -> None:
    """For a study that goes on."""
    content = {
        "times_ns": [int(t) for t in levels.times],
        "gauges": {n: [None if np.isnan(v) else float(v) for v in values] for n, values in levels.gauges.items()},
        "preemptions": levels.preemptions,
    }
    write_text(path, json_text(content) + "\n")


def read_levels(path: Path) -> Levels:
    """What was kept of a run that is done; nothing if there is no such file."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Levels(
            times=np.array(told["times_ns"], dtype=np.float64),
            gauges={name: np.array(values, dtype=np.float64) for name, values in told["gauges"].items()},
            preemptions=told["preemptions"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Levels()

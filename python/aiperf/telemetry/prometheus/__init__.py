"""The server's own metrics over the run: read beside the load by threads of their own, kept as columns, summed up at the end.

`scrape(config, pages)` reads; `Scraper.stop()` gives `Readings`; `summary.summarise` says what they mean for the run, and
`export` writes AIPerf's `server_metrics_export.*`.
"""

from __future__ import annotations

from aiperf.telemetry.prometheus.exposition import Exposition, MetricSeries
from aiperf.telemetry.prometheus.readings import Readings, counters_delta, gauge, returns_to_level
from aiperf.telemetry.prometheus.scraper import Page, Scraper, pages_of, scrape

__all__ = [
    "Exposition",
    "MetricSeries",
    "Page",
    "Readings",
    "Scraper",
    "counters_delta",
    "gauge",
    "pages_of",
    "returns_to_level",
    "scrape",
]

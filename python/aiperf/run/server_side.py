"""What the server said of itself during the load: counters for the account, gauges for what cancelling left behind.

`watching` reads beside the load; what it found is kept in `run.json` (`server_metrics`), so that a report from disk says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from aiperf.config.model import Config
from aiperf.errors import Note

if TYPE_CHECKING:
    from aiperf.metrics.conservation import ServerCounters
    from aiperf.metrics.summary import Gauge
    from aiperf.telemetry.probe import ProbeResult
    from aiperf.telemetry.prometheus import Readings, Scraper

__all__ = ["GAUGES", "ServerSide", "evaluate", "from_facts", "start_scraper"]

GAUGES: Mapping[str, bool] = {"requests_running": True, "kv_cache_usage": False}
"""Gauges that must return after cancellations, by our name; whether they count requests."""


@dataclass(frozen=True, slots=True)
class ServerSide:
    """`counters` None: no page answered. `gauges`: on the run's clock. `told`: for `run.json`."""

    counters: ServerCounters | None = None
    gauges: tuple[Gauge, ...] = ()
    notes: tuple[Note, ...] = ()
    told: Mapping[str, object] = field(default_factory=dict)


def start_scraper(config: Config, probe: ProbeResult | None) -> Scraper | None:
    """Reading already; None with --no-server-metrics or where there is no page."""
    if config.telemetry.no_server_metrics:
        return None
    from aiperf.telemetry.prometheus import scrape

    scraper = scrape(config, None if probe is None else probe.metrics_urls)
    if scraper is not None:
        scraper.start()
    return scraper


def evaluate(readings: Sequence[Readings], outcome: Mapping[str, Any]) -> ServerSide:
    """What the readings say of the run whose clock the outcome tells."""
    from aiperf.metrics.summary import Gauge
    from aiperf.telemetry.prometheus import gauge
    from aiperf.telemetry.prometheus.summary import summarise

    wall = int(outcome["start_wall_ns"])
    phases = outcome.get("phases") or [{"start_ns": 0}]
    summary = summarise(readings, wall + int(phases[0]["start_ns"]), wall + int(outcome["end_ns"]))
    if not summary.num_pages:
        return ServerSide(notes=summary.notes)
    own = [r for r in readings if r.is_own and r.num_readings]
    gauges = []
    for name, counts_requests in GAUGES.items():
        found = [g for r in own if (g := gauge(r, name)) is not None]
        # Pages are read at moments of their own; levels of several servers do not add up.
        if len(found) == 1:
            times, levels = found[0]
            at = tuple(float(t) for t in (times - wall).tolist())
            gauges.append(Gauge(name, at, tuple(float(v) for v in levels.tolist()), counts_requests))
    told = {
        **summary.as_dict(),
        "conservation": asdict(summary.conservation()),
        "gauges": [{"name": g.name, "times_ns": g.times_ns, "levels": g.levels} for g in gauges],
    }
    return ServerSide(summary.conservation(), tuple(gauges), summary.notes, told)


def from_facts(facts: Mapping[str, Any]) -> ServerSide:
    """The same from `run.json`."""
    from aiperf.metrics.conservation import ServerCounters
    from aiperf.metrics.summary import Gauge

    told = facts.get("server_metrics") or {}
    counters = told.get("conservation")
    return ServerSide(
        None if counters is None else ServerCounters(**counters),
        tuple(
            Gauge(g["name"], tuple(g["times_ns"]), tuple(g["levels"]), GAUGES.get(g["name"], False))
            for g in told.get("gauges", ())
        ),
        told=told,
    )

"""What the server said of itself during the load: counters for the accounting check, gauges for what cancelling left behind.

`watching` reads beside the load; what it found is kept in `run.json` (`server_metrics`), so that a report from disk says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from aiperf.config.model import Config
from aiperf.errors import Note
from aiperf.outcome import Outcome
from aiperf.records.run_json import GAUGES, ServerMetrics

if TYPE_CHECKING:
    from aiperf.telemetry.probe import ProbeResult
    from aiperf.telemetry.prometheus import Readings, Scraper

__all__ = ["ServerSide", "evaluate", "start_scraper"]


@dataclass(frozen=True, slots=True)
class ServerSide:
    """`metrics`: for `run.json`, gauges on the run's clock; None: no endpoint answered."""

    metrics: ServerMetrics | None = None
    notes: tuple[Note, ...] = ()


def _measured(outcome: Outcome) -> tuple[int, int]:
    """The measured phases, ns since the epoch."""
    phases = outcome.measured or outcome.phases
    if not phases:
        return outcome.start_wall_ns, outcome.start_wall_ns + outcome.end_ns
    return outcome.start_wall_ns + phases[0].start_ns, outcome.start_wall_ns + phases[-1].end_ns


def start_scraper(config: Config, probe: ProbeResult | None) -> Scraper | None:
    """Reading already; None with --no-server-metrics or where there is no page."""
    if config.telemetry.no_server_metrics:
        return None
    from aiperf.telemetry.prometheus import scrape

    scraper = scrape(config, None if probe is None else probe.metrics_urls)
    if scraper is not None:
        scraper.start()
    return scraper


def evaluate(readings: Sequence[Readings], outcome: Outcome, gpus: Sequence[Readings] = ()) -> ServerSide:
    """What the readings of the server and its GPUs say of the run whose clock the outcome tells."""
    from aiperf.metrics.server import view_to_json
    from aiperf.telemetry.gpu.courses import gpu_courses
    from aiperf.telemetry.prometheus import gauge
    from aiperf.telemetry.prometheus.server_view import build_view
    from aiperf.telemetry.prometheus.summary import summarise

    wall = outcome.start_wall_ns
    begin_ns = outcome.phases[0].start_ns if outcome.phases else 0
    summary = summarise(readings, wall + begin_ns, wall + outcome.end_ns)
    load = wall + begin_ns, wall + outcome.end_ns
    courses = gpu_courses(gpus, load, wall)
    if not summary.num_pages and not courses:
        return ServerSide(notes=summary.notes)
    view = build_view(readings, _measured(outcome), load, wall, ends_with_load=outcome.ends_measured)
    view = replace(view, series=(*view.series, *courses))
    own = [r for r in readings if r.is_own and r.num_readings]
    gauges = []
    for name in GAUGES:
        found = [g for r in own if (g := gauge(r, name)) is not None]
        # Pages are read at moments of their own; levels of several servers do not add up.
        if len(found) == 1:
            times, levels = found[0]
            at = tuple(float(t) for t in (times - wall).tolist())
            gauges.append({"name": name, "times_ns": at, "levels": tuple(float(v) for v in levels.tolist())})
    told = {
        **summary.as_dict(),
        "conservation": asdict(summary.conservation()),
        "gauges": gauges,
        "view": view_to_json(view),
    }
    return ServerSide(ServerMetrics.model_validate(told), summary.notes)

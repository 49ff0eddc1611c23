"""What is watched beside the load: the server's metrics, the GPUs, and the way to the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aiperf.config.model import Config
from aiperf.errors import Note
from aiperf.observer import Level
from aiperf.outcome import Outcome
from aiperf.run.part import watches_the_server
from aiperf.run.server_side import start_scraper
from aiperf.telemetry.network import watch_network

if TYPE_CHECKING:
    from aiperf.telemetry import prometheus
    from aiperf.telemetry.gpu.sources import GpuWatch
    from aiperf.telemetry.network import Handshake, NetworkProber
    from aiperf.telemetry.probe import ProbeResult
    from aiperf.telemetry.spans import Span
    from aiperf.telemetry.spans.receiver import Receiver

__all__ = ["Monitored", "Watchers", "traces_to_wait_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitored:
    """`notes`: GPUs that were named and said nothing. `round_trips` None: not probed; `spans` None: not received."""

    server: Sequence[prometheus.Readings]
    gpus: Sequence[prometheus.Readings]
    gpu_pages: Sequence[str]
    notes: tuple[Note, ...]
    round_trips: Sequence[Handshake] | None
    spans: Sequence[Span] | None = None


@dataclass(frozen=True, slots=True)
class Watchers:
    """None where there is nothing to watch."""

    scraper: prometheus.Scraper | None
    gpus: GpuWatch | None
    network: NetworkProber | None
    receiver: Receiver | None = None

    @classmethod
    def start(cls, config: Config, probe: ProbeResult | None) -> Watchers:
        from aiperf.telemetry.gpu.sources import watch_gpus

        is_watching = watches_the_server(config)
        network = watch_network(config)
        scraper = start_scraper(config, probe) if is_watching else None
        gpus = watch_gpus(config) if is_watching else None
        if gpus is not None:
            gpus.start()
        if network is not None:
            network.start()
        receiver = None
        if is_watching and config.telemetry.engine_traces is not None:
            from aiperf.telemetry.spans.receiver import start_receiver

            receiver = start_receiver(config.telemetry.engine_traces)
        return cls(scraper, gpus, network, receiver)

    def levels(self) -> tuple[Level, ...]:
        """What the server and the GPUs report right now."""
        if self.scraper is None and self.gpus is None:
            return ()
        try:
            from aiperf.run.levels import gpu_levels, server_levels

            server = () if self.scraper is None else server_levels(self.scraper.latest())
            gpus = () if self.gpus is None else gpu_levels(self.gpus.latest())
        except OSError:  # the last file descriptor is a connection's: gauges are no reason to end a run
            return ()
        return (*server, *gpus)

    def stop(self, traces: int = 0, finished: int = 0) -> Monitored:
        """`traces`: how many traces are waited for, if spans are received; `finished`: how many requests the server must have counted."""
        monitored = self._stop(finished)
        if self.receiver is None:
            return monitored
        self.receiver.wait_for(traces)
        spans = self.receiver.stop()
        return replace(monitored, spans=spans, notes=(*monitored.notes, *self.receiver.notes))

    def _stop(self, finished: int) -> Monitored:
        server = () if self.scraper is None else self.scraper.stop(finished=finished)
        seen = () if self.gpus is None else self.gpus.stop()
        round_trips = None if self.network is None else self.network.stop()
        if self.gpus is None:
            return Monitored(server=server, gpus=(), gpu_pages=(), notes=(), round_trips=round_trips)
        return Monitored(
            server=server,
            gpus=seen,
            gpu_pages=self.gpus.pages,
            notes=tuple(self.gpus.notes(seen)),
            round_trips=round_trips,
        )


def traces_to_wait_for(share: float, outcome: Outcome) -> int:
    """How many requests of a run must have spans; a share is drawn request by request, so that a few less than it says come for sure."""
    sent = sum(p.sent for p in outcome.phases)
    return sent if share >= 1 else int(0.9 * share * sent)

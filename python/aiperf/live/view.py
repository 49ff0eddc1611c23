"""What a live view shows: plain values, made by `LiveModel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aiperf.live.progress import Pace
from aiperf.live.spread import Distribution
from aiperf.observer import Level, StudyState
from aiperf.outcome import Counts, GeneratorState, Snapshot

if TYPE_CHECKING:
    from aiperf.metrics.fitness import Verdict

__all__ = ["AssertLine", "ErrorLine", "Figures", "Fitness", "Moment", "Percentiles", "TierLine", "View"]

Percentiles = tuple[float, float, float]
"""p50, p90, p99, ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of a span of time; None where there is nothing. `flow`: output tokens per second where the server counts them, else chunks."""

    seconds: float
    ok: int
    failed: int
    requests_per_s: float | None
    flow: float | None
    flow_unit: Literal["tokens", "chunks"]
    ttft: Percentiles | None
    itl: Percentiles | None
    latency: Percentiles | None

    @property
    def error_share(self) -> float | None:
        """Failed of all that ended by themselves, 0 to 1."""
        ended = self.ok + self.failed
        return self.failed / ended if ended else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One second, for charts over time. `at_s`: since run start; p50 and p99 in ms."""

    at_s: float
    requests_per_s: float
    flow: float
    in_flight: int
    errors: int
    ttft: tuple[float, float] | None
    itl: tuple[float, float] | None
    latency: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """`name`: in words, with the HTTP status; `message`: the latest one's, which came `ago_s` before."""

    name: str
    count: int
    message: str
    ago_s: float


@dataclass(frozen=True, slots=True)
class TierLine:
    """Requests that met all SLOs of a tier. None: known only at the end of the run."""

    name: str
    good: int | None
    share: float | None
    per_s: float | None


@dataclass(frozen=True, slots=True)
class AssertLine:
    """A condition so far. `holds` None: known only at the end. `margin`: distance to the threshold as a share of it, negative if missed."""

    text: str
    actual: str
    holds: bool | None
    margin: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """The certificate so far, as far as it is known while the load runs. Lags in ms, shares 0 to 1 of the busiest worker."""

    verdict: Verdict
    reasons: tuple[str, ...]
    send_lag: tuple[float, float] | None
    receive_lag: tuple[float, float] | None
    cpu: float | None
    wait: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a screen shows. `cancelled`, `ok`, `failed`: as in `so_far`, of the current kind of phase."""

    pace: Pace
    is_measured: bool
    now: Figures
    so_far: Figures
    cancelled: int
    moments: tuple[Moment, ...]
    spreads: dict[str, Distribution]
    errors: tuple[ErrorLine, ...]
    tiers: tuple[TierLine, ...]
    asserts: tuple[AssertLine, ...]
    fitness: Fitness
    levels: tuple[Level, ...]
    generators: tuple[GeneratorState, ...]
    study: StudyState | None
    counts: Counts
    snapshot: Snapshot

"""The summary of a run: what every report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from aiperf.errors import Note
from aiperf.metrics import Bools
from aiperf.metrics.cancellation import Cancellation
from aiperf.metrics.certificate import Certificate
from aiperf.metrics.compute import Results
from aiperf.metrics.confidence import Interval
from aiperf.metrics.conservation import Check, EngineFacts, ServerCounters
from aiperf.metrics.context import MetricOptions, TokenSource
from aiperf.metrics.error_table import ErrorGroup, success_text
from aiperf.metrics.goodput import Servers, Tier, TierResult
from aiperf.metrics.gpu_energy import GpuEnergy
from aiperf.metrics.path import NetworkPath
from aiperf.metrics.server import PREFIX, ServerView
from aiperf.metrics.server_findings import ServerFinding
from aiperf.metrics.slices import Slice
from aiperf.metrics.stalls import Stalls
from aiperf.metrics.stats import Stats
from aiperf.metrics.steady import Steady
from aiperf.metrics.trend import Trend
from aiperf.records import Columns

__all__ = [
    "AssertionResult",
    "ConditionLike",
    "Counts",
    "Gauge",
    "Phase",
    "Summary",
    "SummaryOptions",
    "phase_mask",
]


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of the run; its index is the records' `phase`."""

    name: str = "profiling"
    kind: Literal["warmup", "profiling"] = "profiling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests of the profiling phases by class. `cancelled` = on purpose + cut off by the grace period + interrupted."""

    rows: int
    ok: int
    failed: int
    cancelled: int
    deliberate: int
    grace: int
    interrupted: int


@dataclass(frozen=True)
class Gauge:
    """Samples of a server's gauge: run times in ns, ascending, and levels. `counts_requests`: requests running."""

    name: str
    times_ns: tuple[float, ...]
    levels: tuple[float, ...]
    counts_requests: bool


class ConditionLike(Protocol):
    """`tag:stat op value`. `unit` "ms": value in ms; "%": in percent, 95 for 95 %; None: the metric's shown unit."""

    @property
    def tag(self) -> str: ...
    @property
    def stat(self) -> str | None: ...
    @property
    def op(self) -> str: ...
    @property
    def value(self) -> float | str: ...
    @property
    def unit(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionResult:
    """`text`: the condition as given. `actual`: with its unit, `–` if the metric does not exist (then the assertion is missed).

    `sure`: whether the figure's 95 % interval lies on one side of the threshold; None if it has no interval.
    """

    text: str
    passed: bool
    actual: str
    reason: str | None = None
    sure: bool | None = None


@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """What to compute besides the metrics; everything can be asked of the records again later.

    `percentiles`: further ones (--percentiles, --mark). `tiers`: --goodput. `target_rate`: how many servers it takes.
    `target_share`: wanted share of good requests, of the run and of each slice.
    `slice_ns`, `exclude_slices`: --slice-duration, --exclude-slices. `steady_state`: the steady part is the headline.
    `conditions`: --assert. `facts`: what the engine said; None for imported results (then there is no certificate).
    `server`, `gauges`, `view`: what the server's /metrics said; `view`: in standard names. `confidence`: compute intervals. `cancels`: requests were to be cancelled.
    `energy`: what the GPUs took meanwhile, by vendor.
    """

    metrics: MetricOptions = field(default_factory=MetricOptions)
    phases: tuple[Phase, ...] = (Phase(),)
    percentiles: tuple[float, ...] = ()
    tiers: tuple[Tier, ...] = ()
    target_rate: float | None = None
    target_share: float = 0.95
    slice_ns: int | None = None
    exclude_slices: tuple[int, ...] = ()
    steady_state: bool = False
    stall_ns: int = 1_000_000_000
    conditions: tuple[ConditionLike, ...] = ()
    facts: EngineFacts | None = None
    server: ServerCounters | None = None
    gauges: tuple[Gauge, ...] = ()
    view: ServerView | None = None
    confidence: bool = True
    cancels: bool = False
    energy: Mapping[str, GpuEnergy] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything reports say; statistics are in shown units, absent is a missing tag or None.

    `metrics`: the headline: the whole run, or the steady part with --steady-state; `whole` and `steady_part` are both views.
    `begin_ns`, `end_ns`: epoch ns of the first start and the last end of the profiling phases; `origin_ns`: epoch ns of run
    time 0. `count_source`: who counted the tokens. `excluded`: slices left out of `tiers` and the goodput metrics.
    """

    metrics: Results
    whole: Results
    warmup: Results
    counts: Counts
    errors: tuple[ErrorGroup, ...]
    cancellations: tuple[ErrorGroup, ...]
    count_source: TokenSource
    begin_ns: int | None
    end_ns: int | None
    origin_ns: int
    duration_s: float | None
    tiers: tuple[TierResult, ...] = ()
    servers: Servers | None = None
    slices: tuple[Slice, ...] = ()
    slice_s: float | None = None
    excluded: tuple[int, ...] = ()
    trend: Trend | None = None
    steady: Steady | None = None
    steady_part: Slice | None = None
    steady_is_headline: bool = False
    stalls: Stalls | None = None
    cancellation: Cancellation | None = None
    intervals: tuple[Interval, ...] = ()
    certificate: Certificate | None = None
    checks: tuple[Check, ...] = ()
    assertions: tuple[AssertionResult, ...] = ()
    sweep_resolution_ms: float = 0.0
    path: NetworkPath = field(default_factory=NetworkPath)
    notices: tuple[Note, ...] = ()
    server: ServerView | None = None
    server_findings: tuple[ServerFinding, ...] = ()
    stall_ns: float = 1e9

    @property
    def success_text(self) -> str:
        return success_text(self.counts.ok, self.errors)

    def __getitem__(self, tag: str) -> Stats:
        """A metric's statistics in its display unit: `summary["time_to_first_token"].p99`. KeyError if the run has no such metric."""
        return self.metrics[tag].stats

    def __contains__(self, tag: object) -> bool:
        return tag in self.metrics

    def stat(self, tag: str, name: str = "avg") -> float | None:
        """A statistic by tag and key, in the shown unit; None if it does not exist. `server:queue_time` is the server's own."""
        if tag.startswith(PREFIX):
            return None if self.server is None else self.server.stat(tag, name)
        found = self.metrics.get(tag)
        return None if found is None else found.stats.get(name)


def phase_mask(columns: Columns, phases: tuple[Phase, ...], kind: str) -> Bools:
    """(rows,) rows of phases of that kind; rows of no known phase are profiling, those without one are of the first."""
    is_kind = [p.kind == kind for p in phases]
    others = kind == "profiling"
    if all(one == others for one in is_kind):
        return np.full(columns.num_rows, others)
    phase = columns.scalar("phase")
    mask = np.full(columns.num_rows, others)
    for index, one in enumerate(is_kind):
        mask[phase == index] = one
    mask[np.isnan(phase)] = is_kind[0]
    return mask

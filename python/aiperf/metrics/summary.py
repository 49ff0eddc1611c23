"""The summary of a run: what every report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.metrics import Bools
from aiperf.metrics.context import MetricContext, MetricOptions, TokenSource
from aiperf.metrics.error_table import ErrorGroup, group_errors, success_text
from aiperf.metrics.goodput import Servers, Tier, TierResult, score_tier, servers_needed
from aiperf.metrics.measure import Results, build_context, measure, rows_of, wanted_percentiles
from aiperf.records import Columns

__all__ = ["Counts", "Notice", "Phase", "Summary", "SummaryOptions", "summarise"]


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of the run; its index is the records' `phase`."""

    name: str = "profiling"
    kind: Literal["warmup", "profiling"] = "profiling"


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning as a value: what kind, in words, what to do, and the figures behind it."""

    kind: str
    text: str
    hint: str | None = None
    data: Mapping[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of the profiling phases by class. `cancelled` = on purpose + cut off by the grace period + interrupted."""

    rows: int
    ok: int
    failed: int
    cancelled: int
    deliberate: int
    grace: int
    interrupted: int


@dataclass(frozen=True, slots=True)
class SummaryOptions:
    """`percentiles`: further ones (--percentiles, --mark). `tiers`: --goodput. `target_rate`, `target_share`: --target-rate."""

    metrics: MetricOptions = field(default_factory=MetricOptions)
    phases: tuple[Phase, ...] = (Phase(),)
    percentiles: tuple[float, ...] = ()
    tiers: tuple[Tier, ...] = ()
    target_rate: float | None = None
    target_share: float | None = None
    stall_ns: int = 1_000_000_000


@dataclass(frozen=True)
class Summary:
    """Everything reports say; statistics are in shown units, absent is a missing tag or None.

    `begin_ns`, `end_ns`: epoch ns of the first start and the last end of the profiling phases. `count_source`: who counted.
    """

    metrics: Results
    warmup: Results
    counts: Counts
    errors: tuple[ErrorGroup, ...]
    count_source: TokenSource
    begin_ns: int | None
    end_ns: int | None
    duration_s: float | None
    tiers: tuple[TierResult, ...] = ()
    servers: Servers | None = None
    notices: tuple[Notice, ...] = ()

    @property
    def success_text(self) -> str:
        return success_text(self.counts.ok, self.errors)

    def stat(self, tag: str, name: str = "avg") -> float | None:
        """A statistic by tag and key, in the shown unit; None if it does not exist."""
        found = self.metrics.get(tag)
        return None if found is None else found.stats.get(name)


def phase_mask(columns: Columns, phases: tuple[Phase, ...], kind: str) -> Bools:
    """(rows,) rows of phases of that kind; rows of no known phase are profiling."""
    index = np.nan_to_num(columns.scalar("phase")).astype(np.int64)
    kinds = np.array([p.kind == kind for p in phases] + [kind == "profiling"])
    mask: Bools = kinds[np.minimum(index, len(phases))]
    return mask


def count_rows(r: MetricContext) -> Counts:
    kinds = r.error_kind

    def number(mask: Bools) -> int:
        return int(np.count_nonzero(mask))

    return Counts(
        r.num_rows, number(r.ok), number(r.failed), number(r.cancelled), number(kinds == ErrorKind.CANCELLED),
        number(kinds == ErrorKind.GRACE), number(kinds == ErrorKind.INTERRUPTED),
    )  # fmt: skip


def summarise(columns: Columns, options: SummaryOptions = SummaryOptions()) -> Summary:
    """Compute everything from the records; pure, one pass over the chunks of each phase kind."""
    tiers = options.tiers
    metric_options = options.metrics
    if tiers and not metric_options.slos:
        from dataclasses import replace

        metric_options = replace(metric_options, slos=tiers[0].slos)
    percentiles = wanted_percentiles(options.percentiles)
    profiling = rows_of(columns, phase_mask(columns, options.phases, "profiling"))
    r, sweep = build_context(profiling, metric_options, stall_ns=options.stall_ns)
    results = measure(r, sweep, percentiles)
    is_warmup = phase_mask(columns, options.phases, "warmup")
    warmup: Results = {}
    if is_warmup.any():
        w, warm_sweep = build_context(rows_of(columns, is_warmup), metric_options)
        warmup = measure(w, warm_sweep, percentiles)
    start, finish = r.start, np.fmax(r.finish, r.column("end"))
    scored = tuple(score_tier(r, tier) for tier in tiers)
    servers = None
    if options.target_rate is not None:
        rate = results.get("request_throughput")
        first = scored[0] if scored else None
        servers = servers_needed(
            options.target_rate, rate.stats.avg if rate else None, first.goodput if first else None,
            first.fraction if first else None, options.target_share,
        )  # fmt: skip
    wall = columns.start_wall_ns
    duration = r.duration_s
    return Summary(
        metrics=results,
        warmup=warmup,
        counts=count_rows(r),
        errors=group_errors(profiling, r.failed),
        count_source=r.count_source,
        begin_ns=None if np.isnan(start).all() else wall + int(np.nanmin(start)),
        end_ns=None if np.isnan(finish).all() else wall + int(np.nanmax(finish)),
        duration_s=None if np.isnan(duration) else duration,
        tiers=scored,
        servers=servers,
    )

"""Runs against a baseline: relation of the workloads, differences with their certainty, scaling over GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aiperf.compare.card import WorkloadCard, build_card
from aiperf.compare.difference import CompareOptions, Difference, adjust, compare_figure, headline, server_figures
from aiperf.compare.workload import Relation, relate
from aiperf.run.data import Definition, RunData, figure

__all__ = ["Comparison", "Pair", "Scaling", "compare_groups", "compare_runs", "compare_sides"]

_SIDE_BY_SIDE = (
    ("time_to_first_token", "avg"),
    ("time_to_first_token", "p99"),
    ("inter_token_latency", "avg"),
    ("request_latency", "avg"),
    ("request_latency", "p99"),
    ("output_token_throughput_per_user", "avg"),
    ("request_throughput", "avg"),
    ("output_token_throughput", "avg"),
    ("goodput", "avg"),
)


@dataclass(frozen=True, slots=True)
class Scaling:
    """`efficiency` = (TPS of B / TPS of A) / (GPUs of B / GPUs of A); 1: twice the GPUs give twice the tokens."""

    gpus_a: int
    gpus_b: int
    speedup: float
    efficiency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One run (or the repeats of it) against the baseline. `differences`: empty verdicts unless the workloads are comparable.

    `limited`: the runs of the two whose client was the limit: differences then need not be the server's.
    """

    name: str
    relation: Relation
    differences: tuple[Difference, ...]
    scaling: Scaling | None
    definitions: tuple[tuple[str, Definition], ...]
    limited: tuple[str, ...] = ()

    @property
    def is_comparable(self) -> bool:
        return self.relation.kind != "different"

    @property
    def regressions(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.verdict == "worse")

    @property
    def improvements(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.verdict == "better")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`cards`: one per side, the baseline first. `pairs`: the others against it. `notes`: what the reader has to know."""

    baseline: str
    cards: tuple[WorkloadCard, ...]
    pairs: tuple[Pair, ...]
    options: CompareOptions
    notes: tuple[str, ...] = ()
    runs: tuple[RunData, ...] = field(default=(), repr=False)


def _scaling(baseline: RunData, other: RunData) -> Scaling | None:
    if baseline.num_gpus is None or other.num_gpus is None or baseline.num_gpus == other.num_gpus:
        return None
    left, right = figure(baseline, "output_token_throughput"), figure(other, "output_token_throughput")
    if not left or right is None:
        return None
    return Scaling(baseline.num_gpus, other.num_gpus, right / left, right / left / (other.num_gpus / baseline.num_gpus))


def _definitions(runs: Sequence[RunData]) -> tuple[tuple[str, Definition], ...]:
    """(tool, definition) of what the tools define otherwise; empty if the same tool made all."""
    if len({r.tool.split()[0] for r in runs}) < 2:
        return ()
    return tuple(dict.fromkeys((r.tool, d) for r in runs for d in r.differs))


def compare_groups(
    baseline: Sequence[RunData],
    others: Sequence[RunData],
    options: CompareOptions | None = None,
    *,
    paired: bool = False,
) -> Pair:
    """Repeats of B against repeats of A (one each is fine). `paired`: interleaved blocks, n-th against n-th."""
    settings = options or CompareOptions()
    relation = relate(baseline[0], others[0])
    runs = (*baseline, *others)
    figures = headline(runs)
    if relation.kind == "different":
        wanted = [(t, s) for t, s in _SIDE_BY_SIDE if all(figure(r, t, s) is not None for r in runs)]
        plain = (compare_figure(baseline, others, tag, stat, settings, paired=paired) for tag, stat in wanted)
        differences = tuple(
            Difference(tag=d.tag, stat=d.stat, unit=d.unit, a=d.a, b=d.b, change=d.change, in_points=d.in_points)
            for d in plain
        )
    else:
        differences = adjust(
            [compare_figure(baseline, others, tag, stat, settings, paired=paired) for tag, stat in figures], settings
        )
        # Behind the tested ones, and with no part in Holm's correction: the server's own, for the reader to explain them with.
        more = (
            compare_figure(baseline, others, tag, stat, settings, paired=paired) for tag, stat in server_figures(runs)
        )
        differences += tuple(replace(d, low=None, high=None, p_value=None) for d in more)
    limited = tuple(dict.fromkeys(r.name for r in runs if r.verdict == "client-limited"))
    return Pair(
        name=others[0].name,
        relation=relation,
        differences=differences,
        scaling=_scaling(baseline[0], others[0]),
        definitions=_definitions(runs),
        limited=limited,
    )


def _notes(sides: Sequence[Sequence[RunData]], pairs: Sequence[Pair]) -> tuple[str, ...]:
    baseline, runs = sides[0][0], [run for side in sides for run in side]
    out: list[str] = []
    for run in runs:
        if run.verdict in {"client-limited", "degraded"}:
            because = f": {'; '.join(run.reasons)}" if run.reasons else ""
            out.append(f"`{run.name}` ({run.tool}) was {run.verdict}{because}")
        elif run.verdict is None and not run.is_ours:
            out.append(f"`{run.name}`: its files do not say whether the client was the limit ({run.tool})")
        if not run.has_requests:
            out.append(f"`{run.name}` holds no single requests: its figures are shown, but cannot be tested")
    if any(p.is_comparable for p in pairs) and any(len(side) == 1 for side in sides):
        out.append(
            "intervals come from within each run; what changes from run to run is only seen with repeats (`--num-profile-runs 3`)"
        )
    out += [
        f"`{run.name}` was run with different SLOs (`--goodput`) than `{baseline.name}`"
        for run in runs[1:]
        if run.slo_limits != baseline.slo_limits and run.slo_limits and baseline.slo_limits
    ]
    return tuple(dict.fromkeys(out))


def compare_runs(runs: Sequence[RunData], options: CompareOptions | None = None) -> Comparison:
    """The first run is the baseline. At least two."""
    return compare_sides([[run] for run in runs], options)


def compare_sides(sides: Sequence[Sequence[RunData]], options: CompareOptions | None = None) -> Comparison:
    """The same of sides with the repeats of a run each, by the spread between them."""
    settings = options or CompareOptions()
    pairs = tuple(compare_groups(sides[0], other, settings) for other in sides[1:])
    cards = tuple(build_card(side[0]) for side in sides)
    runs = tuple(run for side in sides for run in side)
    return Comparison(
        baseline=sides[0][0].name, cards=cards, pairs=pairs, options=settings, notes=_notes(sides, pairs), runs=runs
    )

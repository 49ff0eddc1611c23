"""From what was measured to the report: figures, findings, tables, charts, and a row per point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiperf.config.conditions import Condition
from aiperf.plots import Spec
from aiperf.plots.spec import number
from aiperf.reports.page.findings import Finding
from aiperf.reports.tables import Table
from aiperf.studies.cache.capacity import Capacity, capacity_figures
from aiperf.studies.cache.charts import capacity_charts, gain_charts, policy_charts, trace_charts
from aiperf.studies.cache.findings import capacity_findings, gain_findings, isolation_findings, trace_findings
from aiperf.studies.cache.gain import Gain, gain_figures
from aiperf.studies.cache.isolation import Isolation, isolation_figures
from aiperf.studies.cache.meter import Point
from aiperf.studies.cache.policy import PolicyResult
from aiperf.studies.cache.replay import Group, Trace, group_rows, trace_figures
from aiperf.studies.cache.slo import slo_figure
from aiperf.studies.cache.tiers import find_tiers, tier_figures
from aiperf.studies.metric import StudyFigure
from aiperf.studies.report import StudyReport
from aiperf.telemetry.kv_blocks import KvBlocks

__all__ = ["Outcome", "build_report"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Parts that were not measured are None or empty. `conditions`: of --slo."""

    gain: Gain
    capacity: Capacity | None
    policy: PolicyResult | None
    isolation: Isolation | None
    trace: Trace | None
    blocks: KvBlocks
    conditions: Sequence[Condition] = ()


def build_report(outcome: Outcome) -> StudyReport:
    figures: dict[str, StudyFigure] = {}
    findings: list[Finding] = []
    tables: list[Table] = []
    charts: dict[str, Spec] = {}
    points: list[dict[str, object]] = []
    if outcome.gain.points:
        figures |= {f.name: f for f in gain_figures(outcome.gain)}
        figures["slo_capacity_gain"] = slo_figure(outcome.gain.slo, outcome.conditions)
        findings += gain_findings(outcome.gain, figures)
        tables.append(_gain_table(outcome.gain))
        charts |= dict(gain_charts(outcome.gain))
        points += _gain_rows(outcome.gain)
    if outcome.capacity is not None:
        tiers = find_tiers(outcome.capacity)
        figures |= {f.name: f for f in (*capacity_figures(outcome.capacity), *tier_figures(tiers))}
        findings += capacity_findings(outcome.capacity, tiers, outcome.policy, figures)
        tables.append(_capacity_table(outcome.capacity))
        charts |= {**dict(capacity_charts(outcome.capacity)), **dict(policy_charts(outcome.policy))}
        points += _capacity_rows(outcome.capacity)
    if outcome.isolation is not None:
        figures |= {f.name: f for f in isolation_figures(outcome.isolation)}
        findings += isolation_findings(outcome.isolation, outcome.policy, figures)
        tables.append(_isolation_table(outcome.isolation))
        points += _isolation_rows(outcome.isolation)
    if outcome.trace is not None:
        figures |= {f.name: f for f in trace_figures(outcome.trace)}
        findings += trace_findings(outcome.trace, figures)
        tables += _trace_tables(outcome.trace)
        charts |= dict(trace_charts(outcome.trace))
        for kind, groups in (
            ("turn", outcome.trace.turns),
            ("session", outcome.trace.sessions),
            ("time", outcome.trace.times),
        ):
            points += group_rows(kind, groups)
    cleaned = {n: f if f.value is None else replace(f, reason="") for n, f in figures.items()}
    return StudyReport(
        title="What the prefix cache is worth",
        figures=cleaned,
        findings=tuple(findings),
        tables=tuple(tables),
        charts=charts,
        points=tuple(points),
        facts=_facts(outcome),
        notes=tuple(_notes(outcome)),
        extra={"kv_blocks": _blocks_json(outcome.blocks), "policy": _policy_json(outcome.policy)},
        has_failed=not points,
    )


def _facts(o: Outcome) -> tuple[str, ...]:
    b = o.blocks
    known = f"{b.num_blocks:,} KV blocks of {b.block_size} tokens" if b.tokens is not None else "KV blocks not reported"
    return (known,)


def _points(outcome: Outcome) -> Iterator[Point]:
    yield from (p.point for p in outcome.gain.points)
    if outcome.capacity is not None:
        yield from (p.point for p in outcome.capacity.points)
        if outcome.capacity.again is not None:
            yield outcome.capacity.again.point
    if outcome.isolation is not None:
        yield from (p for _, p in _isolation_points(outcome.isolation))
    if outcome.trace is not None:
        yield outcome.trace.point


def _notes(o: Outcome) -> Iterator[str]:
    """What takes from the figures: nothing streamed, failed requests, a client that was the limit."""
    points = list(_points(o))
    if o.gain.points and not any(np.isfinite(p.point.ttft_ms).any() for p in o.gain.points):
        yield "nothing was streamed: the request latency stands for the time to the first token"
    for p in points:
        if p.failed:
            yield f"{p.load.name}: {p.failed:,} of {p.count + p.failed:,} requests failed; the figures are of the others"
    for verdict in ("client-limited", "degraded"):
        names = [p.load.name for p in points if p.measured is not None and p.measured.verdict == verdict]
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            yield f"{verdict}: {shown} (`aiperf report RUN` says why)"


def _blocks_json(blocks: KvBlocks) -> dict[str, object]:
    return {
        "block_size": blocks.block_size,
        "num_blocks": blocks.num_blocks,
        "tokens": blocks.tokens,
        "engines": blocks.engines,
        "slots": blocks.slots,
        "source": blocks.source,
    }


def _policy_json(found: PolicyResult | None) -> dict[str, object] | None:
    if found is None:
        return None
    orders = [{"order": r.order, "measured": r.measured, "expected": dict(r.expected)} for r in found.orders]
    return {"policy": found.policy, "why": found.why, "distance": dict(found.distance), "orders": orders}


def _percent(part: float | None) -> str:
    return "–" if part is None or not np.isfinite(part) else f"{100 * part:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else number(value)


def _of(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else part / whole


# Gain ---------------------------------------------------------------------------------------------------------------------


def _gain_table(gain: Gain) -> Table:
    columns = (
        "Shared (%)",
        "Hits, usage (%)",
        "Hits, counters (%)",
        "Ideal (%)",
        "LRU (%)",
        "TTFT (ms)",
        "Saved (ms)",
        "Prefill (tokens/s)",
        "Input (tokens/s)",
        "Most in SLO",
    )
    rows = []
    for point in gain.points:
        total = point.point.total_prompt
        name = "control" if point.share is None else f"{point.share:.1f}"
        best = _capacity_of(gain, point.share)
        rows.append(
            (
                name,
                _percent(point.point.usage_rate),
                _percent(point.point.counter_rate),
                _percent(_of(point.infinite, total)),
                _percent(_of(point.lru, total)),
                _number(point.point.mean_ms),
                "–" if point.is_control else _number(gain.control_ms - point.point.mean_ms),
                _number(point.prefill_throughput),
                _number(point.input_throughput),
                "–" if best is None else f"{best}",
            )
        )
    used = len(columns) if gain.slo else len(columns) - 1
    return Table(
        id="gain",
        title="Gain",
        columns=columns[:used],
        rows=tuple(r[:used] for r in rows),
        note="hits: hit tokens ÷ prompt tokens; ideal: an unbounded cache; LRU: of the reported block count; saved: mean TTFT of the control − of the point",
    )


def _capacity_of(gain: Gain, share: float | None) -> int | None:
    """The asked share nearest to the one sent."""
    if not gain.slo:
        return None
    if share is None:
        return gain.slo.get(None)
    asked = min((s for s in gain.slo if s is not None), key=lambda s: abs(s - share), default=None)
    return None if asked is None else gain.slo.get(asked)


def _gain_rows(gain: Gain) -> Iterator[dict[str, object]]:
    for point in gain.points:
        total = point.point.total_prompt
        yield {
            "part": "gain",
            "point": point.point.load.name,
            "shared_percent": point.share,
            **_point_row(point.point),
            "theoretical_hit_rate": _of(point.infinite, total),
            "lru_hit_rate": _of(point.lru, total),
            "saved_ms": None if point.is_control else _finite(gain.control_ms - point.point.mean_ms),
            "prefill_tokens_per_s": point.prefill_throughput,
            "input_tokens_per_s": point.input_throughput,
            "slo_concurrency": _capacity_of(gain, point.share),
        }


def _point_row(point: Point) -> dict[str, object]:
    times = point.ttft_ms[np.isfinite(point.ttft_ms)]
    return {
        "requests": point.count,
        "failed": point.failed,
        "prompt_tokens": point.total_prompt,
        "hit_rate": point.rate,
        "hit_rate_usage": point.usage_rate,
        "hit_rate_counters": point.counter_rate,
        "ttft_ms": float(times.mean()) if len(times) else None,
        "ttft_ms_p50": float(np.median(times)) if len(times) else None,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


# Capacity ---------------------------------------------------------------------------------------------------------------


def _capacity_table(capacity: Capacity) -> Table:
    rows = []
    for point in capacity.points:
        size = None if point.lru_blocks is None or point.is_whole else point.lru_blocks * capacity.shape.block
        rows.append(
            (
                f"{point.tokens:,}",
                f"{point.prefixes:,}",
                _percent(point.served),
                _percent(_of(point.lru, point.infinite)),
                "–" if size is None else f"{size:,}",
                _number(point.point.mean_ms),
            )
        )
    marked = frozenset(i for i, p in enumerate(capacity.points) if p in (capacity.low, capacity.high))
    return Table(
        id="capacity",
        title="Capacity",
        columns=("Working set", "Prefixes", "Served (%)", "LRU (%)", "As an LRU cache of", "TTFT (ms)"),
        rows=tuple(rows),
        note="served: hits ÷ hits of an unbounded cache; LRU: of the reported block count; as an LRU cache of: size, tokens, that explains the hits",
        marked=marked,
    )


def _capacity_rows(capacity: Capacity) -> Iterator[dict[str, object]]:
    for point in capacity.points:
        total = point.point.total_prompt
        yield {
            "part": "capacity",
            "point": point.point.load.name,
            "working_set_tokens": point.tokens,
            "prefixes": point.prefixes,
            **_point_row(point.point),
            "served": point.served,
            "theoretical_hit_rate": _of(point.infinite, total),
            "lru_hit_rate": _of(point.lru, total),
            "external_hit_tokens": point.point.external_hits,
        }


# Isolation and trace ------------------------------------------------------------------------------------------------------


def _isolation_points(isolation: Isolation) -> Iterator[tuple[str, Point]]:
    for name, point in (
        ("prompts of an earlier run again", isolation.again),
        ("the same after a reset", isolation.reset),
        ("a session per prefix", isolation.sticky),
        ("a session per request", isolation.loose),
        ("a working set that fits", isolation.before),
        ("the same after cancelled requests", isolation.after),
    ):
        if point is not None:
            yield name, point


def _isolation_table(found: Isolation) -> Table:
    rows = tuple(
        (name, f"{p.count:,}", _percent(p.usage_rate), _percent(p.counter_rate), _number(p.mean_ms), _number(p.kv_idle))
        for name, p in _isolation_points(found)
    )
    return Table(
        id="isolation",
        title="Isolation",
        columns=("Load", "Requests", "Hits, usage (%)", "Hits, counters (%)", "TTFT (ms)", "KV in use at start (%)"),
        rows=rows,
    )


def _isolation_rows(found: Isolation) -> Iterator[dict[str, object]]:
    for _, p in _isolation_points(found):
        yield {"part": "isolation", "point": p.load.name, **_point_row(p), "kv_idle_percent": p.kv_idle}


def _trace_tables(trace: Trace) -> Iterator[Table]:
    for name, title, groups in (
        ("trace-turns", "By turn", trace.turns),
        ("trace-sessions", "By session", trace.sessions),
    ):
        if groups:
            yield _group_table(name, title, groups)


def _group_table(name: str, title: str, groups: Sequence[Group]) -> Table:
    rows = tuple(
        (g.name, f"{g.requests:,}", _percent(g.measured), _percent(g.ideal), _percent(g.lru), _number(g.ttft_ms))
        for g in groups
    )
    return Table(
        id=name,
        title=title,
        columns=(title.partition(" ")[2].title(), "Requests", "Measured (%)", "Ideal (%)", "LRU (%)", "TTFT p50 (ms)"),
        rows=rows,
        note="hit tokens ÷ prompt tokens; ideal: an unbounded cache, in the order of sending; LRU: of the reported block count",
        open=len(rows) <= 12,
    )

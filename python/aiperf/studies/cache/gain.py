"""Gain: the same load with a growing shared share of the prompts, and with none (the control), at fixed length and concurrency.

All requests of a point begin with one prefix, which a request sent before has put into the cache. The control has the same lengths and no
common text; it is measured before and after the points, so that a drift of the server is seen and halved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from aiperf.metrics.confidence import t_quantile
from aiperf.number_text import exact
from aiperf.studies.cache.meter import Load, Meter, Point
from aiperf.studies.cache.prompts import Prompts, joined, repeated
from aiperf.studies.cache.theory import Theory
from aiperf.studies.metric import StudyFigure

__all__ = ["Gain", "GainPlan", "GainPoint", "gain_figures", "measure_gain", "plan_gain"]


@dataclass(frozen=True, kw_only=True)
class GainPlan:
    """`loads`: (share in percent, None for a control; load), in the order of sending."""

    loads: tuple[tuple[float | None, Load], ...]

    @property
    def prompts(self) -> Iterator[Prompts]:
        for _, load in self.loads:
            yield from (p for p in (load.warm, load.measured) if p is not None)


@dataclass(frozen=True, kw_only=True)
class GainPoint:
    """`share`: shared tokens ÷ prompt tokens × 100, as sent (whole blocks); None for a control. Hits in tokens of all requests.

    `infinite`, `lru`: of ideal caches for the same requests; `lru` None where the server's block count is not known.
    """

    share: float | None
    point: Point
    infinite: float
    lru: float | None

    @property
    def is_control(self) -> bool:
        return self.share is None

    @property
    def hits_per_request(self) -> float | None:
        found = self.point.hits
        return None if found is None or not self.point.count else found / self.point.count

    @property
    def prefill_throughput(self) -> float | None:
        """Σ prompt tokens ÷ Σ time to the first token, tokens/s."""
        total = float(np.nansum(self.point.times_ms))
        return self.point.total_prompt / total * 1e3 if total else None

    @property
    def input_throughput(self) -> float | None:
        """Prompt tokens per second of the run, all requests together."""
        return self.point.total_prompt / self.point.duration_s if self.point.duration_s else None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What was measured, in the order of sending. `slo`: highest concurrency under --slo by share (None: of the control), where asked for."""

    points: tuple[GainPoint, ...] = ()
    slo: dict[float | None, int | None] = field(default_factory=dict)

    @property
    def controls(self) -> list[Point]:
        return [p.point for p in self.points if p.is_control]

    @property
    def shared(self) -> list[GainPoint]:
        return sorted((p for p in self.points if not p.is_control), key=lambda p: p.share or 0.0)

    @property
    def control_ms(self) -> float:
        """Mean over the requests of all controls."""
        times = [c.times_ms for c in self.controls]
        return float(np.nanmean(np.concatenate(times))) if times else float("nan")

    @property
    def control_error_ms(self) -> float:
        """Standard error of `control_ms`."""
        times = np.concatenate([c.times_ms for c in self.controls]) if self.controls else np.zeros(0)
        known = times[np.isfinite(times)]
        return float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")

    @property
    def control_hits(self) -> float:
        """Mean hit tokens per request of the controls: what is common to all prompts; 0 where it is not known."""
        found = [(c.hits, c.count) for c in self.controls if c.hits is not None and c.count]
        total = sum(n for _, n in found)
        return sum(h for h, _ in found if h is not None) / total if total else 0.0


def plan_gain(
    shares: Sequence[float], *, tokens: int, osl: int, count: int, block: int, base_of: Callable[[str], int]
) -> GainPlan:
    """`base_of`: of a load's name its own text."""
    loads: list[tuple[float | None, Load]] = [(None, _control("control-1", tokens, osl, count, block, base_of))]
    for share in shares:
        name = f"gain-{exact(share)}"
        base = base_of(name)
        shared = min(round(share / 100 * tokens), tokens - 1) // block * block
        order = np.zeros(count, np.int64)
        made = repeated(order, shared=shared, tokens=tokens, osl=osl, block=block, base=base, first_own=1)
        warm = None
        if shared:
            warm = repeated(order[:1], shared=shared, tokens=tokens, osl=osl, block=block, base=base)
        loads.append((share, Load(name=name, measured=made, warm=warm, label=f"gain, {exact(share)} % shared")))
    loads.append((None, _control("control-2", tokens, osl, count, block, base_of)))
    return GainPlan(loads=tuple(loads))


def _control(name: str, tokens: int, osl: int, count: int, block: int, base_of: Callable[[str], int]) -> Load:
    order = np.arange(count, dtype=np.int64)
    made = repeated(order, shared=0, tokens=tokens, osl=osl, block=block, base=base_of(name))
    return Load(name=name, measured=made, label="gain, control: nothing is shared")


def measure_gain(plan: GainPlan, meter: Meter, blocks: int | None) -> Iterator[GainPoint]:
    """One after the other. `blocks`: the server's count, None if it is not known."""
    for share, load in plan.loads:
        point = meter(load)
        if point is None:
            continue
        warm = 0 if load.warm is None else load.warm.count
        theory = Theory(load.measured if load.warm is None else joined(load.warm, load.measured), warm)
        rows = point.row.astype(np.int64)
        yield GainPoint(
            share=None if share is None else 100 * float(load.measured.shared.mean() / load.measured.tokens.mean()),
            point=point,
            infinite=float(theory.infinite()[rows].sum()),
            lru=None if blocks is None else float(theory.lru(blocks)[rows].sum()),
        )


def gain_figures(gain: Gain) -> Iterator[StudyFigure]:
    """All figures of the part; those that cannot be known say why."""
    unknown = "the server reports neither `cached_tokens` in `usage` nor prefix-cache counters: hits cannot be known"
    shared = [p for p in gain.shared if p.infinite > 0]
    known = [p for p in shared if p.point.hits is not None]
    source = known[0].point.source if known else ""
    yield _ratio("cache_efficiency", gain, known, [p.infinite for p in known], unknown)
    lru = [p.lru for p in known]
    if known and any(v is None for v in lru):
        reason = "the server does not report the number and size of its KV blocks (`--kv-blocks`, `--kv-block-size` give them)"
        yield StudyFigure(name="lru_efficiency", value=None, reason=reason)
    else:
        yield _ratio("lru_efficiency", gain, known, [v or 0.0 for v in lru], unknown)
    rates = [r for p in gain.shared if (r := p.point.rate) is not None]
    yield StudyFigure(
        name="hit_rate_max", value=100 * max(rates) if rates else None, reason="" if rates else unknown, rests_on=source
    )
    fresh = [r for c in gain.controls if (r := c.rate) is not None]
    yield StudyFigure(
        name="fresh_hit_rate",
        value=100 * float(np.mean(fresh)) if fresh else None,
        reason="" if fresh else unknown,
        rests_on=f"{len(fresh)} controls",
    )
    yield _saved(gain, unknown)
    yield from _gains(gain)
    yield _break_even(gain, unknown)


def _ratio(name: str, gain: Gain, points: Sequence[GainPoint], ideal: Sequence[float], unknown: str) -> StudyFigure:
    """Without the hits that the control has too: of text that is in front of every prompt."""
    total = sum(ideal)
    if not points:
        return StudyFigure(name=name, value=None, reason=unknown)
    if not total:
        return StudyFigure(name=name, value=None, reason="an ideal cache would have served nothing of these prompts")
    hits = sum(max(0.0, (p.point.hits or 0.0) - gain.control_hits * p.point.count) for p in points)
    rests = f"{len(points)} point{'s' if len(points) > 1 else ''}, {points[0].point.source}"
    return StudyFigure(name=name, value=100 * hits / total, rests_on=rests)


def _saved(gain: Gain, unknown: str) -> StudyFigure:
    """Least squares through the origin; the interval is of the slope, from the points' own standard errors and their scatter."""
    name = "saved_time_per_hit_token"
    rows = [(d, h, e) for d, h, e in (_difference(gain, p) for p in gain.shared) if h is not None and h > 0]
    if not rows:
        no_hits = any(p.point.hits is not None for p in gain.shared)
        return StudyFigure(name=name, value=None, reason="there were no hits" if no_hits else unknown)
    saved, hits, error = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    weight = 1 / np.maximum(np.nan_to_num(error, nan=1.0), 1e-9) ** 2
    slope = float((weight * saved * hits).sum() / (weight * hits**2).sum())
    spread = float(1 / np.sqrt((weight * hits**2).sum()))
    if len(rows) > 2:
        chi = float((weight * (saved - slope * hits) ** 2).sum()) / (len(rows) - 1)
        spread *= max(1.0, np.sqrt(chi))
    half = t_quantile(0.975, max(1, len(rows) - 1)) * spread
    rests = f"{len(rows)} points against {len(gain.controls)} controls"
    return StudyFigure(
        name=name, value=1e3 * slope, low=1e3 * (slope - half), high=1e3 * (slope + half), rests_on=rests
    )


def _difference(gain: Gain, point: GainPoint) -> tuple[float, float | None, float]:
    """(saved ms per request, hit tokens per request more than the control's, standard error of the saved time)."""
    hits = point.hits_per_request
    error = float(np.hypot(point.point.mean_error_ms, gain.control_error_ms))
    more = None if hits is None else hits - gain.control_hits
    return gain.control_ms - point.point.mean_ms, more, error


def _gains(gain: Gain) -> Iterator[StudyFigure]:
    top = gain.shared[-1] if gain.shared else None
    if top is None or not gain.controls:
        for name in ("ttft_gain", "prefill_throughput_gain"):
            yield StudyFigure(name=name, value=None, reason="no point and control to compare")
        return
    rests = f"{top.share:.1f} % shared"
    base, there = gain.control_ms, top.point.mean_ms
    error = base / there * float(np.hypot(gain.control_error_ms / base, top.point.mean_error_ms / there))
    value = base / there
    yield StudyFigure(
        name="ttft_gain", value=value, low=value - 1.96 * error, high=value + 1.96 * error, rests_on=rests
    )
    controls = [p.prefill_throughput for p in gain.points if p.is_control and p.prefill_throughput is not None]
    throughput = top.prefill_throughput
    known = throughput is not None and bool(controls)
    yield StudyFigure(
        name="prefill_throughput_gain",
        value=(throughput or 0.0) / float(np.mean(controls)) if known else None,
        reason="" if known else "no time to the first token was measured",
        rests_on=rests,
    )


def _break_even(gain: Gain, unknown: str) -> StudyFigure:
    """Linear between neighbouring points; slower than the control counts only beyond the 95 % interval."""
    name = "break_even_hit_rate"
    rows = sorted(
        (100 * rate, *_difference(gain, p)) for p in gain.shared if (rate := p.point.rate) is not None and rate > 0
    )
    rows = [r for r in rows if r[2] is not None and r[2] > 0]
    if not rows:
        is_known = any(p.point.rate is not None for p in gain.shared)
        return StudyFigure(name=name, value=None, reason="there were no hits" if is_known else unknown)
    slower = [i for i, (_, saved, _, error) in enumerate(rows) if saved < -1.96 * np.nan_to_num(error)]
    if not slower:
        return StudyFigure(
            name=name, value=0.0, rests_on=f"no point with hits was slower than the control ({len(rows)} points)"
        )
    last = slower[-1]
    if last + 1 == len(rows):
        return StudyFigure(
            name=name, value=None, reason="at the highest hit rate measured, caching still cost more than it saved"
        )
    (low, lost, _, _), (high, won, _, _) = rows[last], rows[last + 1]
    value = low + (high - low) * -lost / (won - lost) if won > lost else high
    return StudyFigure(name=name, value=value, low=low, high=high, rests_on="the two points around the crossing")

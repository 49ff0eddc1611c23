"""Charts of the cache study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from aiperf.plots import Spec
from aiperf.plots.spec import number
from aiperf.studies.cache.capacity import Capacity
from aiperf.studies.cache.gain import Gain
from aiperf.studies.cache.policy import NAMES, PolicyResult
from aiperf.studies.cache.replay import Trace
from aiperf.studies.lines import bar_panel, chart, line_panel, rows_of_line

__all__ = ["capacity_charts", "gain_charts", "policy_charts", "trace_charts"]

_UNBOUNDED: Final = "ideal, without bounds"
_LRU: Final = "ideal, LRU of the reported size"
_IDEAL: Final = frozenset({_UNBOUNDED, _LRU})


def gain_charts(gain: Gain) -> Iterator[tuple[str, Spec]]:
    """Hits over the shared share; time and throughput beside the control."""
    points = gain.shared
    if not points:
        return
    shares = [p.share for p in points]
    lines = {
        "measured, usage": [p.point.usage_rate for p in points],
        "measured, server counters": [p.point.counter_rate for p in points],
        _UNBOUNDED: [_share(p.infinite, p.point.total_prompt) for p in points],
        _LRU: [_share(p.lru, p.point.total_prompt) for p in points],
    }
    rows = [r for name, ys in lines.items() for r in rows_of_line(name, shares, [_percent(y) for y in ys])]
    if rows:
        note = f"{len(points)} points; hit tokens ÷ prompt tokens"
        yield (
            "gain_hits",
            chart(
                "Hit rate by shared share of the prompt",
                note,
                [line_panel(rows, "shared share (%)", "hit rate (%)", dashed=_IDEAL)],
                len(rows),
            ),
        )
    ttft = rows_of_line(
        "TTFT, mean", shares, [p.point.mean_ms if np.isfinite(p.point.mean_ms) else None for p in points]
    )
    speed = rows_of_line("prefill throughput", shares, [p.prefill_throughput for p in points])
    if ttft:
        levels = [(gain.control_ms, "control")] if np.isfinite(gain.control_ms) else []
        panels = [line_panel(ttft, "shared share (%)", "TTFT (ms)", width="$w2", levels=levels)]
        controls = [v for p in gain.points if p.is_control and (v := p.prefill_throughput) is not None]
        base = [(float(np.mean(controls)), "control")] if controls else []
        panels.append(
            line_panel(speed, "shared share (%)", "prompt tokens/s while prefilling", width="$w2", levels=base)
        )
        note = "control: equal lengths, nothing shared"
        yield "gain_time", chart("Time saved by cache hits", note, panels, len(ttft) + len(speed))


def capacity_charts(capacity: Capacity) -> Iterator[tuple[str, Spec]]:
    """Hits over the working set; and over the reuse distance within the largest one."""
    points = [p for p in capacity.points if p.served is not None]
    if not points:
        return
    sizes = [float(p.tokens) for p in points]
    rows = rows_of_line("measured", sizes, [_percent(p.served) for p in points])
    rows += rows_of_line(
        _LRU,
        sizes,
        [_percent(_share(p.lru, p.infinite)) for p in points],
    )
    rules = []
    if capacity.blocks.tokens is not None:
        rules.append((float(capacity.blocks.tokens), f"reported {number(capacity.blocks.tokens)}"))
    if capacity.knee is not None:
        rules.append((capacity.knee, f"knee {number(capacity.knee)}"))
    panel = line_panel(rows, "working set (tokens)", "of the possible hits (%)", rules=rules, dashed=_IDEAL)
    note = f"{len(points)} working sets, each sent once and read again from the last to the first"
    yield "capacity_knee", chart("Cache hits by working set", note, [panel], len(rows))
    last = next((p for p in reversed(points) if p.point.has_usage), None)
    if last is not None:
        distance, found, ms = last.by_distance
        step = max(1, len(distance) // 600)
        some = slice(None, None, step)
        xs = [float(d) for d in distance[some]]
        share = rows_of_line("found", xs, [_known(100 * v) for v in found[some]])
        times = rows_of_line("TTFT", xs, [_known(v) for v in ms[some]])
        names = frozenset({"found", "TTFT"})
        panels = [
            line_panel(
                share, "tokens sent since (reuse distance)", "of the prefix found (%)", width="$w2", points_only=names
            ),
            line_panel(times, "tokens sent since (reuse distance)", "TTFT (ms)", width="$w2", points_only=names),
        ]
        note = f"each request of the working set of {last.tokens:,} tokens; a level of the cache ends where the time steps up"
        yield "capacity_distance", chart("Cache hits by reuse distance", note, panels, len(share) + len(times))


def policy_charts(result: PolicyResult | None) -> Iterator[tuple[str, Spec]]:
    """Measured hits beside those of each policy."""
    if result is None or not result.orders:
        return
    rows: list[dict[str, object]] = []
    for r in result.orders:
        rows.append({"x": r.order, "s": "measured", "y": 100 * r.measured})
        rows += [{"x": r.order, "s": NAMES[p], "y": 100 * v} for p, v in r.expected.items()]
    panel = bar_panel(rows, "order of the requests", "of the possible hits (%)")
    yield "capacity_policy", chart("Which eviction policy explains the hits", result.why, [panel], len(rows))


def trace_charts(trace: Trace | None) -> Iterator[tuple[str, Spec]]:
    """Over time, and by turn."""
    if trace is None:
        return
    for name, title, axis, groups in (
        ("trace_time", "Hit rate over time", "time (s)", trace.times),
        ("trace_turn", "Hit rate by turn", "turn", trace.turns),
    ):
        xs = [g.place for g in groups]
        rows = rows_of_line("measured", xs, [_percent(g.measured) for g in groups])
        rows += rows_of_line(_UNBOUNDED, xs, [_percent(g.ideal) for g in groups])
        rows += rows_of_line(_LRU, xs, [_percent(g.lru) for g in groups])
        if rows:
            yield (
                name,
                chart(
                    title,
                    "hit tokens ÷ prompt tokens",
                    [line_panel(rows, axis, "hit rate (%)", dashed=_IDEAL)],
                    len(rows),
                ),
            )


def _share(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else part / whole


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 4)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

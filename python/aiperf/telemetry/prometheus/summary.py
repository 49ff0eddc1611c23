"""What the server said of the run: increase of its counters, its gauges, and whether it came to rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from aiperf.errors import Note
from aiperf.metrics.conservation import ServerCounters
from aiperf.number_text import exact
from aiperf.records.run_json import GAUGES
from aiperf.telemetry.prometheus.readings import (
    CountSpan,
    Readings,
    counters_delta,
    gauge,
    histogram_delta,
    mappings,
    returns_to_level,
)

__all__ = ["Level", "Rest", "ServerSummary", "summarise"]

_KV_TOLERANCE = 0.01
"""Of the cache: a block kept for the next prompt is no leak."""


@dataclass(frozen=True, slots=True)
class Level:
    """A gauge during the load. `before`: at the last reading before it; None if there was none."""

    mean: float
    max: float
    before: float | None
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Did a gauge go back to where it was before the load? `after_s`: when, seconds after its end; None: not within `within_s`.

    `last`: at the last reading.
    """

    name: str
    after_s: float | None
    within_s: float
    level: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSummary:
    """By our names (`aiperf.telemetry.families.vllm` and its kin). `counters`: increase over the load, all phases.

    `means`: mean of what a histogram counted, s. `num_pages`: pages that answered.
    """

    counters: Mapping[str, float]
    levels: Mapping[str, Level]
    means: Mapping[str, float]
    rests: tuple[Rest, ...]
    num_pages: int
    notes: tuple[Note, ...] = field(default=())

    @property
    def prefix_hit_rate(self) -> float | None:
        """Hits ÷ queries of the prefix cache, in tokens; None if it is not known or nothing was asked."""
        queries = self.counters.get("prefix_cache_queries")
        hits = self.counters.get("prefix_cache_hits")
        return hits / queries if queries and hits is not None else None

    def conservation(self) -> ServerCounters:
        running = self.levels.get("requests_in_flight") or self.levels.get("requests_running")
        return ServerCounters(
            requests=self.counters.get("requests"),
            prompt_tokens=self.counters.get("prompt_tokens"),
            generation_tokens=self.counters.get("generation_tokens"),
            mean_running=running.mean if running is not None else None,
        )

    def line(self) -> str | None:
        """For people, next to the client's table: what is known of batch, queue, KV cache, prefix cache, preemptions."""
        parts: list[str] = []
        for name, word in (("requests_running", "running"), ("requests_waiting", "waiting")):
            level = self.levels.get(name)
            if level is not None:
                parts.append(f"{word} {level.mean:.1f} (max {level.max:.0f})")
        kv = self.levels.get("kv_cache_usage")
        if kv is not None:
            parts.append(f"KV cache {100 * kv.mean:.1f} % (max {100 * kv.max:.1f} %)")
        if "queue_time" in self.means:
            parts.append(f"queue {1000 * self.means['queue_time']:.1f} ms")
        if self.prefix_hit_rate is not None:
            parts.append(f"prefix hits {100 * self.prefix_hit_rate:.1f} %")
        if "preemptions" in self.counters:
            parts.append(f"{self.counters['preemptions']:.0f} preemptions")
        return "Server: " + " · ".join(parts) if parts else None

    def as_dict(self) -> dict[str, object]:
        """JSON types, for `run.json`."""
        return {
            "counters": dict(self.counters),
            "levels": {name: asdict(level) for name, level in self.levels.items()},
            "means": dict(self.means),
            "prefix_hit_rate": self.prefix_hit_rate,
            "rests": [asdict(rest) for rest in self.rests],
        }


def summarise(
    readings: Sequence[Readings], start_ns: int, end_ns: int, *, within_s: float = 2.0, is_quiet: bool = False
) -> ServerSummary:
    """`start_ns`, `end_ns`: of the load, ns since the epoch.

    Counters are compared from before the load to the last reading (`CountSpan`). A figure is the sum (mean for ratios) over the measured URLs' own pages; only what none of them has is taken from the pages named
    besides, which may show the same requests again (a worker behind a frontend). `is_quiet`: no notes on pages that failed.
    """
    answered = [r for r in readings if r.num_readings]
    own = [r for r in answered if r.is_own]
    others = [r for r in answered if not r.is_own]
    load = CountSpan(start_ns=start_ns, end_ns=end_ns)
    counters = counters_delta(answered, load)
    levels: dict[str, Level] = {}
    means: dict[str, float] = {}
    for name, found in mappings().items():
        kinds = {m.kind for _, m in found}
        unit = found[0][1].unit
        if "gauge" in kinds:
            level = _level(own, name, unit, start_ns, end_ns) or _level(others, name, unit, start_ns, end_ns)
            if level is not None:
                levels[name] = level
        if "histogram" in kinds:
            counted = histogram_delta(answered, name, load)
            if counted is not None and counted[0]:
                means[name] = counted[1] / counted[0]
    rests = [r for name in GAUGES if (r := _rest(own, name, start_ns, end_ns, within_s))]
    notes = [] if is_quiet else [n for r in readings if (n := _failed(r)) is not None]
    notes += [n for r in answered if not is_quiet and (n := _not_around(r, start_ns, end_ns)) is not None]
    notes += [_unrest(rest) for rest in rests if rest.after_s is None]
    return ServerSummary(
        counters=counters, levels=levels, means=means, rests=tuple(rests), num_pages=len(answered), notes=tuple(notes)
    )


def _failed(readings: Readings) -> Note | None:
    """The measured URL's own page need not exist; one the user named must."""
    if readings.num_readings == 0 and readings.is_own:
        return None
    total = readings.num_readings + readings.num_failed
    if readings.num_failed == 0 or (readings.num_readings and readings.num_failed / total < 0.1):
        return None
    text = f"`{readings.url}`: {readings.num_failed} of {total} scrapes of the metrics failed: {readings.error}"
    return Note("server_metrics_failed", text, {"url": readings.url, "failed": readings.num_failed, "total": total})


def _not_around(readings: Readings, start_ns: int, end_ns: int) -> Note | None:
    """Of a page whose counters at the beginning or at the end of the load are not known."""
    late_s = float(readings.times_ns[0] - start_ns) / 1e9
    early_s = float(end_ns - (readings.times_ns[-1] - readings.latencies_ns[-1])) / 1e9
    if late_s > 0:
        kind, when, what = (
            "server_metrics_late",
            f"the first scrape that worked came {late_s:.1f} s after the load began",
            "until then",
        )
    elif early_s > 0:
        kind, when, what = (
            "server_metrics_ended",
            f"the last scrape that worked began {early_s:.1f} s before the load ended",
            "after it",
        )
    else:
        return None
    text = f"`{readings.url}`: {when}: what the server counted {what} is not known, so its totals and mean times are left out"
    return Note(kind, text, {"url": readings.url, "seconds": max(late_s, early_s)})


def _unrest(rest: Rest) -> Note:
    what = {"kv_cache_usage": "KV cache in use"}.get(rest.name, rest.name.replace("_", " "))
    shown = f"{rest.last:.0f}" if GAUGES[rest.name] else f"{100 * rest.last:.1f} %"
    text = (
        f"{exact(rest.within_s)} s after the last response the server still has {shown} {what} (before the load: "
        f"{rest.level:.0f}): it may go on generating after a disconnect, or serve others"
        if GAUGES[rest.name]
        else f"{exact(rest.within_s)} s after the last response the server still has {shown} of its {what}"
    )
    return Note("server_not_at_rest", text, asdict(rest))


def _level(readings: Sequence[Readings], name: str, unit: str, start_ns: int, end_ns: int) -> Level | None:
    """Sum of the pages' means; ratios are averaged."""
    parts: list[tuple[float, float, float | None]] = []
    for r in readings:
        found = gauge(r, name)
        if found is None:
            continue
        times, values = found
        inside = (times >= start_ns) & (times <= end_ns)
        if inside.any():
            before = values[times < start_ns]
            parts.append(
                (float(values[inside].mean()), float(values[inside].max()), float(before[-1]) if len(before) else None)
            )
    if not parts:
        return None
    combine = np.mean if unit == "ratio" else np.sum
    befores = [b for _, _, b in parts if b is not None]
    return Level(
        float(combine([m for m, _, _ in parts])),
        float(max(x for _, x, _ in parts)) if unit == "ratio" else float(sum(x for _, x, _ in parts)),
        float(combine(befores)) if befores else None,
        unit,
    )


def _rest(readings: Sequence[Readings], name: str, start_ns: int, end_ns: int, within_s: float) -> Rest | None:
    """Of the page that takes longest; None if no page was read after the load, or none before it."""
    rests: list[Rest] = []
    for r in readings:
        found = gauge(r, name)
        if found is None:
            continue
        times, values = found
        before, after = values[times < start_ns], values[times >= end_ns]
        if len(before) and len(after):
            tolerance = _KV_TOLERANCE if name == "kv_cache_usage" else 0.0
            took = returns_to_level(times, values, end_ns, within_s, level=float(before[-1]), tolerance=tolerance)
            rests.append(
                Rest(name=name, after_s=took, within_s=within_s, level=float(before[-1]), last=float(after[-1]))
            )
    return max(rests, key=lambda rest: float("inf") if rest.after_s is None else rest.after_s, default=None)

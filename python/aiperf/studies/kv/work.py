"""The memory test from the first light load to the report. What was measured before an interruption is reported."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from aiperf.config.model import Config
from aiperf.endpoints import access_to, targets_of
from aiperf.studies.bench import Bench, Interrupted
from aiperf.studies.kv.mix import gaps_ms, ttft_ms
from aiperf.studies.kv.options import KvOptions
from aiperf.studies.kv.plan import Load, Plan, build_plan, mix_loads
from aiperf.studies.kv.step import Step, measure
from aiperf.studies.kv.streams import Streams
from aiperf.telemetry.kv_blocks import KvBlocks, read_kv_blocks
from aiperf.web import Server

__all__ = ["Found", "read_context", "run_test"]

_GREW: Final = 1.1
_OFFERED: Final = 1.25
"""At least so many times the tokens offered, and fewer than so many times the tokens in flight: something is full."""
_MANY: Final = 20
"""Preemptions that are enough to say what they cost."""


@dataclass(kw_only=True)
class Found:
    """What has been measured so far; None: not yet, or not asked for. `is_plateau`: with longer requests, too, no more was in flight."""

    plan: Plan
    blocks: KvBlocks
    options: KvOptions
    fills: list[Step] = field(default_factory=list)
    is_plateau: bool = False
    alone: Step | None = None
    recovered: Step | None = None
    short: Step | None = None
    long: Step | None = None
    mixed: Step | None = None
    cancelled: Step | None = None
    refreshed: Step | None = None

    @property
    def idle(self) -> float | None:
        """Share of the KV cache in use before the test sent anything; of a server that shows it from its first request on, after the light
        load. None if it does not say.
        """
        usage = None if self.alone is None else self.alone.levels.usage
        if usage is None or not len(usage) or np.isnan(usage[-1]):
            return None
        return float(usage[-1] if np.isnan(usage[0]) else usage[0])

    @property
    def pressure(self) -> Step | None:
        """The step with most preemptions, by the server's count or by pauses; else the last one."""
        if not self.fills:
            return None
        return max(self.fills, key=lambda s: (s.preemptions or s.victims, s.load.tokens))

    @property
    def steps(self) -> list[Step]:
        rest = (
            self.alone,
            *self.fills,
            self.recovered,
            self.short,
            self.long,
            self.mixed,
            self.cancelled,
            self.refreshed,
        )
        return [s for s in rest if s is not None]


def run_test(bench: Bench, options: KvOptions) -> Found:
    """Everything that was asked for; what there is after an interruption."""
    blocks = read_kv_blocks(bench.config)
    plan = build_plan(bench.config, options, blocks.tokens, read_context(bench.config))
    found = Found(plan=plan, blocks=blocks, options=options)
    bench.observer.note(plan.cost.text())
    with suppress(Interrupted):  # what was measured until then is the result
        _run(bench, found)
    return found


def _run(bench: Bench, results: Found) -> None:
    plan, settle = results.plan, results.options.reclaim_within

    def step(load: Load) -> Step:
        return measure(bench, load, settle, results.blocks.engines)

    results.alone = step(plan.alone)
    if results.alone.streams is not None:
        bench.observer.note(_time_text(plan, results.alone.streams))
    if plan.fill:
        _fill(results, step)
        results.recovered = step(plan.recovered)
    if plan.mixed is not None:
        room: float | None = plan.capacity
        if room is None and results.fills:
            room = max((s.peak or 0.0 for s in results.fills), default=None) or None
        short, long, mixed = mix_loads(results.options, room, plan.context)
        results.short, results.long, results.mixed = step(short), step(long), step(mixed)
    if plan.cancelled is not None:
        results.cancelled = step(plan.cancelled)
        results.refreshed = step(plan.refreshed)


def _time_text(plan: Plan, s: Streams) -> str:
    """`about 2 min if the server stays as fast as now, more while requests wait`."""
    first, gaps = ttft_ms(s), gaps_ms(s)
    if not len(first) or not len(gaps):
        return "how long the test takes is not known: the light load had too few tokens"
    seconds = plan.seconds(float(np.median(first)) / 1e3, float(np.median(gaps)) / 1e3)
    words = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return f"time: about {words} if the server stays as fast as with this light load, longer while requests wait"


def _fill(results: Found, step: Callable[[Load], Step]) -> None:
    """More and more tokens in flight, until there are enough preemptions or refusals, or nothing more fits."""
    plan = results.plan
    for load in plan.fill:
        results.fills.append(step(load))
        last = results.fills[-1]
        if _is_enough(last):
            return
        if _has_stopped(results.fills) and (not last.is_full or plan.capacity is None):
            break
    for load in plan.longer:
        last = results.fills[-1]
        if last.is_full:
            return
        # The batch may be full before the cache is: more tokens are in flight only if each request has more.
        results.fills.append(step(replace(load, concurrency=_slots(last) or load.concurrency)))
        if _is_enough(results.fills[-1]):
            return
        if _has_stopped(results.fills):
            results.is_plateau = True
            return


def _slots(step: Step) -> int | None:
    """A quarter more requests than ran at once: all that more concurrency would do is wait."""
    running = step.levels.highest("requests_running")
    return None if running is None or running < 1 else min(step.load.concurrency, max(2, int(running * 1.25)))


def _is_enough(last: Step) -> bool:
    """The edge was seen, and there is enough of it."""
    if last.measured is None or last.lost or last.refused > last.load.requests // 10:
        return True
    return (last.preemptions or last.victims) >= _MANY


def _has_stopped(fills: list[Step]) -> bool:
    """More was offered than in the step before, and no more was in flight."""
    if len(fills) < 2 or fills[-2].peak is None or fills[-1].peak is None:
        return False
    before, now = fills[-2], fills[-1]
    return now.load.tokens >= _OFFERED * before.load.tokens and (now.peak or 0.0) < _GREW * (before.peak or 0.0)


def read_context(config: Config) -> int | None:
    """`max_model_len` on `/v1/models`, of the model that is measured or the only one listed; None if the server does not say."""
    target = targets_of(config)[0]
    server = Server(target.base, access_to(config))
    try:
        reply = server.ask("GET", target.at_root("/v1/models"), timeout_s=3.0, accept="application/json")
        data = reply.json() if reply.is_ok else None
    except (OSError, ValueError):
        return None
    finally:
        server.close()
    listed = data.get("data") if isinstance(data, dict) else None
    models = [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    mine = [m for m in models if m.get("id") in config.endpoint.model_names] or (models if len(models) == 1 else [])
    limits = [m["max_model_len"] for m in mine if isinstance(m.get("max_model_len"), int) and m["max_model_len"] > 0]
    return int(np.min(limits)) if limits else None

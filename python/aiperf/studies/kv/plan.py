"""What the memory test sends, and in which order: names of runs, their lengths, concurrency and requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from aiperf.config.model import Config
from aiperf.studies.bench import Cost
from aiperf.studies.kv.options import KvOptions

__all__ = ["Load", "Plan", "build_plan", "mix_loads"]

_SHARES: Final = (0.3, 0.6, 0.9, 1.3, 1.8)
"""Of the reported capacity: three steps below it, two above."""
_AT_CAPACITY: Final = 48
"""Requests in flight at capacity, if lengths are free: enough to find the edge within a few per cent."""
_SHORTEST: Final = 96
_LONGEST: Final = 8192
_UNKNOWN: Final = 512
"""Tokens of a request where the capacity is not known."""
_ROOM: Final = 16 * 1024
"""Tokens that are taken to fit where the capacity is not known and nothing has been measured yet."""
_MOST_OUTPUT: Final = 512
"""Output tokens of a request: they take time one by one, and what they add to the prompts is enough to fill a cache that took them in."""
_LIGHT_OUTPUT: Final = 64
_SPREAD: Final = 0.25
"""Standard deviation of prompt lengths ÷ mean: requests end at every place within a block."""
_WAVES: Final = 2
_WAVES_ABOVE: Final = 3
"""Above the capacity: enough preemptions to say what they cost."""
_LONGER: Final = 3
"""How often lengths are doubled if the batch is full before the cache is."""
_RUN_OVERHEAD_S: Final = 1.5
"""What a run takes beside its load."""
_CANCELLED: Final = 0.3
"""Share of the capacity that cancelled requests hold in all: if every block leaks, the server still works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run. `seq_dist`: lengths in place of `isl` and `osl`; `cancel`: share of requests cancelled, %, after so many chunks."""

    name: str
    label: str
    concurrency: int
    requests: int
    isl: int
    osl: int
    spread: bool = False
    seq_dist: str | None = None
    cancel: int = 0
    cancel_after: int = 0

    @property
    def tokens(self) -> int:
        """Tokens in flight when every request is at its end."""
        return self.concurrency * (self.isl + self.osl)

    @property
    def cost(self) -> Cost:
        return Cost(
            runs=1,
            requests=self.requests,
            prompt_tokens=self.requests * self.isl,
            output_tokens=self.requests * self.osl,
        )

    @property
    def values(self) -> Mapping[str, object]:
        """By option path."""
        out: dict[str, object] = {
            "load.concurrency": self.concurrency,
            "load.request_count": self.requests,
            "prompt.isl_mean": float(self.isl),
            "prompt.isl_stddev": self.isl * _SPREAD if self.spread else 0.0,
            "prompt.osl_mean": float(self.osl),
            "prompt.osl_stddev": 0.0,
            "prompt.seq_dist": self.seq_dist,
        }
        if self.cancel:
            out["load.request_cancellation_rate"] = float(self.cancel)
            out["load.request_cancellation_after_chunks"] = self.cancel_after
        return out


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`alone` is run first, after the pressure (`recovered`) and at the end (`refreshed`); `fill`: the steps of the ramp; `longer`: more of
    them, if the batch is full before the cache; `capacity`: reported tokens; `context`: longest prompt and output.
    """

    alone: Load
    fill: tuple[Load, ...]
    longer: tuple[Load, ...] = ()
    short: Load | None = None
    long: Load | None = None
    mixed: Load | None = None
    cancelled: Load | None = None
    capacity: int | None = None
    context: int | None = None

    @property
    def recovered(self) -> Load:
        return replace(self.alone, name="recovered", label="the light load again, after the pressure")

    @property
    def refreshed(self) -> Load:
        return replace(self.alone, name="refreshed", label="the light load again, after the cancellations")

    @property
    def loads(self) -> tuple[Load, ...]:
        """All that may be sent; the ramp ends when it has seen the edge."""
        loads = [self.alone, self.recovered, *self.fill, *self.longer]
        loads += [found for found in (self.short, self.long, self.mixed) if found is not None]
        if self.cancelled is not None:
            loads += [self.cancelled, self.refreshed]
        return tuple(loads)

    def seconds(self, ttft_s: float, itl_s: float) -> float:
        """Of the whole test, if the server stays as fast as with the light load; `longer` left out, as it is rarely needed."""
        total = 0.0
        for load in self.loads:
            if load not in self.longer:
                latency = ttft_s * max(1.0, load.isl / self.alone.isl) + itl_s * load.osl
                total += _RUN_OVERHEAD_S + latency * math.ceil(load.requests / load.concurrency)
        return total

    @property
    def cost(self) -> Cost:
        """At most: the ramp ends when it has seen the edge."""
        loads = self.loads
        total = Cost(runs=0, requests=0, prompt_tokens=0, output_tokens=0, is_bound=True)
        for load in loads:
            total += load.cost
        return total


def build_plan(config: Config, options: KvOptions, capacity: int | None, context: int | None) -> Plan:
    """`capacity`: tokens of the KV cache, `context`: longest prompt plus output; None: the server does not say."""
    isl, osl = _lengths(config, options, capacity, context)
    parts = set(options.parts)
    fill = _known(options, capacity, isl, osl) if capacity is not None else _unknown(options, isl, osl)
    fill = tuple(_within(load, context) for load in fill)
    alone = Load(
        name="alone",
        label="a light load, for comparison",
        concurrency=2,
        requests=10,
        isl=isl,
        osl=min(osl, _LIGHT_OUTPUT),
    )
    longer = _longer(fill[-1], context, capacity)
    short = long = mixed = cancelled = None
    if "mix" in parts:
        short, long, mixed = mix_loads(options, capacity, context)
    if "cancel" in parts:
        made = min(osl, 2 * _LIGHT_OUTPUT)
        held = isl + made // 2
        count = max(4, min(32, int(_CANCELLED * capacity / held))) if capacity is not None else 8
        cancelled = Load(
            name="cancelled",
            label="half of the requests are cancelled in the middle",
            concurrency=max(2, min(count, options.max_concurrency, fill[0].concurrency * 2)),
            requests=2 * count,
            isl=isl,
            osl=made,
            cancel=50,
            cancel_after=max(1, made // 2),
        )
    return Plan(
        alone=alone,
        fill=fill if "fill" in parts else (),
        longer=longer if "fill" in parts else (),
        short=short,
        long=long,
        mixed=mixed,
        cancelled=cancelled,
        capacity=capacity,
        context=context,
    )


def _lengths(config: Config, options: KvOptions, capacity: int | None, context: int | None) -> tuple[int, int]:
    """Prompt and output tokens of a request: the user's, else so that a few dozen requests fill the cache."""
    total = _UNKNOWN if capacity is None else max(_SHORTEST, min(_LONGEST, capacity // _AT_CAPACITY))
    if capacity is not None:
        total = max(total, math.ceil(_SHARES[-1] * capacity / options.max_concurrency))
    if context is not None:
        total = max(2, min(total, context // 2))
    given = config.prompt.osl_mean
    osl = max(2, min(total // 2, _MOST_OUTPUT) if given is None else round(given))
    isl = round(config.prompt.isl_mean) if config.is_set("prompt.isl_mean") else total - osl
    return max(1, isl), osl


def _known(options: KvOptions, capacity: int, isl: int, osl: int) -> tuple[Load, ...]:
    counts = [max(1, min(options.max_concurrency, math.ceil(s * capacity / (isl + osl)))) for s in _SHARES]
    return tuple(
        _fill(number, n, isl, osl, _WAVES_ABOVE if n * (isl + osl) > capacity else _WAVES)
        for number, n in enumerate(dict.fromkeys(counts), 1)
    )


def _unknown(options: KvOptions, isl: int, osl: int) -> tuple[Load, ...]:
    counts = []
    n = 4
    while n < options.max_concurrency:
        counts.append(n)
        n *= 2
    return tuple(_fill(number, n, isl, osl) for number, n in enumerate([*counts, options.max_concurrency], 1))


def _fill(number: int, concurrency: int, isl: int, osl: int, waves: int = _WAVES) -> Load:
    return Load(
        name=f"fill_{number:02d}",
        label=f"{concurrency} requests of {isl} + {osl} tokens in flight",
        concurrency=concurrency,
        requests=max(8, waves * concurrency),
        isl=isl,
        osl=osl,
        spread=True,
    )


def _within(load: Load, context: int | None) -> Load:
    """Lengths do not vary where the longest would not be served."""
    longest = load.isl * (1 + 4 * _SPREAD) + load.osl
    return load if context is None or longest <= context else replace(load, spread=False)


def _longer(last: Load, context: int | None, capacity: int | None) -> tuple[Load, ...]:
    """The last step with twice, four and eight times the lengths, as far as the context goes."""
    loads: list[Load] = []
    for number in range(1, _LONGER + 1):
        isl, osl = last.isl * 2**number, last.osl * 2**number
        if context is not None and isl + osl > context:
            break
        if capacity is not None and loads and loads[-1].tokens > 2 * capacity * _SHARES[-1]:
            break
        loads.append(_within(replace(_fill(0, last.concurrency, isl, osl), name=f"longer_{number}"), context))
    return tuple(loads)


def mix_loads(options: KvOptions, room: float | None, context: int | None) -> tuple[Load, Load, Load]:
    """Short requests alone, long prompts alone, and both: a fifth of the requests is long. `room`: tokens that fit, as far as is known."""
    room = _ROOM if room is None else room
    isl = 32
    osl = 64
    long = max(4 * isl, min(_LONGEST, int(0.4 * room)))
    if context is not None:
        long = min(long, max(isl, context * 3 // 4))
    streams = max(1, min(8, options.max_concurrency - 1, int(0.4 * room / (isl + osl))))
    alone = Load(
        name="short", label="short requests alone", concurrency=streams, requests=8 * streams, isl=isl, osl=osl
    )
    prompts = Load(name="long", label="long prompts, one after the other", concurrency=1, requests=5, isl=long, osl=2)
    mixed = replace(
        alone,
        name="mixed",
        label=f"short requests beside prompts of {long} tokens",
        concurrency=streams + 1,
        requests=max(40, 10 * streams),
        seq_dist=f"{isl},{osl}:80;{long},2:20",
    )
    return alone, prompts, mixed

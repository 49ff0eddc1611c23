"""The cache study's loads on the virtual clock of the engine model: what is warm and what is measured go through one engine, one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from aiperf._core import simulate
from aiperf.studies.cache.meter import Load, Point
from aiperf.studies.cache.prompts import joined

__all__ = ["VirtualMeter"]


class VirtualMeter:
    """`engine`: options of the engine model. `usage`, `counters`: whether the server reports hits that way. `loads`: what was sent."""

    def __init__(self, engine: Mapping[str, object], *, usage: bool = True, counters: bool = True) -> None:
        self._engine = engine
        self._usage = usage
        self._counters = counters
        self.loads: list[Load] = []

    def __call__(self, load: Load) -> Point:
        self.loads.append(load)
        warm = 0 if load.warm is None else load.warm.count
        prompts = load.measured if load.warm is None else joined(load.warm, load.measured)
        # Text of an own rest is new in the engine model by itself; another base is another number of a prefix.
        table = simulate(
            json.dumps(self._engine),
            prompts.tokens.astype(np.uint32),
            np.full(prompts.count, prompts.osl, np.uint32),
            concurrency=load.concurrency or 1,
            prefix_tokens=prompts.shared.astype(np.uint32),
            prefix_id=prompts.prefix.astype(np.uint64),
        )
        assert not table["refused"].any()
        kept = slice(warm, None)
        sent, first, last = (table[name][kept] for name in ("sent", "first", "last"))
        cached = table["cached_tokens"][kept].astype(float)
        tokens = table["prompt_tokens"][kept].astype(float)
        return Point(
            load=load,
            row=np.arange(load.measured.count, dtype=float),
            hit_tokens=cached if self._usage else np.full(len(cached), np.nan),
            prompt_tokens=tokens,
            ttft_ms=(first - sent) / 1e6,
            latency_ms=(last - sent) / 1e6,
            duration_s=float(last.max() - sent.min()) / 1e9,
            counter_hits=float(cached.sum()) if self._counters else None,
            counter_queries=float(tokens.sum()) if self._counters else None,
        )

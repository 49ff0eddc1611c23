"""A probe on the virtual clock: what the live one does, with `queue_model` instead of a run."""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from tests.unit.sweep.queue_model import Server, serve

from aiperf.config.conditions import parse_condition
from aiperf.sweep.judge import Sample, combine, drop_first_wave, is_saturated, judge, suggest
from aiperf.sweep.probe import first_wave, requests_for
from aiperf.sweep.search import ProbeOutcome

LIMIT_MS = 400.0


@dataclass
class VirtualProbe:
    """`is_open`: the value is a rate. `jitter`: each run's server is slower or faster by this share (a noisy machine)."""

    server: Server
    seed: int
    slo: tuple[str, ...] = (f"time_to_first_token:p95<{LIMIT_MS:g}ms",)
    is_open: bool = False
    jitter: float = 0.0
    spent: int = 0
    latency_ms: dict[float, float] = field(default_factory=dict)
    asked: dict[float, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, value: float, calls: int) -> ProbeOutcome:
        known = [v for v in self.latency_ms if v <= value]
        latency_ms = self.latency_ms[max(known)] if known else 0.0
        count = requests_for(value, calls, is_open=self.is_open, latency_s=latency_ms / 1e3)
        self.spent += count
        seed = zlib.crc32(f"{self.seed} {value:g} {calls}".encode())
        server = self.server
        if self.jitter:
            factor = float(np.exp(np.random.default_rng(seed).normal(0, self.jitter)))
            server = Server(**{**vars(server), "step_ms": server.step_ms * factor})
        if self.is_open:
            served = serve(server, count, seed, rate=value)
        else:
            served = serve(server, count, seed, concurrency=int(value), ramp_ms=latency_ms)
        self.latency_ms[value] = float(served.latency.mean())
        good = served.ttft <= LIMIT_MS
        values = {
            "time_to_first_token": served.ttft,
            "inter_token_latency": served.itl,
            "request_latency": served.latency,
            "output_sequence_length": served.osl,
        }
        sample = Sample(
            values, served.start / 1e3, served.end / 1e3, np.ones(count, dtype=np.bool_), good, is_open=self.is_open
        )
        self.asked[value].append(
            drop_first_wave(sample, first_wave(value, is_open=self.is_open, latency_s=latency_ms / 1e3))
        )
        pooled = self.asked[value]
        if any(is_saturated(s) for s in pooled):
            return combine([], count, saturated=True)
        judged = [judge(pooled, parse_condition(text)) for text in self.slo]
        guess = None if self.is_open else suggest(pooled, judged[0], value)
        return combine(judged, count, suggestion=guess)


def true_capacity(server: Server, low: int = 1, high: int = 2048) -> int:
    """The highest concurrency whose p95 TTFT stays below the limit in a very long run (20,000 requests, first waves left out)."""
    while high - low > 1:
        middle = (low + high) // 2
        served = serve(server, 20_000 + middle, 12345, concurrency=middle)
        if np.percentile(served.ttft[middle:], 95) < LIMIT_MS:
            low = middle
        else:
            high = middle
    return low


def true_rate(server: Server, low: float = 1.0, high: float = 512.0) -> float:
    """The same for Poisson arrivals, requests/s."""
    while high / low > 1.002:
        middle = (low * high) ** 0.5
        served = serve(server, 60_000, 4321, rate=middle)
        if np.percentile(served.ttft[2000:], 95) < LIMIT_MS:
            low = middle
        else:
            high = middle
    return low

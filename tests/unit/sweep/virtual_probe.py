"""A probe on the virtual clock: what the live one does, with a model in the place of a run."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tests.unit.sweep.engine_model import Engine, serve_engine
from tests.unit.sweep.queue_model import Served, Server, serve

from aiperf.config.conditions import parse_condition
from aiperf.sweeps.judge import Sample
from aiperf.sweeps.search import Crossing, ProbeOutcome
from aiperf.sweeps.trial import Samples, judge_all, measured, requests_for

LIMIT_MS = 400.0
Serve = Callable[[float, int, int, float], Served]
"""(value, requests, seed, ramp in ms): a run."""


def closed(server: Server) -> Serve:
    return lambda value, count, seed, ramp_ms: serve(server, count, seed, concurrency=int(value), ramp_ms=ramp_ms)


def at_rate(server: Server) -> Serve:
    return lambda value, count, seed, _: serve(server, count, seed, rate=value)


def engine(server: Engine) -> Serve:
    return lambda value, count, seed, ramp_ms: serve_engine(server, int(value), count, seed, ramp_ms)


def noisy(build: Callable[[float], Serve], share: float) -> Serve:
    """`build(factor)`: a server so many times slower; each run has a factor of its own, its logarithm `share` on average."""

    def run(value: float, count: int, seed: int, ramp_ms: float) -> Served:
        factor = float(np.exp(np.random.default_rng(seed).normal(0, share)))
        return build(factor)(value, count, seed, ramp_ms)

    return run


@dataclass(kw_only=True)
class VirtualProbe:
    """`is_open`: the value is a rate."""

    serve: Serve
    seed: int
    slo: tuple[str, ...] = (f"time_to_first_token:p95<{LIMIT_MS:g}ms",)
    is_open: bool = False
    spent: int = 0
    samples: Samples = field(default_factory=Samples)
    asked: dict[float, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, value: float, effort: int) -> ProbeOutcome:
        latency_s = self.samples.expected_latency(value)
        count = requests_for(value, effort, is_open=self.is_open, latency_s=latency_s)
        self.spent += count
        run = sum(map(len, self.asked.values()))
        seed = zlib.crc32(f"{self.seed} {value:g} {run}".encode())
        served = self.serve(value, count, seed, 1e3 * latency_s)
        values = {
            "time_to_first_token": served.ttft,
            "inter_token_latency": served.itl,
            "request_latency": served.latency,
            "output_sequence_length": served.osl,
        }
        whole = Sample(
            values=values,
            start_s=served.start / 1e3,
            end_s=served.end / 1e3,
            ok=np.ones(count, dtype=np.bool_),
            good=served.ttft <= LIMIT_MS,
            is_open=self.is_open,
        )
        sample = measured(whole, value, effort, latency_s)
        assert sample.full_latency_s is not None
        self.asked[value].append(sample)
        return judge_all(self.samples.add(value, sample), [parse_condition(text) for text in self.slo], count)

    def locate(self) -> Crossing | None:
        return self.samples.locate([parse_condition(text) for text in self.slo])


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

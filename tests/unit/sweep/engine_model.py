"""The engine model of the simulated server (`aiperf._core.simulate`) as the server behind a search, on a virtual clock.

It is the model that `aiperf sim --preset …` runs in real time: continuous batching, chunked prefill, paged KV. Its closed loop starts all
requests at once; a search starts them one after the other (`--concurrency-ramp-duration`). That is found as a fixed point: arrivals
are given, each end of a request is the next arrival, until both agree; what happens before an arrival does not depend on it, so
each round is right for longer than the one before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from tests.unit.sweep.queue_model import Served

from aiperf._core import simulate
from aiperf.metrics import Floats

LIMIT_MS: Final = 400.0


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine and what it is asked. `law`: of the output lengths around `osl`; `step`: its `StepTime`, ms."""

    slots: int
    batched_tokens: int
    step: dict[str, float]
    isl: int
    isl_sd: int
    osl: int
    law: Literal["geometric", "normal", "fixed"]

    def slower(self, factor: float) -> Engine:
        step = {name: v if name == "jitter" else v * factor for name, v in self.step.items()}
        return Engine(
            slots=self.slots,
            batched_tokens=self.batched_tokens,
            step=step,
            isl=self.isl,
            isl_sd=self.isl_sd,
            osl=self.osl,
            law=self.law,
        )

    def options(self, seed: int) -> str:
        return json.dumps(
            {
                "max_num_seqs": self.slots,
                "max_num_batched_tokens": self.batched_tokens,
                "num_blocks": 200_000,
                "prefix_caching": False,
                "step": self.step,
                "seed": seed,
            }
        )


def draw_engine(seed: int) -> Engine:
    """Small and large, limited by places or by prefill, with even and with ragged work."""
    rng = np.random.default_rng([seed, 77])
    slots, batched_tokens = int(rng.integers(8, 256)), int(rng.choice([1024, 2048, 8192]))
    step = {
        "base_ms": rng.uniform(5, 15),
        "per_decode_ms": rng.uniform(0.02, 0.08),
        "per_prefill_token_ms": rng.uniform(0.005, 0.03),
        "per_kv_token_ms": 2e-5,
        "jitter": rng.uniform(0, 0.3),
    }
    osl, isl, isl_sd = int(rng.integers(40, 120)), int(rng.integers(50, 400)), int(rng.integers(0, 40))
    laws: tuple[Literal["geometric", "normal", "fixed"], ...] = ("geometric", "normal", "fixed")
    return Engine(
        slots=slots, batched_tokens=batched_tokens, step=step, isl=isl, isl_sd=isl_sd, osl=osl, law=laws[seed % 3]
    )


def serve_engine(engine: Engine, concurrency: int, count: int, seed: int, ramp_ms: float) -> Served:
    """A closed loop whose first requests start evenly over `ramp_ms`."""
    rng = np.random.default_rng(seed)
    match engine.law:
        case "geometric":
            output = np.clip(rng.geometric(1 / engine.osl, count), 2, 8 * engine.osl)
        case "normal":
            output = np.clip(rng.normal(engine.osl, engine.osl / 4, count).round(), 2, None)
        case "fixed":
            output = np.full(count, engine.osl)
    prompts = np.clip(rng.normal(engine.isl, engine.isl_sd, count).round(), 8, None).astype(np.uint32)
    outputs, options = output.astype(np.uint32), engine.options(seed)
    first = np.linspace(0, ramp_ms * 1e6, min(concurrency, count), endpoint=False).astype(np.int64)
    arrivals = first
    for _ in range(2 * count):
        n = len(arrivals)
        simulated = simulate(options, prompts[:n], outputs[:n], arrivals_ns=arrivals)
        ends = np.sort(simulated["last"]).astype(np.int64)
        following = np.sort(np.concatenate((first, ends)), kind="stable")[:count]
        if np.array_equal(following, arrivals):
            return Served(
                simulated["sent"] / 1e6,
                simulated["first"] / 1e6,
                simulated["last"] / 1e6,
                simulated["output_tokens"].astype(np.float64),
            )
        arrivals = following
    raise AssertionError("the closed loop was not found")


def _tail(engines: tuple[Engine, ...], concurrency: int, count: int, seeds: tuple[int, ...]) -> float:
    """p95 of TTFT, ms, in runs that start evenly over one latency; the first three waves are left out."""
    kept: list[Floats] = []
    for engine in engines:
        latency = 20.0 * engine.osl
        for _ in range(2):
            served = serve_engine(engine, concurrency, 5 * concurrency + 200, 7, latency)
            latency = float(served.latency[2 * concurrency :].mean())
        total = 3 * concurrency + max(count // len(engines), 200)
        kept += [serve_engine(engine, concurrency, total, seed, latency).ttft[3 * concurrency :] for seed in seeds]
    return float(np.percentile(np.concatenate(kept), 95))


def engine_capacity(*engines: Engine) -> float:
    """Where p95 of TTFT crosses the limit, by a scan with runs ten times as long as any of the search's: bisected on one seed, then
    to the neighbours on three; between these a straight line. Of several engines: over all their requests.
    """
    low, high = 1, 1024
    while high - low > max(1, 0.03 * low):
        middle = (low + high) // 2
        is_low = _tail(engines, middle, max(1000, 2 * middle), (1,)) < LIMIT_MS
        low, high = (middle, high) if is_low else (low, middle)
    low, high = max(1, int(low * 0.96)), int(high * 1.04) + 1
    known: dict[int, float] = {}

    def tail(value: int) -> float:
        if value not in known:
            known[value] = _tail(engines, value, max(2000, 12 * value), (11, 12, 13))
        return known[value]

    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tail(middle) < LIMIT_MS else (low, middle)
    left, right = tail(low), tail(high)
    return low + (LIMIT_MS - left) / (right - left) if left < LIMIT_MS < right else float(low)

"""A server with continuous batching on a virtual clock: the truth for searches and comparisons, in microseconds per request.

Up to `slots` requests run; each step gives every running request one token and takes `step_ms + per_request_ms · running`, times
noise with memory; a request is admitted between two steps and its prefill stops the others for `prefill_ms`. Requests that find no
slot wait in order.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from aiperf.metrics import Floats


@dataclass(frozen=True, kw_only=True)
class Server:
    """`noise`: standard deviation of the logarithm of the step time; `memory`: its correlation from event to event."""

    slots: int = 64
    step_ms: float = 8.0
    per_request_ms: float = 0.05
    prefill_ms: float = 2.0
    noise: float = 0.05
    memory: float = 0.8


@dataclass(frozen=True)
class Served:
    """Times in ms, requests in the order they started."""

    start: Floats
    first: Floats
    end: Floats
    osl: Floats

    @property
    def ttft(self) -> Floats:
        return self.first - self.start

    @property
    def latency(self) -> Floats:
        return self.end - self.start

    @property
    def itl(self) -> Floats:
        return (self.end - self.first) / np.maximum(self.osl - 1, 1)


def serve(
    server: Server,
    count: int,
    seed: int,
    *,
    concurrency: int | None = None,
    rate: float | None = None,
    osl_mean: int = 60,
    ramp_ms: float = 0.0,
) -> Served:
    """A closed loop of `concurrency`, whose first requests start over `ramp_ms`; or Poisson arrivals at `rate` per second."""
    rng = np.random.default_rng(seed)
    osl = np.clip(rng.geometric(1 / osl_mean, count), 2, 8 * osl_mean)
    start, first, end = np.zeros(count), np.zeros(count), np.zeros(count)
    now, step, level, sent = 0.0, 0, 0.0, 0
    waiting: deque[int] = deque()
    running: list[tuple[int, int]] = []
    ramp = min(concurrency or 1, count)
    arrivals = np.cumsum(rng.exponential(1000 / rate, count)) if rate is not None else np.linspace(0, ramp_ms, ramp)
    planned = len(arrivals)
    shocks = iter(rng.normal(0, server.noise * math.sqrt(1 - server.memory**2), 8 * count + 1000))
    due = 0
    while waiting or running or due < planned:
        if not waiting and not running:
            now = max(now, float(arrivals[due]))
        while due < planned and arrivals[due] <= now:
            start[sent] = arrivals[due]
            waiting.append(sent)
            sent, due = sent + 1, due + 1
        level = server.memory * level + next(shocks, 0.0)
        speed = math.exp(level)
        prefill = 0.0
        admitted: list[int] = []
        while waiting and len(running) + len(admitted) < server.slots:
            admitted.append(waiting.popleft())
            prefill += server.prefill_ms * speed
        batch = len(running) + len(admitted)
        one = (server.step_ms + server.per_request_ms * batch) * speed
        for index in admitted:
            heapq.heappush(running, (step + int(osl[index]), index))
        leap = 1 if admitted else max(1, running[0][0] - step)
        if due < planned and not admitted:
            leap = max(1, min(leap, math.ceil((float(arrivals[due]) - now) / one)))
        now += prefill + leap * one
        step += leap
        for index in admitted:
            first[index] = now
        while running and running[0][0] <= step:
            _, index = heapq.heappop(running)
            end[index] = now
            if rate is None and sent + planned - due < count:
                start[sent] = now
                waiting.append(sent)
                sent += 1
    return Served(start, first, end, osl.astype(np.float64))

"""The load a configuration asks for, as one of five shapes. Whoever wants to know when requests are sent asks `load_of`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiperf.config.model import Config
from aiperf.number_text import exact, significant

__all__ = ["Arrival", "Closed", "Load", "Rate", "Schedule", "Series", "Users", "describe", "load_of", "warmup_load_of"]

Arrival = Literal["constant", "poisson", "gamma"]


@dataclass(frozen=True, slots=True)
class Closed:
    """Closed loop: `concurrency` sessions in flight, None if the workload decides."""

    concurrency: int | None


@dataclass(frozen=True, slots=True)
class Rate:
    """Open loop: sessions started at `per_s` with inter-arrival times of `arrival`; at most `concurrency` in flight."""

    per_s: float
    arrival: Arrival
    smoothness: float
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Open loop with a rate over time: `source` is what `parse_rate_series` takes."""

    source: str
    arrival: Arrival
    smoothness: float
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Users:
    """`users` users, `per_s` requests per second of all together."""

    users: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """At the timestamps of the file, `speed` times as fast."""

    speed: float


Load = Closed | Rate | Series | Users | Schedule


def load_of(config: Config) -> Load:
    """Of the measured phase. `config.check` refuses two of them at once; without it the first in this order counts."""
    load = config.load
    if config.input.fixed_schedule:
        return Schedule(config.input.replay_speedup)
    if load.user_centric_rate is not None and load.num_users is not None:
        return Users(load.num_users, load.user_centric_rate)
    if load.request_rate_series is not None:
        return Series(load.request_rate_series, *_gaps(config, load.arrival_pattern), load.concurrency)
    if load.request_rate is not None:
        return Rate(load.request_rate, *_gaps(config, load.arrival_pattern), load.concurrency)
    return Closed(load.concurrency)


def warmup_load_of(config: Config) -> Users | Rate | Closed:
    """Of the warm-up: what it does not say itself is as in the measured phase, but never a schedule or a series."""
    warmup, load = config.warmup, config.load
    if load.user_centric_rate is not None and load.num_users is not None:
        return Users(load.num_users, load.user_centric_rate)
    concurrency = warmup.concurrency if warmup.concurrency is not None else load.concurrency
    rate = warmup.request_rate if warmup.request_rate is not None else load.request_rate
    if rate is None:
        return Closed(concurrency)
    return Rate(rate, *_gaps(config, warmup.arrival_pattern or load.arrival_pattern), concurrency)


def _gaps(config: Config, pattern: str | None) -> tuple[Arrival, float]:
    smoothness = config.load.arrival_smoothness
    if pattern in {"constant", "poisson", "gamma"}:
        arrival: Arrival = pattern  # type: ignore[assignment]  # narrowed by the set
    else:
        arrival = "poisson" if smoothness is None else "gamma"
    return arrival, 1.0 if smoothness is None else smoothness


def describe(load: Load, *, in_lanes: bool = False) -> str:
    """In a few words, for a screen or a table. `in_lanes`: the workload is replayed in lanes, each with a session and all its sub-agents, so
    that the concurrency is no number of requests in flight.
    """
    match load:
        case Schedule(speed):
            return "at the file's timestamps" + ("" if speed == 1 else f", {exact(speed)} times as fast")
        case Users(users, per_s):
            return (
                f"{users:,} users, {exact(per_s)} requests/s together: each sends every {significant(users / per_s)} s"
            )
        case Series():
            return "at a rate that changes over time"
        case Rate(per_s, arrival, _, concurrency):
            cap = "" if concurrency is None else f", at most {concurrency:,} in flight"
            return f"{exact(per_s)} requests/s, {arrival}{cap}"
        case Closed(concurrency) if in_lanes:
            count = concurrency or 1
            return f"{count:,} lane" + "s" * (count > 1)
        case Closed(concurrency):
            return f"{concurrency or 1:,} in flight"

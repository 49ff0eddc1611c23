"""A part of a run, started by the user on each machine (`--part 2/8 --start-at TIME`)."""

from __future__ import annotations

import time

from aiperf.config.engine_settings import PartSettings
from aiperf.config.model import Config
from aiperf.config.part import parse_part, parse_start, salt_of
from aiperf.errors import ConfigError, Problem
from aiperf.observer import Observer
from aiperf.records.run_json import PartEntry

__all__ = ["check_start", "part_entry", "part_settings", "wait_for_start", "watches_the_server"]

_SETTLE_NS = 3_000_000_000
"""The engine is made so long before the start: its connections are opened, and do not grow old."""
_LATEST_NS = 100_000_000
"""The engine needs some time of its own before the start."""


def part_settings(config: Config, seed: int) -> PartSettings | None:
    """None: the whole run."""
    d = config.distributed
    if d.part is None or d.start_at is None:
        return None
    part, start = parse_part(d.part), parse_start(d.start_at)
    return PartSettings(index=part.index, of=part.of, salt=salt_of(seed, start), start_wall_ns=start)


def part_entry(config: Config, seed: int) -> PartEntry | None:
    """For `run.json`."""
    part = part_settings(config, seed)
    if part is None or part.start_wall_ns is None:
        return None
    return PartEntry(index=part.index, of=part.of, salt=part.salt, start_wall_ns=part.start_wall_ns)


def watches_the_server(config: Config) -> bool:
    """Metrics of the server and its GPUs are those of the whole run: one part reads them."""
    return config.distributed.part is None or parse_part(config.distributed.part).index == 0


def check_start(config: Config) -> None:
    """ConfigError if `--start-at` is over before anything is prepared: the other parts have begun."""
    if config.distributed.part is None or config.distributed.start_at is None:
        return
    late = time.time_ns() - parse_start(config.distributed.start_at)
    if late > 0:
        problem = Problem(
            f"the start has passed {late / 1e9:,.1f} s ago",
            "--start-at",
            "choose a later time, for all parts of the run",
        )
        raise ConfigError([problem])


def wait_for_start(config: Config, observer: Observer) -> None:
    """Until shortly before `--start-at`; the engine waits for the rest. ConfigError if it is over: the other parts have begun."""
    if config.distributed.part is None or config.distributed.start_at is None:
        return
    start = parse_start(config.distributed.start_at)
    left = start - time.time_ns()
    if left < _LATEST_NS:
        text = f"the start has passed {-left / 1e9:,.1f} s ago" if left < 0 else "the start is less than 0.1 s ahead"
        problem = Problem(
            f"{text}: preparing the load took longer", "--start-at", "choose a later time, for all parts of the run"
        )
        raise ConfigError([problem])
    observer.stage(f"waiting for the start in {left / 1e9:,.1f} s")
    while (left := start - time.time_ns() - _SETTLE_NS) > 0:
        time.sleep(min(left / 1e9, 1.0))

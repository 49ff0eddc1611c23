"""Ending a run before its bound: when a metric is known precisely enough (`--until`), or an assertion can no longer be met
(`--abort-on-fail`).

A thread of its own reads the journal while it grows, every two seconds and never for more than a twentieth of the time, at a
lower priority than the worker threads. Nothing of it is on the way of a request.

Looking again and again and stopping at the first good moment makes intervals a little too narrow: a metric must be precise enough
twice in a row, with at least as many values as its percentile needs.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from aiperf.background import yield_to_load
from aiperf.config.conditions import Condition, Precision
from aiperf.config.model import Config
from aiperf.errors import AIPerfError, ConfigError, Problem
from aiperf.metrics import load_all
from aiperf.metrics.compute import open_context, rows_of
from aiperf.metrics.confidence import Interval, estimate
from aiperf.metrics.context import MetricContext, MetricOptions, TokenSource
from aiperf.metrics.goodput import good_mask
from aiperf.metrics.stats import needed_count
from aiperf.metrics.summary import Phase, phase_mask
from aiperf.outcome import Snapshot
from aiperf.records import Columns, open_run
from aiperf.units import threshold_in

__all__ = ["StopReason", "Stopper", "check_precisions", "lost_assertion", "most_requests", "open_context_of", "unsure"]

INTERVAL_S = 2.0
_SHARE = 0.05
_FEWEST = 30
_IN_A_ROW = 2
_RATES = frozenset({"request_throughput", "output_token_throughput", "goodput", "good_request_fraction"})


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why the run is stopped. `level` as in the engine's `stop`: 1 lets requests in flight finish, 2 cancels them."""

    level: int
    text: str


def check_precisions(config: Config) -> None:
    """ConfigError for a figure that has no interval: known before the first request."""
    known = load_all()
    problems = []
    for wanted in config.load.until:
        metric = known.get(wanted.tag)
        if wanted.tag in _RATES or (metric is not None and metric.kind == "request"):
            stat = wanted.stat or "avg"
            if stat == "avg" or (stat.startswith("p") and wanted.tag not in _RATES):
                continue
            why = f"`{wanted.tag}` has no interval for `{stat}`"
        else:
            why = f"`{wanted.tag}` has no interval"
        hint = "latencies and lengths have one for `avg` and percentiles, throughput and goodput for their value"
        problems.append(Problem(why, "--until", hint))
    if any(p.tag in ("goodput", "good_request_fraction") for p in config.load.until) and not config.slo.goodput:
        problems.append(Problem("goodput needs objectives", "--until", "as `--goodput 'time_to_first_token:370'`"))
    if problems:
        raise ConfigError(problems)


def open_context_of(columns: Columns, options: MetricOptions, phases: tuple[Phase, ...]) -> MetricContext:
    """The finished requests of the measured phases so far; tokens, not counted yet, are the server's or one a chunk."""
    rows = rows_of(columns, phase_mask(columns, phases, "profiling"))
    counted: TokenSource = "chunks" if np.isnan(rows.scalar("usage_completion")).all() else "server usage"
    return open_context(rows, replace(options, count_source=counted))


def unsure(context: MetricContext, wanted: Sequence[Precision]) -> list[tuple[Precision, Interval | None]]:
    """Those that are not sure yet, with the interval as it is; None if the figure does not exist yet."""
    out: list[tuple[Precision, Interval | None]] = []
    for precision in wanted:
        stat = precision.stat or "avg"
        found = estimate(context, precision.tag, stat)
        least = max(_FEWEST, needed_count(float(stat[1:])) if stat.startswith("p") else 0)
        width = None if found is None else found.relative_half_width
        if found is None or width is None or found.count < least or width > precision.relative:
            out.append((precision, found))
    return out


def most_requests(config: Config) -> int | None:
    """The most requests that the measured phase can still come to; None if nothing bounds it."""
    load = config.load
    bounds = [] if load.request_count is None else [load.request_count]
    if load.benchmark_duration is not None and load.request_rate is not None:
        due = load.request_rate * load.benchmark_duration
        spread = 0.0 if load.arrival_pattern == "constant" else 6 * math.sqrt(due)
        bounds.append(math.ceil(due + spread) + 1)
    return min(bounds, default=None)


def lost_assertion(context: MetricContext, conditions: Sequence[Condition], most: int | None) -> str | None:
    """The first condition that can no longer be met, whatever the requests still to come do; None if all still can.

    `most`: requests at the end, at most. Unbounded runs lose only assertions on counts and extremes.
    """
    for condition in conditions:
        if not isinstance(condition.value, str) and _is_lost(context, condition, float(condition.value), most):
            return str(condition)
    return None


def _is_lost(context: MetricContext, condition: Condition, given: float, most: int | None) -> bool:
    metric = load_all().get(condition.tag)
    value = None if metric is None else threshold_in(given, condition.unit, metric.unit.shown)
    if metric is None or value is None:
        return False
    failed = int(np.count_nonzero(context.failed))
    upper, lower = condition.op in ("<", "<=", "="), condition.op in (">", ">=", "=")
    strict = condition.op in ("<", ">")
    if condition.tag in ("error_request_count", "request_error_rate"):
        if not upper:
            return False
        best = float(failed)
        if condition.tag == "request_error_rate":
            if most is None:
                # Of a run without end only an assertion of no errors at all is lost for good.
                return failed > 0 and value <= 0
            best = 100.0 * failed / max(most, 1)
        return best >= value if strict and failed else best > value
    if condition.tag == "good_request_fraction":
        if not lower or most is None or not context.options.slos:
            return False
        bad = int(np.count_nonzero(context.attempted & ~good_mask(context, context.options.slos)))
        best = max(most - bad, 0) / max(most, 1)
        return best <= value if strict else best < value
    if metric.kind != "request":
        return False
    values = context.value(condition.tag)
    values = values[np.isfinite(values)] / metric.unit.divisor
    if not len(values):
        return False
    beyond_upper = int(np.count_nonzero(values >= value if strict else values > value))
    beyond_lower = int(np.count_nonzero(values <= value if strict else values < value))
    stat = {"median": "p50"}.get(condition.stat or "avg", condition.stat or "avg")
    if stat == "max":
        return upper and beyond_upper > 0
    if stat == "min":
        return lower and beyond_lower > 0
    if most is None:
        return False
    if stat == "avg":
        # No latency, length or speed is below 0: at best all the others are 0.
        best = float(values.sum()) / max(most, len(values))
        return upper and bool((values >= 0).all()) and (best >= value if strict else best > value)
    if not stat.startswith("p"):
        return False
    total = max(most, len(values))
    rank = (total - 1) * float(stat[1:]) / 100
    # At best all others lie on the right side; lost when both neighbours of the rank are beyond.
    return (upper and beyond_upper >= total - math.floor(rank)) or (lower and beyond_lower > math.ceil(rank))


class Stopper:
    """What `drive` asks with each snapshot (`watch`); the work is done by a thread that ends with the `with` block."""

    def __init__(self, config: Config, run_dir: Path, options: MetricOptions, phases: tuple[Phase, ...]) -> None:
        self._config = config
        self._run_dir = run_dir
        self._options = options
        self._phases = phases
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="aiperf-until", daemon=True)
        self.verdict: StopReason | None = None
        self.problem: str | None = None
        """Why it does not look any more, if it does not."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def watch(self, _snapshot: Snapshot) -> int:
        return 0 if self.verdict is None else self.verdict.level

    def _work(self) -> None:
        yield_to_load()
        judge = Judge(self._config, self._options, self._phases)
        pause = INTERVAL_S
        while not self._ended.wait(pause) and self.verdict is None:
            begin = time.monotonic()
            try:
                self.verdict = judge.look(open_run(self._run_dir))
            except (AIPerfError, OSError, ValueError) as error:
                self.problem = str(error)
                return
            pause = max(INTERVAL_S, (time.monotonic() - begin) / _SHARE)


class Judge:
    """Looks at the records so far; remembers how often in a row the figures were sure."""

    def __init__(self, config: Config, options: MetricOptions, phases: tuple[Phase, ...]) -> None:
        self._config = config
        self._options = options
        self._phases = phases
        self._sure = 0

    def look(self, columns: Columns) -> StopReason | None:
        if columns.num_rows == 0:
            return None
        context = open_context_of(columns, self._options, self._phases)
        config = self._config
        # A steady part or slices left out are known only at the end.
        whole = not config.slo.steady_state and not config.slo.exclude_slices
        if config.slo.abort_on_fail and whole:
            lost = lost_assertion(context, config.slo.asserts, most_requests(config))
            if lost is not None:
                return StopReason(2, f"`{lost}` can no longer be met")
        if config.load.until:
            self._sure = 0 if unsure(context, config.load.until) else self._sure + 1
            if self._sure >= _IN_A_ROW:
                return StopReason(1, f"target precision reached {', '.join(map(str, config.load.until))}")
        return None

"""The live numbers for Prometheus: text format or OpenMetrics. Names and labels are documented in docs/guide/watching.md.

Counters and histograms are labelled with the kind of phase, `warmup` or `profiling`: those of `profiling` are what the report counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from aiperf.live.board import Board
from aiperf.live.spread import Distribution
from aiperf.live.view import View
from aiperf.number_text import exact
from aiperf.outcome import Counts
from aiperf.version import __version__

__all__ = ["BUCKETS_S", "OPENMETRICS", "TEXT", "families", "render"]

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S: Final = tuple(m * 10.0**e for e in range(-4, 3) for m in (1.0, 2.5, 5.0))
"""0.1 ms to 500 s."""
_HISTOGRAMS: Final = (
    ("time_to_first_token", "Time from the start of a request to its first content"),
    ("inter_token_latency", "(last content - first content) / (tokens - 1) of a response"),
    ("request_latency", "Time from the start of a request to its last content"),
    ("send_lag", "Start of a request after its scheduled time"),
    ("receive_lag", "User-space timestamp after the kernel's, of first content chunks"),
)


def render(board: Board, *, openmetrics: bool) -> bytes:
    """The page; with `openmetrics` the format of that name."""

    class _Now(Collector):
        def collect(self) -> Iterator[Metric]:
            return families(board)

    registry = cast(CollectorRegistry, _Now())
    if openmetrics:
        from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

        return bytes(generate_openmetrics(registry))  # type: ignore[no-untyped-call]  # the package says no more
    from prometheus_client import generate_latest

    return bytes(generate_latest(registry))


def families(board: Board) -> Iterator[Metric]:
    """In a fixed order; a family without a value is left out."""
    facts = board.facts
    info = {"version": __version__, "status": board.status}
    if facts is not None:
        info |= {
            "benchmark_id": facts.benchmark_id,
            "model": ",".join(facts.models),
            "endpoint_type": facts.endpoint,
            "load": facts.load,
        }
    run = InfoMetricFamily("aiperf_run", "The run that these metrics are of")
    run.add_metric([], info)
    yield run
    if board.study_state is not None:
        done = GaugeMetricFamily("aiperf_study_runs_done", "Runs of the sweep or search that are done")
        done.add_metric([], board.study_state.done)
        yield done
        if board.study_state.total is not None:
            total = GaugeMetricFamily("aiperf_study_runs_planned", "Runs of the sweep that are planned")
            total.add_metric([], board.study_state.total)
            yield total
    views = dict(board.views)
    if views:
        yield from _counters(views)
        yield from _histograms(views)
    if board.view is not None:
        yield from _gauges(board.view)


def _current(views: dict[str, View]) -> tuple[str, ...]:
    """The kind of phase that goes on. Of a warm-up that is over only counters are shown: the rest was last seen a little before its end."""
    return ("profiling",) if "profiling" in views else tuple(views)


def _counts(views: dict[str, View], phase: str) -> Counts:
    latest = views[_current(views)[0]].snapshot
    return latest.warmup if phase == "warmup" else latest.counts


def _counters(views: dict[str, View]) -> Iterator[Metric]:
    requests = CounterMetricFamily("aiperf_requests", "Requests that have ended", labels=["phase", "outcome"])
    errors = CounterMetricFamily("aiperf_errors", "Failed requests by kind of error", labels=["phase", "kind"])
    good = CounterMetricFamily("aiperf_good_requests", "Requests that met all SLOs of a tier", labels=["phase", "slo"])
    tokens_in = CounterMetricFamily(
        "aiperf_input_tokens", "Prompt tokens of successful requests, by the server's usage", labels=["phase"]
    )
    tokens_out = CounterMetricFamily(
        "aiperf_output_tokens", "Output tokens of successful requests, by the server's usage", labels=["phase"]
    )
    chunks = CounterMetricFamily("aiperf_chunks", "Content chunks of successful requests", labels=["phase"])
    for phase, view in views.items():
        counts = _counts(views, phase)
        for outcome, count in (("successful", counts.ok), ("failed", counts.failed), ("cancelled", counts.cancelled)):
            requests.add_metric([phase, outcome], count)
        for error in view.errors if phase in _current(views) else ():
            errors.add_metric([phase, error.name], error.count)
        for tier in view.tiers if phase in _current(views) else ():
            if tier.good is not None:
                good.add_metric([phase, tier.name], tier.good)
        tokens_in.add_metric([phase], counts.input_tokens)
        tokens_out.add_metric([phase], counts.output_tokens)
        chunks.add_metric([phase], counts.chunks)
    yield from (f for f in (requests, errors, good, tokens_in, tokens_out, chunks) if f.samples)


def _histograms(views: dict[str, View]) -> Iterator[Metric]:
    edges_ms = np.array(BUCKETS_S) * 1e3
    for name, words in _HISTOGRAMS:
        family = HistogramMetricFamily(f"aiperf_{name}_seconds", words, labels=["phase"], unit="seconds")
        for phase in _current(views):
            view = views[phase]
            spread = Distribution.of(getattr(view.snapshot.spreads, name))
            if spread.count:
                below = spread.below_ms(edges_ms)
                buckets = [(exact(edge), float(n)) for edge, n in zip(BUCKETS_S, below, strict=True)]
                family.add_metric([phase], [*buckets, ("+Inf", float(spread.count))], spread.sum_ms / 1e3)
        if family.samples:
            yield family


def _gauges(view: View) -> Iterator[Metric]:
    def one(name: str, words: str, value: float | None) -> Iterator[Metric]:
        if value is not None:
            family = GaugeMetricFamily(f"aiperf_{name}", words)
            family.add_metric([], value)
            yield family

    yield from one("requests_in_flight", "Requests sent and not yet ended", view.snapshot.in_flight)
    yield from one("phase_progress_ratio", "Share of the phase that is done", view.pace.share)
    yield from one("phase_remaining_seconds", "Estimated time to the end of the phase", view.pace.left_s)
    yield from one("request_throughput", "Successful requests per second, last 10 s", view.now.requests_per_s)
    if view.now.flow_unit == "tokens":
        yield from one("output_token_throughput", "Output tokens per second, last 10 s", view.now.flow)
    yield from one("worker_cpu_ratio", "CPU use of the busiest worker thread", view.fitness.cpu)
    yield from one("worker_wait_ratio", "Time the busiest worker thread was runnable without a core", view.fitness.wait)
    quality = GaugeMetricFamily(
        "aiperf_measurement_quality", "1 for the verdict on the client so far", labels=["verdict"]
    )
    for verdict in ("trustworthy", "degraded", "client-limited"):
        quality.add_metric([verdict], float(view.fitness.verdict == verdict))
    yield quality
    met = GaugeMetricFamily("aiperf_assertion_met", "1 if the assertion holds so far", labels=["assertion"])
    margin = GaugeMetricFamily(
        "aiperf_assertion_margin_ratio", "Distance to the threshold as a share of it", labels=["assertion"]
    )
    for a in view.asserts:
        if a.holds is not None:
            met.add_metric([a.text], float(a.holds))
        if a.margin is not None:
            margin.add_metric([a.text], a.margin)
    levels = GaugeMetricFamily(
        "aiperf_reported_level", "What the server and its GPUs report", labels=["source", "name", "unit", "place"]
    )
    for x in view.levels:
        levels.add_metric([x.source, x.name, x.unit, x.place], x.value)
    yield from (f for f in (met, margin, levels) if f.samples)

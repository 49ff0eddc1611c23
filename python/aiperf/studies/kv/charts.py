"""Charts of the memory test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from aiperf.plots import Spec
from aiperf.plots.spec import rounded
from aiperf.studies.kv.figures import Figures
from aiperf.studies.kv.step import Step
from aiperf.studies.kv.work import Found
from aiperf.studies.lines import chart, line_panel, rows_of_line

__all__ = ["charts_of"]

_POINTS: Final = 300


def charts_of(results: Found, figures: Figures) -> dict[str, Spec]:
    return dict((*_ramp(results, figures), *_pressure(results), *_victims(results), *_cancelled(results)))


def _ramp(results: Found, figures: Figures) -> Iterator[tuple[str, Spec]]:
    """What was offered against what was held, and what that cost."""
    steps = sorted((s for s in results.fills if s.peak is not None), key=lambda s: s.load.tokens)
    if not steps:
        return
    offered = [float(s.load.tokens) for s in steps]
    rows = rows_of_line("held at once", offered, [s.peak for s in steps])
    rows += rows_of_line("offered", offered, list(offered))
    reported = figures.get("reported_tokens")
    levels = [(reported.value, "reported")] if reported is not None and reported.value is not None else []
    counts = rows_of_line("preemptions", offered, [s.preemptions for s in steps])
    counts += rows_of_line("preempted requests seen", offered, [float(s.victims) for s in steps])
    counts += rows_of_line("refused", offered, [float(s.refused) for s in steps])
    panels = [
        line_panel(rows, "tokens offered (concurrency × length)", "tokens in flight", width="$w2", levels=levels),
        line_panel(counts, "tokens offered (concurrency × length)", "requests", width="$w2"),
    ]
    note = "held: most tokens of requests with a first and no last token at a moment"
    yield "kv_ramp", chart("Tokens in flight by tokens offered", note, panels, len(rows) + len(counts))


def _pressure(results: Found) -> Iterator[tuple[str, Spec]]:
    step = results.pressure
    if step is None or step.streams is None or step.pauses is None or not len(step.streams.times):
        return
    streams = step.streams
    begin = float(np.nanmin(streams.start))
    at = np.linspace(begin, float(streams.times.max()), _POINTS)
    seconds = rounded((at - begin) / 1e9)
    rows = rows_of_line("needed", seconds, rounded(streams.held(at).sum(axis=0)))
    rows += rows_of_line("held", seconds, rounded(step.pauses.without(streams.held(at), at).sum(axis=0)))
    tokens = results.blocks.tokens
    levels = [] if tokens is None else [(float(tokens), "reported")]
    panels = [line_panel(rows, "time (s)", "tokens", width="$w2", levels=levels, points=False)]
    gauges = _gauge_rows(step, begin)
    if gauges:
        panels.append(line_panel(gauges, "time (s)", "% · requests", width="$w2", points=False))
    note = f"{step.load.label}; needed: tokens of all streams, held: without preempted ones"
    yield "kv_pressure", chart("The step with most preemptions", note, panels, len(rows) + len(gauges))


def _gauge_rows(step: Step, begin: float) -> list[dict[str, object]]:
    times = step.levels.times
    kept = slice(None, None, max(1, len(times) // _POINTS))
    seconds = rounded((times[kept] - begin) / 1e9)
    rows: list[dict[str, object]] = []
    for name, words, factor in (
        ("kv_cache_usage", "KV cache in use (%)", 100.0),
        ("requests_waiting", "requests waiting", 1.0),
        ("requests_running", "requests running", 1.0),
    ):
        values = step.levels.gauges.get(name)
        if values is not None:
            rows += rows_of_line(words, seconds, rounded(values[kept] * factor))
    return rows


def _victims(results: Found) -> Iterator[tuple[str, Spec]]:
    """ITL of preempted requests and of the others."""
    step = results.pressure
    if step is None or step.streams is None or step.pauses is None or not step.pauses.count:
        return
    s = step.streams
    itl = (s.end - s.first) / np.maximum(s.per_chunk * s.num_chunks - 1, 1) / 1e6
    is_victim = step.pauses.victims(s.num_requests)
    rows: list[dict[str, object]] = []
    for name, mask in (("preempted", is_victim & s.ok), ("the others", ~is_victim & s.ok)):
        values = np.sort(itl[mask & np.isfinite(itl)])
        values = (
            values[np.unique(np.linspace(0, len(values) - 1, min(len(values), _POINTS)).astype(int))]
            if len(values)
            else values
        )
        shares = (np.arange(len(values)) + 1) / max(1, len(values)) * 100
        rows += rows_of_line(name, rounded(values), rounded(shares))
    if rows:
        panel = line_panel(rows, "ITL (ms)", "requests (%)", points=False)
        yield "kv_victims", chart("ITL of preempted requests", f"{step.load.label}; cumulative", [panel], len(rows))


def _cancelled(results: Found) -> Iterator[tuple[str, Spec]]:
    step = results.cancelled
    usage = None if step is None else step.levels.usage
    if step is None or usage is None or not len(usage) or step.streams is None:
        return
    begin = float(np.nanmin(step.streams.start))
    rows = rows_of_line("KV cache in use", rounded((step.levels.times - begin) / 1e9), rounded(usage * 100))
    end = (float(np.nanmax(step.streams.end)) - begin) / 1e9
    rules = [(end, "last request ended")]
    if results.refreshed is not None and results.refreshed.levels.usage is not None:
        later = results.refreshed.levels
        rows += rows_of_line(
            "after another light load",
            rounded((later.times[-1:] - begin) / 1e9),
            rounded(later.usage[-1:] * 100 if later.usage is not None else []),
        )
    panel = line_panel(rows, "time (s)", "% of the KV cache", rules=rules, levels=[(float(usage[0]) * 100, "before")])
    yield "kv_cancelled", chart("KV cache after cancelled requests", step.load.label, [panel], len(rows))

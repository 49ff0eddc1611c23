"""The state of the system as step functions of time: requests in flight, tokens per second, tokens in flight.

Every request contributes: in flight from start to finish; in prefill from start to first content, taking in
ISL / TTFT tokens per second; in decode from first to last content, producing the tokens of each later chunk evenly over
the gap before it. Chunks that came at the same instant are one. Tokens of the first instant belong to the prefill and are
in no decode rate (so the time average is Σ (OSL − first) / time). Failed and cancelled requests count as in flight only.

Up to 100,000 events the functions are exact; beyond that they are averages over 32,768 equal cells of the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aiperf._core import Flow
from aiperf.metrics import Bools, Floats, Ints
from aiperf.metrics.blocks import blocks
from aiperf.metrics.context import MetricContext
from aiperf.metrics.stats import highest, lowest

__all__ = ["FlowAccumulator", "Timeline", "build_sweep"]

_EXACT_EVENTS: Final = 100_000
_CELLS: Final = 1 << 15
_Steps = dict[str, list[tuple[Floats | Ints, Floats]]]
"""By level: (times in ns, what the level changes by then)."""
_LEVELS: Final = ("concurrency", "prefill", "decode", "prefill_rate", "decode_rate", "tokens")


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """`edges`: (n + 1,) ns; the other arrays are (n,), the level in [edges[i], edges[i + 1]).

    `prefill_rate`, `decode_rate`: tokens per second. `resolution_ns`: 0 when exact, else the width of a cell.
    """

    edges: Floats
    concurrency: Floats
    prefill: Floats
    decode: Floats
    prefill_rate: Floats
    decode_rate: Floats
    tokens: Floats
    resolution_ns: float = 0.0

    @property
    def is_cells(self) -> bool:
        """Averages over cells of one width rather than exact steps."""
        return self.resolution_ns > 0

    @property
    def widths(self) -> Floats:
        return np.diff(self.edges)

    def window(self, begin: float, end: float) -> Timeline:
        """The same functions between two times, clipped to them."""
        lo = max(int(np.searchsorted(self.edges, begin, side="right")) - 1, 0)
        hi = min(int(np.searchsorted(self.edges, end, side="left")), len(self.edges) - 1)
        edges = np.clip(self.edges[lo : hi + 1], begin, end)
        levels = {name: getattr(self, name)[lo:hi] for name in _LEVELS}
        return _build(edges, levels, self.resolution_ns)


def _build(edges: Floats, levels: dict[str, Floats], resolution_ns: float = 0.0) -> Timeline:
    return Timeline(
        edges=edges,
        concurrency=levels["concurrency"],
        prefill=levels["prefill"],
        decode=levels["decode"],
        prefill_rate=levels["prefill_rate"],
        decode_rate=levels["decode_rate"],
        tokens=levels["tokens"],
        resolution_ns=resolution_ns,
    )


@dataclass
class FlowAccumulator:
    """Decode rate and arrival of tokens from the chunks of successful requests.

    Exact: events are kept. Otherwise the integral of each level over each cell is built from sums of steps (D0) and of steps
    times the time left in the cell (D1).
    """

    begin: float
    end: float
    exact: bool
    sink: Flow = field(init=False)

    def __post_init__(self) -> None:
        self.sink = Flow(self.begin, self.end, None if self.exact else _CELLS)


@dataclass(kw_only=True)
class Cells:
    """Integral of a sum of steps over equal cells of [begin, end]."""

    begin: float
    end: float
    num: int = _CELLS
    steps: Floats = field(init=False)
    rest: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.steps = np.zeros(self.num)
        self.rest = np.zeros(self.num)

    @property
    def width(self) -> float:
        return (self.end - self.begin) / self.num

    def place(self, times: Floats | Ints) -> tuple[Ints, Floats]:
        """(cell of each time, share of the cell after it); times before `begin` are at it, the share at or after `end` is 0."""
        position = np.asarray((times - self.begin) * (1 / self.width), dtype=np.float64)
        np.clip(position, 0.0, float(self.num), out=position)
        cell = position.astype(np.int64)
        np.minimum(cell, self.num - 1, out=cell)
        return cell, cell + 1 - position

    @classmethod
    def of(cls, begin: float, end: float, sums: tuple[Floats, Floats]) -> Cells:
        """From what the pass over the chunks has added up."""
        cells = cls(begin=begin, end=end)
        cells.steps, cells.rest = sums
        return cells

    def step_at(self, times: Floats | Ints, steps: Floats) -> None:
        """One step after the other: the same sums however the steps are cut into blocks."""
        cell, left = self.place(times)
        np.add.at(self.steps, cell, steps)
        np.add.at(self.rest, cell, steps * left)

    def merge(self, other: Cells) -> None:
        self.steps += other.steps
        self.rest += other.rest

    def levels(self) -> Floats:
        """(cells,) mean level of each cell."""
        before = np.concatenate(([0.0], np.cumsum(self.steps)[:-1]))
        return before + self.rest


def flow_for(context: MetricContext, num_chunks: float) -> FlowAccumulator:
    """The accumulator for a context, exact if all events are few enough."""
    begin, end = bounds(context)
    events = 3 * context.num_rows + (num_chunks if np.isfinite(num_chunks) else 0.0)
    return FlowAccumulator(begin, end, exact=events <= _EXACT_EVENTS)


def bounds(context: MetricContext) -> tuple[float, float]:
    """ns; first start and last finish of all requests that were sent; (0, 0) if there is none."""
    start, finish = context.start, context.finish
    sent = ~np.isnan(start) & ~np.isnan(finish)
    return (lowest(start, sent), highest(finish, sent)) if sent.any() else (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    """What the steps of requests are made from; all (rows,). `whole`: no chunk has a stamp; `streaming`: the others count."""

    ok: Bools
    whole: Bools
    start: Floats
    finish: Floats
    first: Floats
    isl: Floats
    osl: Floats
    streaming: bool

    @classmethod
    def of(cls, context: MetricContext) -> _Moments:
        whole = ~(context.num_content_chunks > 0)
        isl, osl = context.value("input_sequence_length"), context.value("output_sequence_length")
        return cls(
            ok=context.ok,
            whole=whole,
            start=context.start,
            finish=context.finish,
            first=context.first_content,
            isl=isl,
            osl=osl,
            streaming=context.options.streaming,
        )

    def steps(self, rows: slice) -> _Steps:
        """By level: its steps at one moment of the requests after the other; the same moments whatever the rows."""
        start, finish, first = self.start[rows], self.finish[rows], self.first[rows]
        isl, osl = np.nan_to_num(self.isl[rows]), np.nan_to_num(self.osl[rows])
        sent = ~np.isnan(start) & ~np.isnan(finish)
        ok = self.ok[rows] & sent
        stream = ok & ~np.isnan(first) & (first > start) & (first <= finish) & self.streaming
        started, finished, first_token = start[stream], finish[stream], first[stream]
        prefill_rate = isl[stream] * 1e9 / (first_token - started)
        one, every = np.ones(len(started)), np.ones(int(np.count_nonzero(sent)))
        # A reply without chunk stamps: all its tokens arrive at the end, so that the level returns to 0.
        whole = ok & self.whole[rows]
        return {
            "concurrency": [(start[sent], every), (finish[sent], -every)],
            "prefill": [(started, one), (first_token, -one)],
            "decode": [(first_token, one), (finished, -one)],
            "prefill_rate": [(started, prefill_rate), (first_token, -prefill_rate)],
            "decode_rate": [],
            "tokens": [(start[ok], isl[ok]), (finish[ok], -(isl + osl)[ok]), (finish[whole], osl[whole])],
        }


def build_sweep(context: MetricContext, flow: FlowAccumulator) -> Timeline | None:
    """The step functions of a context; None if nothing was sent or no time passed."""
    if not flow.end > flow.begin:
        return None
    make = _exact_sweep if flow.exact else _cells_sweep
    return _without_unknown(context, make(flow, _Moments.of(context)))


def _without_unknown(context: MetricContext, timeline: Timeline) -> Timeline:
    """NaN for levels that rest on counts nobody made, or on stamps of a stream where there was none."""
    nothing = np.full(len(timeline.concurrency), np.nan)
    isl_known = not np.isnan(context.value("input_sequence_length")).all()
    osl_known = not np.isnan(context.value("output_sequence_length")).all()
    streaming = context.options.streaming and not np.isnan(context.first_content).all()
    return Timeline(
        edges=timeline.edges,
        concurrency=timeline.concurrency,
        prefill=timeline.prefill if streaming else nothing,
        decode=timeline.decode if streaming else nothing,
        prefill_rate=timeline.prefill_rate if streaming and isl_known else nothing,
        decode_rate=timeline.decode_rate if streaming and osl_known else nothing,
        tokens=timeline.tokens if isl_known and osl_known else nothing,
        resolution_ns=timeline.resolution_ns,
    )


def _exact_sweep(flow: FlowAccumulator, moments: _Moments) -> Timeline:
    begin, end = flow.begin, flow.end
    steps = moments.steps(slice(None))
    arrivals, rate_steps, token_steps = flow.sink.take_steps()
    steps["decode_rate"].append((arrivals, rate_steps))
    steps["tokens"].append((arrivals, token_steps))
    times = np.concatenate([np.asarray(t, dtype=np.float64) for pairs in steps.values() for t, _ in pairs])
    edges = np.unique(np.clip(np.append(times, (begin, end)), begin, end))
    levels: dict[str, Floats] = {}
    for name, pairs in steps.items():
        delta = np.zeros(len(edges))
        for t, step in pairs:
            delta += np.bincount(np.searchsorted(edges, np.clip(t, begin, end)), step, len(edges))
        level = np.cumsum(delta)[:-1]
        # Sums of positive and negative steps leave rounding dust where the level is 0.
        scale = np.abs(level).max(initial=0.0)
        levels[name] = np.where(np.abs(level) < scale * 1e-9, 0.0, level)
    return _build(edges, levels)


def _cells_sweep(flow: FlowAccumulator, moments: _Moments) -> Timeline:
    begin, end = flow.begin, flow.end
    sums = {name: Cells(begin=begin, end=end) for name in _LEVELS}
    if (added := flow.sink.cells()) is not None:
        sums |= {name: Cells.of(begin, end, one) for name, one in zip(("decode_rate", "tokens"), added, strict=True)}
    of_moments: dict[str, list[Cells]] = {}
    for rows in blocks(len(moments.ok)):
        for name, pairs in moments.steps(rows).items():
            cells = of_moments.setdefault(name, [Cells(begin=begin, end=end) for _ in pairs])
            for (times, steps), one in zip(pairs, cells, strict=True):
                one.step_at(times, steps)
    for name, cells in of_moments.items():
        for one in cells:
            sums[name].merge(one)
    levels: dict[str, Floats] = {}
    for name, total in sums.items():
        level = total.levels()
        scale = np.abs(level).max(initial=0.0)
        levels[name] = np.where(np.abs(level) < scale * 1e-9, 0.0, np.maximum(level, 0.0))
    width = sums["concurrency"].width
    edges = begin + width * np.arange(_CELLS + 1, dtype=np.float64)
    edges[-1] = end
    return _build(edges, levels, width)

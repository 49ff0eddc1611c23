"""How the memory of a report grows with the number of requests.

2,000,000 short requests may take at most 150 MB more than 200,000. What is kept (`aiperf.records.cache`) does not grow; arrays of the
run's length that are alive at the same time do: of these there may be ten.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plots.plot_runs import run_of

from aiperf.metrics import blocks
from aiperf.metrics.conservation import EngineFacts
from aiperf.metrics.context import MetricOptions, Slo
from aiperf.metrics.goodput import Tier
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import SummaryOptions
from aiperf.plots import PlotRun, draw_all
from aiperf.records import ChunkBatch, Columns, cache
from aiperf.reports.page.findings import run_findings
from aiperf.reports.page.sample import sample_json

MOST_BYTES_PER_ROW = 150e6 / (2_000_000 - 200_000)
FEW, MANY = 40_000, 80_000
BATCH = 10_000
GAP_NS = 100_000


def virtual_run(num_rows: int, chunks: int) -> Columns:
    """A closed loop of 64 connections; a column takes memory of its own while it is used, as that of a file."""
    start = np.arange(num_rows) * 10_000.0
    first = start + 500_000 + np.random.default_rng(1).integers(0, 100_000, num_rows)
    numbers = {
        "phase": 0,
        "error_kind": 0,
        "reused": 1,
        "status": 200,
        "isl": 16,
        "requested_osl": chunks,
        "counted_output": chunks,
        "counted_reasoning": 0,
        "rtt_ns": 5_000,
        "bytes_out": 400,
        "bytes_in": 300,
        "stamp_source": 1,
        "num_chunks": chunks,
        "num_content_chunks": chunks,
        "request": 7,
    }
    scalars: dict[str, np.ndarray] = {name: np.broadcast_to(value, num_rows) for name, value in numbers.items()}
    scalars |= dict.fromkeys(("scheduled", "started", "sent", "body_sent"), start)
    scalars |= dict.fromkeys(("headers", "first_byte", "first_content", "first_content_user", "first_output"), first)
    scalars |= dict.fromkeys(("last_content", "end"), first + (chunks - 1) * GAP_NS)

    def batches() -> Iterator[ChunkBatch]:
        for row0 in range(0, num_rows, BATCH):
            stamps = first[row0 : row0 + BATCH, None].astype(np.int64) + np.arange(chunks) * GAP_NS
            some = np.full(stamps.size, 4, np.uint32)
            offsets = np.arange(len(stamps) + 1, dtype=np.int64) * chunks
            kinds = np.ones(stamps.size, np.uint8)
            yield ChunkBatch(
                row0=row0,
                offsets=offsets,
                chunk_ns=stamps.ravel(),
                chunk_lag_ns=some.astype(np.int32),
                chunk_bytes=some,
                chunk_text_bytes=some,
                chunk_kind=kinds,
            )

    return replace(Columns.from_arrays(scalars), batches=batches)


def growth(work: Callable[[Columns], object], chunks: int) -> float:
    """Bytes that the peak grows by per request."""
    work(virtual_run(1_000, chunks))  # imports and registries are there from now on
    peaks = []
    for num_rows in (FEW, MANY):
        columns = virtual_run(num_rows, chunks)
        tracemalloc.start()
        work(columns)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return (peaks[1] - peaks[0]) / (MANY - FEW)


def options_of(*, streaming: bool) -> SummaryOptions:
    return SummaryOptions(
        metrics=MetricOptions(streaming=streaming),
        tiers=(Tier("slo", (Slo("request_latency", 550_000),)),),
        slice_ns=500_000_000,
        facts=EngineFacts(busiest_worker=0.2, cpu_wait=0.0),
    )


def set_sizes(monkeypatch: pytest.MonkeyPatch, kept_bytes: int, block_rows: int) -> None:
    monkeypatch.setattr(cache, "KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", block_rows)


@pytest.fixture
def only_work_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not grow with the run is out of the way."""
    set_sizes(monkeypatch, 1 << 18, 5_000)


def test_figures_are_the_same_whatever_is_kept_and_however_rows_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit: sums of a run in blocks add the same numbers in the same order."""
    summaries = []
    for kept_bytes, block_rows in ((1 << 40, 1 << 40), (0, 777)):
        set_sizes(monkeypatch, kept_bytes, block_rows)
        summaries.append(summarise(virtual_run(FEW, 3), options_of(streaming=True)))
    assert summaries[0].sweep_resolution_ms > 0
    assert summaries[0] == summaries[1]


@pytest.mark.usefixtures("only_work_counts")
def test_a_summary_of_whole_replies_holds_few_arrays_at_once() -> None:
    """Guards against a function that has a dozen arrays of the run's length in its variables."""
    assert growth(lambda columns: summarise(columns, options_of(streaming=False)), 1) <= MOST_BYTES_PER_ROW


@pytest.mark.usefixtures("only_work_counts")
def test_a_summary_of_streams_holds_few_arrays_at_once() -> None:
    """Three facts per stream and its exact gaps, once for all and once for the slices, come on top."""
    gaps = 3
    more = 3 * 8 + gaps * (8 + 8 + 2)
    assert growth(lambda c: summarise(c, options_of(streaming=True)), gaps + 1) <= MOST_BYTES_PER_ROW + more


@pytest.mark.usefixtures("only_work_counts")
@pytest.mark.parametrize("streaming", [False, True])
def test_a_page_holds_few_arrays_at_once(*, streaming: bool) -> None:
    options = options_of(streaming=streaming)
    summary = summarise(virtual_run(1_000, 1), options)

    def draw(columns: Columns) -> None:
        run = PlotRun(source=run_of(columns, options), label="run", means=summary)
        draw_all([run])
        sample_json(run)
        run_findings(summary, run)

    assert growth(draw, 1) <= MOST_BYTES_PER_ROW

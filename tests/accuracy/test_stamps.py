"""The client's times against the server's ledger. The machine pauses now and then, so medians and means without the worst
hundredth; bounds are loose, the benchmark's are tight.

The server stamps a chunk just before the write that sends it, on the same clock: the client can only be later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.e2e.runs import Sim, chunk_stamps, kinds, summary_of

from aiperf import Run
from aiperf.errors import ErrorKind

LOADS: list[Any] = [
    pytest.param({"concurrency": 5, "request_count": 20}, {"itl_ms": 5, "itl_jitter": 0.3}, id="5-streams-at-5ms"),
    pytest.param({"concurrency": 50, "request_count": 50}, {"itl_ms": 10, "itl_jitter": 0.3}, id="50-streams-at-10ms"),
]


def truth(sim: Sim, run: Run) -> tuple[list[dict[str, Any]], int]:
    """Rows of the ledger in the order of the records, and the wall-clock start of the run."""
    rows = sim.by_id()
    return [rows[str(name)] for name in run.columns.strings("request_id")], run.columns.start_wall_ns


def trimmed(values: NDArray[np.float64]) -> float:
    """Mean without the worst hundredth."""
    return float(np.sort(values)[: max(1, int(len(values) * 0.99))].mean())


@pytest.mark.parametrize(("load", "options"), LOADS)
@pytest.mark.parametrize("kernel", [True, False])
def test_first_and_later_tokens_are_when_the_server_wrote_them(
    serve: Callable[..., Sim], load: dict[str, object], options: dict[str, object], kernel: bool
) -> None:
    sim = serve(ttft_ms=40, ttft_jitter=0.2, ledger_chunks=True, **options)
    run = sim.run(osl=40, kernel_stamps=kernel, **load)
    assert set(kinds(run)) == {ErrorKind.OK}
    rows, start = truth(sim, run)
    columns = run.columns
    # What the server was busy with before it read the request is no error of the client's: stamp against stamp.
    first = columns.scalar("first_content") + start - np.array([row["first_ns"] for row in rows], dtype=np.int64)
    assert -0.05e6 < np.median(first) < 0.4e6
    itl = (columns.scalar("last_content") - columns.scalar("first_content")) / 39 / 1e6
    real_itl = np.array([row["last_ns"] - row["first_ns"] for row in rows]) / 39 / 1e6
    assert abs(np.median(itl - real_itl)) < 0.05
    # Chunk by chunk: never before the write, and soon after it.
    stamps = chunk_stamps(run)
    lags = np.concatenate(
        [stamps[row["request_id"]] - np.array([at for at, n, _ in row["chunks"] if n], dtype=np.int64) for row in rows]
    )
    # The two clocks are one, but the anchor of each is read once: within some µs.
    assert (lags > -50_000).mean() > 0.999
    assert np.median(lags) < 0.2e6
    assert trimmed(lags.astype(np.float64)) < (1.5e6 if kernel else 3e6)


def test_ttft_is_the_servers(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=30, ttft_jitter=0.3, itl_ms=2)
    run = sim.run(concurrency=3, request_count=45)
    rows, _ = truth(sim, run)
    ttft = run.columns.scalar("first_content") - run.columns.scalar("sent")
    real = np.array([row["first_ns"] - row["received_ns"] for row in rows])
    assert -0.01 < np.median(ttft - real) / 1e6 < 0.5
    assert summary_of(run)["time_to_first_token"]["p50"] == pytest.approx(np.median(real) / 1e6, abs=1)


def test_kernel_stamps_are_not_later_than_user_space(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=10, itl_ms=3)
    run = sim.run(concurrency=20, request_count=40, osl=30)
    columns = run.columns
    assert set(columns.scalar("stamp_source")) == {1.0}
    lag = columns.scalar("first_content_user") - columns.scalar("first_content")
    assert (lag >= 0).all()
    assert np.median(lag) < 1e6
    for batch in columns.batches():
        assert (batch.chunk_lag_ns >= 0).all()
        assert (batch.chunk_lag_ns > 0).mean() > 0.9


def test_without_kernel_stamps_the_user_stamp_is_the_headline(serve: Callable[..., Sim]) -> None:
    run = serve(ttft_ms=5).run(kernel_stamps=False)
    columns = run.columns
    assert set(columns.scalar("stamp_source")) == {0.0}
    assert (columns.scalar("first_content_user") == columns.scalar("first_content")).all()


def test_requests_are_received_when_they_were_sent(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5)
    run = sim.run(concurrency=None, request_rate=200, arrival_pattern="constant", request_count=100, isl=50)
    rows, start = truth(sim, run)
    columns = run.columns
    received = np.array([row["received_ns"] for row in rows])
    travel = received - (columns.scalar("sent") + start)
    assert -50_000 < np.median(travel) < 1e6
    lag = columns.scalar("sent") - columns.scalar("scheduled")
    assert (lag >= 0).all(), "never before it is due"
    assert np.median(lag) < 1e6


def test_an_open_loop_does_not_drift(serve: Callable[..., Sim]) -> None:
    """The 400th request is due 399 gaps after the first, whatever happened in between."""
    sim = serve(ttft_ms=3)
    run = sim.run(concurrency=None, request_rate=400, arrival_pattern="constant", request_count=400)
    received = np.array([row["received_ns"] for row in sim.ledger()])
    due = np.sort(run.columns.scalar("scheduled"))
    assert (due[-1] - due[0]) == pytest.approx(399 / 400 * 1e9, abs=1e6)
    # A pause of the machine makes some late; drift would make all late.
    assert abs((received - due)[-50:].min() - (received - due)[:50].min()) < 1e6


def test_latency_is_what_the_server_took(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=20, ttft_jitter=0.5)
    run = sim.run(streaming=False, request_count=40)
    rows, _ = truth(sim, run)
    latency = run.columns.scalar("end") - run.columns.scalar("sent")
    real = np.array([row["end_ns"] - row["received_ns"] for row in rows])
    assert -0.05 < np.median(latency - real) / 1e6 < 0.5


def test_throughput_is_what_the_server_wrote(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5, itl_ms=1)
    run = sim.run(concurrency=10, request_count=100, osl=50)
    ledger = sim.ledger()
    span = (max(r["last_ns"] for r in ledger) - min(r["received_ns"] for r in ledger)) / 1e9
    summary = summary_of(run)
    assert summary["output_token_throughput"]["avg"] == pytest.approx(5000 / span, rel=0.1)
    assert summary["request_throughput"]["avg"] == pytest.approx(100 / span, rel=0.1)


def test_a_slow_start_is_seen_as_one(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=10, segments=[{"from_s": 0, "to_s": 0.3, "ttft_ms": 80}])
    run = sim.run(concurrency=2, benchmark_duration=0.8)
    columns = run.columns
    order = np.argsort(columns.scalar("sent"))
    ttft = ((columns.scalar("first_content") - columns.scalar("sent")) / 1e6)[order]
    since = (columns.scalar("sent")[order] - columns.scalar("sent").min()) / 1e9
    assert np.median(ttft[since < 0.25]) == pytest.approx(80, abs=5)
    assert np.median(ttft[since > 0.4]) == pytest.approx(10, abs=3)

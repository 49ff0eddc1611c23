"""Cancelling on purpose: 20 % after 0.5 s and its kin; the server's ledger says when the connections were closed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds, summary_of

from aiperf.errors import ErrorKind, ExitCode

pytestmark = pytest.mark.slow


def test_a_fifth_is_cancelled_half_a_second_after_the_body(serve: Callable[..., Sim]) -> None:
    """The demo's flags. The server sees the connection close at the stated delay; nothing becomes an error."""
    sim = serve(ttft_ms=100, itl_ms=30)
    run = sim.run(
        concurrency=20, request_count=200, osl=30, request_cancellation_rate=20, request_cancellation_delay=0.5
    )
    summary = run.summary()
    found = kinds(run)
    cancelled = found[ErrorKind.CANCELLED]
    assert found == {ErrorKind.OK: 200 - cancelled, ErrorKind.CANCELLED: cancelled}
    assert 20 <= cancelled <= 64  # 40 ± 4 σ
    gone = [row for row in sim.ledger() if row["disconnected"]]
    assert len(gone) == cancelled
    delays_ms = np.array([(row["disconnect_ns"] - row["received_ns"]) / 1e6 for row in gone])
    assert np.median(delays_ms) == pytest.approx(500, abs=3)
    assert delays_ms.min() > 495
    # 100 ms to the first token, 30 ms between: about 14 tokens had left when the half second was over.
    assert {row["sent_tokens"] for row in gone} <= set(range(11, 17))
    told = summary_of(run)
    assert told["request_error_rate"]["avg"] == 0
    assert told["request_count"]["avg"] == 200 - cancelled
    assert told["request_counts"]["deliberate"] == cancelled
    assert summary.cancellation is not None
    assert summary.cancellation.count == cancelled
    assert summary.cancellation.delay_ms is not None
    assert summary.cancellation.delay_ms.avg == pytest.approx(500, abs=3)
    assert summary.cancellation.errors_during == summary.cancellation.errors_apart == 0
    assert summary.cancellation.reconnects == pytest.approx(cancelled, abs=20)
    assert {n.tag for n in summary.cancellation.neighbours} >= {"time_to_first_token", "request_latency"}
    assert run.exit_code == ExitCode.OK


def test_requests_that_end_before_the_delay_are_normal(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=10, itl_ms=1)
    run = sim.run(concurrency=10, request_count=100, request_cancellation_rate=100, request_cancellation_delay=5.0)
    assert kinds(run) == {ErrorKind.OK: 100}
    assert not any(row["disconnected"] for row in sim.ledger())


def test_no_delay_means_everything_sent_then_gone(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=200, itl_ms=5)
    run = sim.run(concurrency=10, request_count=50, request_cancellation_rate=100, request_cancellation_delay=0)
    assert kinds(run) == {ErrorKind.CANCELLED: 50}
    ledger = sim.ledger()
    assert len(ledger) == 50
    assert all(row["disconnected"] and row["prompt_tokens"] == 20 for row in ledger)
    # Nothing succeeded, so the run as a whole did not.
    assert run.exit_code == ExitCode.REQUESTS_FAILED


def test_cancelled_after_so_many_chunks(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=20, itl_ms=20)
    run = sim.run(
        concurrency=5, request_count=30, osl=40, request_cancellation_rate=100, request_cancellation_after_chunks=3
    )
    assert kinds(run) == {ErrorKind.CANCELLED: 30}
    assert set(run.columns.scalar("num_content_chunks")) <= {3.0, 4.0}
    assert {row["num_chunks"] for row in sim.ledger() if row["disconnected"]} <= {3, 4, 5}


@pytest.mark.parametrize("lingers", [False, True])
def test_a_server_that_keeps_generating_is_found(serve: Callable[..., Sim], lingers: bool) -> None:
    """Requests running must return to the client's own in flight; the simulated fault goes on after the disconnect."""
    faults = [{"kind": "keep_generating"}] if lingers else []
    sim = serve(ttft_ms=50, itl_ms=25, faults=faults)
    run = sim.run(
        concurrency=10,
        request_count=70,
        osl=60,
        request_cancellation_rate=50,
        request_cancellation_delay=0.2,
        probe=True,
        no_server_metrics=False,
        server_metrics_interval=0.2,
    )
    summary = run.summary()
    assert summary.cancellation is not None
    running = next(r for r in summary.cancellation.recovery if r.name == "requests_running")
    assert running.lingers == lingers
    assert ("lingering" in {n.kind for n in summary.notices}) == lingers
    if not lingers:
        assert running.seconds is not None
        assert running.seconds < 1.0
    assert "kv_cache_usage" in {r.name for r in summary.cancellation.recovery}

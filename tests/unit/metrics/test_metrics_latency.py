"""Latencies worked out by hand: which clock starts, what counts as a token, what does not exist."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.metrics.metric_rows import CONTENT, REASONING, ROLE, TOOL, USAGE, Chunk, Row, columns_of, stream

from aiperf.metrics.compute import Result, measure, open_context, scan_context
from aiperf.metrics.context import MetricOptions
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import Phase, Summary, SummaryOptions


def results(*rows: Row, **options: object) -> dict[str, Result]:
    r = open_context(columns_of(rows), MetricOptions(**options))  # type: ignore[arg-type]
    return measure(r, scan_context(r))


def avg(found: dict[str, Result], tag: str) -> float | None:
    return found[tag].stats.avg if tag in found else None


def test_a_request_by_hand() -> None:
    """Sent at 100, tokens at 130, 140, 150, 160 ms: TTFT 30, latency 60, ITL (60 − 30)/3 = 10."""
    metrics = results(stream(100, 130, 140, 150, 160, isl=50))
    assert avg(metrics, "time_to_first_token") == 30
    assert avg(metrics, "time_to_second_token") == 10
    assert avg(metrics, "request_latency") == 60
    assert avg(metrics, "decode_duration") == 30
    assert avg(metrics, "inter_token_latency") == 10
    assert avg(metrics, "output_token_throughput_per_user") == 100
    assert avg(metrics, "e2e_output_token_throughput") == pytest.approx(4 / 0.06)
    assert avg(metrics, "prefill_throughput_per_user") == pytest.approx(50 / 0.03)
    assert avg(metrics, "benchmark_duration") == 0.06
    assert avg(metrics, "output_token_throughput") == pytest.approx(4 / 0.06)


def test_latency_starts_at_the_first_byte_on_a_reused_connection() -> None:
    found = results(stream(105, 130, 140, started=100, reused=True))
    assert avg(found, "time_to_first_token") == 25


def test_latency_starts_before_a_connection_that_had_to_be_opened() -> None:
    found = results(stream(105, 130, 140, started=100, reused=False, connect=4))
    assert avg(found, "time_to_first_token") == 30
    assert avg(found, "http_req_connecting") == 4
    assert avg(found, "http_req_blocked") == pytest.approx(1)


def test_both_clocks_are_kept() -> None:
    """Due at 50, sent at 100: from the due time everything takes 50 ms more (coordinated omission)."""
    found = results(stream(100, 130, 140, scheduled=50))
    assert avg(found, "request_latency") == 40
    assert avg(found, "effective_latency") == 90
    assert avg(found, "effective_time_to_first_token") == 80
    assert avg(found, "credit_to_start_latency") == 50


def test_role_and_usage_chunks_are_no_tokens() -> None:
    row = Row(sent=0, chunks=(Chunk(5, 0, ROLE), Chunk(30), Chunk(40), Chunk(99, 0, USAGE)), output=2, end=100)
    found = results(row)
    assert avg(found, "time_to_first_token") == 30
    assert avg(found, "request_latency") == 40
    assert found["inter_chunk_latency"].stats.count == 1


def test_reasoning_is_a_token_but_not_the_first_visible_one() -> None:
    row = Row(
        sent=0,
        chunks=(Chunk(10, 4, REASONING), Chunk(20, 4, TOOL), Chunk(30, 4, CONTENT)),
        output=2,
        reasoning=1,
        end=30,
    )
    metrics = results(row)
    assert avg(metrics, "time_to_first_token") == 10
    assert avg(metrics, "time_to_first_output_token") == 20
    assert avg(metrics, "output_sequence_length") == 3
    assert avg(metrics, "output_token_count") == 2
    assert avg(metrics, "reasoning_token_count") == 1


def test_a_reply_of_one_token_has_no_inter_token_latency() -> None:
    found = results(stream(0, 30), stream(0, 30, 40))
    assert found["inter_token_latency"].stats.count == 1
    assert found["time_to_first_token"].stats.count == 2


def test_failed_and_cancelled_requests_have_no_latency() -> None:
    """Guards against fast failures in the average (lessons 3)."""
    metrics = results(stream(0, 30, 40), stream(0, 1, 2, kind=7), stream(0, 1, 2, kind=9), stream(0, 1, 2, kind=15))
    assert metrics["time_to_first_token"].stats.count == 1
    assert metrics["request_latency"].stats.max == 40
    assert avg(metrics, "request_error_rate") == 50
    assert avg(metrics, "completed_request_count") == 2
    assert avg(metrics, "cancelled_request_count") == 2


def test_whole_replies_have_no_streaming_metrics() -> None:
    row = Row(sent=0, chunks=(Chunk(50),), output=7, end=50)
    metrics = results(row, streaming=False)
    assert avg(metrics, "request_latency") == 50
    assert avg(metrics, "output_sequence_length") == 7
    assert "time_to_first_token" not in metrics
    assert "inter_chunk_latency" not in metrics
    assert "effective_decode_throughput" not in metrics
    assert "effective_concurrency" in metrics


def test_nothing_at_all_gives_no_metric_but_counts() -> None:
    found = results(Row(sent=None, kind=1, status=None, reused=None, started=3, end=5, output=None))
    assert avg(found, "request_count") == 0
    assert avg(found, "request_error_rate") == 100
    assert not {"time_to_first_token", "benchmark_duration", "output_token_throughput", "total_osl"} & set(found)


def test_no_rows() -> None:
    s = summarise(columns_of([]))
    assert s.counts.rows == 0
    assert s.duration_s is None
    assert s.success_text == "Success Rate: –"


def test_warm_up_is_left_out_of_the_headline_and_reported_apart() -> None:
    rows = [stream(0, 500, 510, phase=0), stream(1000, 1030, 1040, phase=1)]
    options = SummaryOptions(phases=(Phase("warmup", "warmup"), Phase("profiling")))
    s: Summary = summarise(columns_of(rows), options)
    assert s.stat("time_to_first_token") == 30
    assert s.warmup["time_to_first_token"].stats.avg == 500
    assert s.counts.rows == 1


def test_replay_lag_is_against_the_least_late_send() -> None:
    rows = [stream(100 + late, 200, 210, scheduled=100) for late in (5, 5, 7, 205)]
    found = results(*rows, is_schedule=True)
    lags = [0, 0, 2, 200]
    assert avg(found, "replay_sched_lag_p50") == pytest.approx(np.percentile(lags, 50))
    assert avg(found, "replay_sched_lag_p99") == pytest.approx(np.percentile(lags, 99))
    assert avg(found, "replay_sched_degraded") == 1
    assert "replay_sched_lag_p50" not in results(*rows)


def test_round_trips_are_taken_off_but_never_below_zero() -> None:
    found = results(stream(0, 1, 40), stream(0, 30, 40), network_rtt_ns=3e6)
    assert found["network_adjusted_time_to_first_token"].stats.min == 0
    assert found["network_adjusted_time_to_first_token"].stats.max == 27
    assert avg(found, "network_rtt") == 3


def test_without_a_round_trip_there_are_no_network_metrics() -> None:
    """What the kernel tells of the load's own connections is for the certificate only."""
    assert not [tag for tag in results(stream(0, 1, 40, rtt=4)) if tag.startswith("network_")]

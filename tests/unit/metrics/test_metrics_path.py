"""What stands between client and server is named from the rows: buffering, batches, compression, content types, gateways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.metrics.metric_rows import MERGED, Chunk, Row, columns_of, stream

from aiperf.metrics.context import MetricOptions
from aiperf.metrics.path import NetworkPath, describe
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import Summary, SummaryOptions
from aiperf.records import Columns


def summary_of(
    rows: Sequence[Row],
    scalars: dict[str, list[float]] | None = None,
    strings: dict[str, list[str | None]] | None = None,
) -> Summary:
    """`scalars`, `strings`: columns that `Row` does not have."""
    plain = columns_of(rows)
    numbers = {name: np.array(values) for name, values in (scalars or {}).items()}
    texts = strings or {}
    columns = Columns(
        num_rows=plain.num_rows,
        load=lambda n: numbers[n] if n in numbers else plain.load(n),
        strings=lambda n: texts[n] if n in texts else plain.strings(n),
        batches=plain.batches,
        start_wall_ns=plain.start_wall_ns,
    )
    return summarise(columns, SummaryOptions(metrics=MetricOptions()))


def kinds(summary: Summary) -> set[str]:
    return {n.kind for n in summary.notices}


PATH_KINDS = {"whole_responses", "buffered", "joined_chunks", "compressed", "stream_type", "intermediary"}


def plain_stream(start: float) -> Row:
    return stream(start, *(start + 50 + 10 * i for i in range(20)))


def test_streams_as_the_server_sent_them_are_not_remarked_upon() -> None:
    summary = summary_of([plain_stream(100 * i) for i in range(20)])
    assert not kinds(summary) & PATH_KINDS
    assert summary.path.streams == 20
    assert summary.path.per_batch == pytest.approx(1)


def test_a_short_answer_after_a_long_prompt_is_no_burst() -> None:
    rows = [stream(10_000 * i, *(10_000 * i + 5000 + 2 * j for j in range(8))) for i in range(10)]
    assert not kinds(summary_of(rows)) & PATH_KINDS


def test_streams_that_come_in_one_burst_were_held_back() -> None:
    rows = [stream(1000 * i, *(1000 * i + 400 + 0.01 * j for j in range(20))) for i in range(10)]
    summary = summary_of(rows)
    notice = next(n for n in summary.notices if n.kind == "buffered")
    assert "10 of 10 streams arrived in one burst" in notice.text
    assert "proxy_buffering off" in str(notice.hint)
    assert "joined_chunks" not in kinds(summary)


def test_one_stream_in_four_in_a_burst_is_not_the_path() -> None:
    burst = stream(5000, *(5400 + 0.01 * j for j in range(20)))
    assert "buffered" not in kinds(summary_of([*(plain_stream(1000 * i) for i in range(3)), burst]))


def test_chunks_that_come_in_batches_are_counted_per_batch() -> None:
    """Twenty chunks, five at a time, 40 ms apart."""
    rows = [stream(1000 * i, *(1000 * i + 50 + 40 * (j // 5) + 0.01 * j for j in range(20))) for i in range(10)]
    summary = summary_of(rows)
    notice = next(n for n in summary.notices if n.kind == "joined_chunks")
    assert "5.0 at a time, every 40" in notice.text
    assert notice.data["interval_ms"] == pytest.approx(40, rel=0.01)
    assert "buffered" not in kinds(summary)


def test_chunks_that_the_client_read_late_are_not_blamed_on_the_path() -> None:
    def late(start: float) -> Row:
        chunks = tuple(Chunk(start + 50 + 40 * (j // 5), kind=1 | (MERGED if j % 5 < 4 else 0)) for j in range(20))
        return Row(sent=start, chunks=chunks, output=20, end=start + 200)

    assert "joined_chunks" not in kinds(summary_of([late(1000 * i) for i in range(10)]))


def test_whole_responses_have_no_first_token_and_are_counted() -> None:
    """Nine streams and one whole response: TTFT and ITL are of the nine, latency and tokens of all."""
    whole = replace(stream(900, 1100, output=5, end=1100), chunks=(Chunk(1100, 20),))
    rows = [*(plain_stream(100 * i) for i in range(9)), whole]
    is_whole = [0.0] * 9 + [1.0]
    first = [*(50e6 + 100e6 * i for i in range(9)), float("nan")]
    last = [*(240e6 + 100e6 * i for i in range(9)), float("nan")]
    scalars = {"is_whole": is_whole, "first_content": first, "last_content": last, "first_content_user": first}
    summary = summary_of(rows, scalars)
    metrics = summary.metrics
    for tag in ("time_to_first_token", "inter_token_latency", "tokens_per_chunk", "first_chunk_tokens"):
        assert metrics[tag].stats.count == 9, tag
    assert metrics["time_to_first_token"].stats.max == pytest.approx(50)
    assert metrics["request_latency"].stats.count == metrics["output_sequence_length"].stats.count == 10
    assert metrics["request_latency"].stats.max == pytest.approx(240)
    notice = next(n for n in summary.notices if n.kind == "whole_responses")
    assert "1 of 10 responses came whole" in notice.text
    assert notice.data["requests"] == 1


def test_headers_of_the_path_are_named_with_their_numbers() -> None:
    rows = [plain_stream(100 * i) for i in range(4)]
    strings: dict[str, list[str | None]] = {
        "content_encoding": ["gzip", "gzip", None, None],
        "content_type": [None, None, None, ""],
        "intermediary": ["via: 1.1 varnish"] * 4,
    }
    texts = {n.kind: n.text for n in summary_of(rows, strings=strings).notices}
    assert "gzip (2)" in texts["compressed"]
    assert "`none` (1)" in texts["stream_type"]
    assert "(`via: 1.1 varnish`, 4 of 4)" in texts["intermediary"]


def test_the_first_chunks_own_usage_goes_before_its_share_of_the_text() -> None:
    """Usage in every chunk (`--per-chunk-usage`): 3 tokens, the first content chunk brought 1, 100 ms between the two chunks."""
    row = stream(0, 150, 250, output=3)
    columns = columns_of([row])
    with_usage = Columns(
        num_rows=1,
        load=lambda n: np.array([1.0]) if n == "first_chunk_usage" else columns.load(n),
        strings=columns.strings,
        batches=columns.batches,
    )
    found = summarise(with_usage, SummaryOptions(metrics=MetricOptions(per_chunk_tokens=True))).metrics
    assert found["inter_token_latency"].stats.avg == pytest.approx(50)
    assert found["time_to_first_token"].stats.avg == pytest.approx(150)
    without = summarise(columns, SummaryOptions(metrics=MetricOptions(per_chunk_tokens=True))).metrics
    assert without["inter_token_latency"].stats.avg == pytest.approx(100 / 1.5)


def test_nothing_is_said_of_no_requests() -> None:
    assert not list(describe(NetworkPath()))

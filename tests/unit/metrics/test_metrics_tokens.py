"""A chunk is not a token: bundled, empty and merged chunks, token provenance, the server's usage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.unit.metrics.metric_rows import CONTENT, MERGED, Chunk, Row, columns_of, stream

from aiperf.metrics.chunks import GapPool, scan, scan_rows
from aiperf.metrics.compute import Result, measure, open_context, scan_context
from aiperf.metrics.context import MetricOptions
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import SummaryOptions


def results(*rows: Row, **options: object) -> dict[str, Result]:
    r = open_context(columns_of(rows), MetricOptions(**options))  # type: ignore[arg-type]
    return measure(r, scan_context(r))


def bundled(per_chunk: int, chunks: int) -> Row:
    """`per_chunk` tokens of 4 bytes in each chunk, first at 50 ms, then one each 10 ms."""
    return Row(
        sent=0,
        chunks=tuple(Chunk(50 + 10 * i, 4 * per_chunk) for i in range(chunks)),
        output=per_chunk * chunks,
        end=50 + 10 * (chunks - 1),
    )


@pytest.mark.parametrize("per_chunk", [1, 3, 7])
def test_tokens_per_chunk(per_chunk: int) -> None:
    metrics = results(bundled(per_chunk, 11))
    osl = per_chunk * 11
    assert metrics["output_sequence_length"].stats.avg == osl
    assert metrics["tokens_per_chunk"].stats.avg == per_chunk
    assert metrics["time_to_second_token"].stats.avg == pytest.approx(10)
    assert metrics["inter_chunk_latency"].stats.avg == pytest.approx(10)
    assert metrics["inter_token_latency"].stats.avg == pytest.approx(100 / (osl - 1))
    # True time per token: the ten later chunks brought 10 · per_chunk tokens in 100 ms.
    assert metrics["time_per_decoded_token"].stats.avg == pytest.approx(10 / per_chunk)
    assert metrics["effective_decode_throughput"].stats.max == pytest.approx(100 * per_chunk)


def test_per_chunk_usage_divides_by_the_tokens_after_the_first_chunk() -> None:
    found = results(bundled(7, 11), per_chunk_tokens=True)
    assert found["inter_token_latency"].stats.avg == pytest.approx(10 / 7)
    assert found["output_token_throughput_per_user"].stats.avg == pytest.approx(700)


def test_empty_chunks_bring_no_token() -> None:
    """0 tokens in a chunk (an incomplete character held back): counts and rates stay right."""
    row = Row(sent=0, chunks=(Chunk(50, 4), Chunk(60, 0), Chunk(70, 8)), output=3, end=70)
    found = results(row)
    assert found["first_chunk_tokens"].stats.avg == pytest.approx(1)
    assert found["effective_decode_throughput"].stats.max == pytest.approx(200)
    assert found["inter_chunk_latency"].stats.count == 2


def test_a_chunk_of_two_events_in_one_read_has_no_infinite_rate() -> None:
    row = Row(sent=0, chunks=(Chunk(50), Chunk(60), Chunk(60, 4, CONTENT | MERGED), Chunk(70)), output=4, end=70)
    found = results(row)
    assert found["effective_decode_throughput"].stats.max == pytest.approx(200)
    assert found["inter_chunk_latency"].stats.min == 0


def test_a_bundled_first_chunk_is_warned_about() -> None:
    s = summarise(columns_of([bundled(7, 11)] * 3))
    notice = next(n for n in s.notices if n.kind == "bundled_first_chunk")
    assert "7.0 tokens" in notice.text


def test_server_counts_replace_the_clients() -> None:
    row = stream(0, 30, 40, output=5, isl=10, usage=(14, 9, 3, None))
    metrics = results(row, count_source="server usage", wants_usage=True)
    assert metrics["output_sequence_length"].stats.avg == 9
    assert metrics["output_token_count"].stats.avg == 6
    assert metrics["reasoning_token_count"].stats.avg == 3
    assert metrics["input_sequence_length"].stats.avg == 14
    assert "usage_completion_tokens_diff_pct" not in metrics


def test_without_client_counts_usage_is_taken_and_said() -> None:
    row = stream(0, 30, 40, usage=(14, 9, None, None))
    row = Row(**{f: getattr(row, f) for f in row.__dataclass_fields__} | {"output": None})
    s = summarise(columns_of([row]))
    assert s.count_source == "server usage"
    assert s.stat("output_sequence_length") == 9
    assert any(n.kind == "token_source" for n in s.notices)


def test_without_any_count_tokens_are_absent_not_zero() -> None:
    row = stream(0, 30, 40)
    row = Row(**{f: getattr(row, f) for f in row.__dataclass_fields__} | {"output": None, "isl": None})
    metrics = results(row)
    tokens = {
        "output_sequence_length",
        "total_osl",
        "output_token_throughput",
        "effective_decode_throughput",
        "tokens_in_flight",
    }
    assert not tokens & set(metrics)
    assert metrics["effective_decode_concurrency"].stats.max == 1


def test_rare_usage_counts_are_read_from_the_object() -> None:
    usage = {
        "prompt_tokens": 10,
        "prompt_tokens_details": {"cache_write_tokens": 4, "audio_tokens": 2, "cache_miss_tokens": 6},
        "completion_tokens_details": {
            "accepted_prediction_tokens": 3,
            "rejected_prediction_tokens": 1,
            "audio_tokens": 5,
        },
        "toolUsePromptTokenCount": 8,
        "prompt_audio_seconds": 1.5,
    }
    metrics = results(
        stream(0, 30, 40, usage=(10, 2, None, None), usage_json=json.dumps(usage)), stream(0, 30, usage_json="{}")
    )
    expected = {
        "prompt_cache_write_tokens": 4,
        "prompt_cache_miss_tokens": 6,
        "prompt_audio_tokens": 2,
        "completion_audio_tokens": 5,
        "tool_use_prompt_tokens": 8,
        "prompt_audio_seconds": 1.5,
        "accepted_prediction_tokens": 3,
        "rejected_prediction_tokens": 1,
    }
    for name, value in expected.items():
        assert metrics[f"usage_{name}"].stats.avg == value
        assert metrics[f"total_usage_{name}"].stats.avg == value


def test_gaps_beyond_the_limit_come_from_a_histogram_within_a_tenth_of_a_percent() -> None:
    rng = np.random.default_rng(1)
    rows = [stream(0, *np.cumsum(rng.lognormal(1, 1.5, 200)).tolist()) for _ in range(50)]
    columns = columns_of(rows)
    exact, binned = GapPool(), GapPool(exact_limit=500)
    every = np.ones(50, dtype=bool)
    scan(columns, every, [exact.sink])
    for _ in range(3):
        scan(columns, every, [binned.sink])
    exactly, by_bins = exact.stats(1e6), binned.stats(1e6)
    assert exactly is not None
    assert by_bins is not None
    assert exactly.error == 0
    assert 0 < by_bins.error <= 0.001
    assert (by_bins.count, by_bins.min, by_bins.max) == (3 * exactly.count, exactly.min, exactly.max)  # type: ignore[operator]
    assert by_bins.avg == pytest.approx(exactly.avg)
    assert by_bins.std == pytest.approx(exactly.std)
    tripled = np.sort(np.repeat(np.concatenate([np.diff([c.at for c in r.chunks]) for r in rows]), 3))
    for p in (1.0, 10.0, 50.0, 90.0, 99.0):
        assert by_bins.percentiles[p] == pytest.approx(tripled[int(p / 100 * (len(tripled) - 1))], rel=5.5e-4)


def test_the_same_gaps_whatever_the_batches() -> None:
    """Merging batches commutes: one batch, many batches, or a selection of rows from more."""
    rows = [stream(i, *(30 + i + k * (1 + i % 3) for k in range(1 + i % 5))) for i in range(40)]
    keep = np.arange(40) % 3 != 1
    whole = scan_rows(columns_of(rows, split=40), keep)
    for split in (1, 7, 13):
        cut = scan_rows(columns_of(rows, split=split), keep)
        assert cut.gaps.stats(1.0) == whole.gaps.stats(1.0)
        np.testing.assert_array_equal(cut.rows.second_content, whole.rows.second_content)
        selected = columns_of(rows, split=split).select(keep)
        few = scan_rows(selected, np.ones(selected.num_rows, dtype=bool))
        np.testing.assert_array_equal(few.rows.longest_gap, whole.rows.longest_gap[keep])


def test_stalls_name_the_longest_and_the_share() -> None:
    rows = [stream(0, 10, 20, 30), stream(0, 10, 1500, 1510), stream(0, 10, 20, 21), stream(0, 10)]
    summary = summarise(columns_of(rows), SummaryOptions(stall_ns=1_000_000_000))
    assert summary.stalls is not None
    assert (summary.stalls.requests, summary.stalls.streams, summary.stalls.gaps) == (1, 3, 1)
    assert summary.stalls.longest_ms == 1490
    assert summary.stalls.longest_at_s == pytest.approx(0.010)
    assert summary.stalls.longest_row == 1
    assert sum(b.count for b in summary.stalls.bins) == 6
    assert summary.stat("longest_stall", "max") == 1490

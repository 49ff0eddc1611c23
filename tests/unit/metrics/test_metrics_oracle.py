"""Every metric against an independent computation in plain Python loops, on small random runs with everything in them."""

from __future__ import annotations

import random

import pytest
from tests.unit.metrics import metric_oracle as oracle
from tests.unit.metrics.metric_rows import CONTENT, MERGED, REASONING, ROLE, TOOL, USAGE, Chunk, Row, columns_of

from aiperf.metrics import METRICS, load_all
from aiperf.metrics.compute import Result, measure, open_context, scan_context
from aiperf.metrics.context import MetricContext, MetricOptions
from aiperf.metrics.stats import STANDARD_PERCENTILES, Stats

ABSENT_HERE = {
    # Counts only in the usage object's text: tested in test_metrics_tokens.
    *(
        f"{p}usage_{n}"
        for p in ("", "total_")
        for n in (
            "prompt_cache_write_tokens",
            "prompt_cache_miss_tokens",
            "prompt_audio_tokens",
            "completion_audio_tokens",
            "tool_use_prompt_tokens",
            "prompt_audio_seconds",
            "accepted_prediction_tokens",
            "rejected_prediction_tokens",
        )
    ),
    # Only with GPUs (test_metrics_energy).
    *(tag for tag in load_all() if tag.startswith(("nvidia_", "amd_"))),
    # Only with objectives (test_metrics_goodput), only in replays (test_metrics_latency).
    "goodput",
    "good_request_count",
    "good_request_fraction",
    "replay_sched_lag_p50",
    "replay_sched_lag_p90",
    "replay_sched_lag_p99",
    "replay_sched_degraded",
    # Only with media in requests or responses (tests/e2e/test_media).
    "num_images",
    "image_throughput",
    "image_latency",
    "audio_duration",
    "rtfx",
    "video_inference_time",
    "video_peak_memory",
    # Only in replays of agents (tests/e2e/traces/test_agent_replay).
    "skipped_context_overflow_count",
    "theoretical_prefix_cache_hit",
}


def random_run(seed: int) -> list[Row]:
    """About 16 requests: streams with bundled, merged and empty chunks, reasoning, tools, errors, cancellations, new connections."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for _ in range(16):
        due = round(rng.uniform(0, 40), 3)
        begun = round(due + rng.uniform(0, 2), 3)
        fresh = rng.random() < 0.3
        dns, connect, tls = (round(rng.uniform(0.1, 1), 3) for _ in range(3))
        sent = round(begun + (dns + connect + tls + 0.05 if fresh else 0.0), 3)
        body = round(sent + 0.02, 3)
        kind = rng.choice([0, 0, 0, 0, 0, 0, 4, 5, 9, 15, 16, 17])
        at = round(sent + rng.uniform(5, 20), 3)
        chunks = [Chunk(at, 0, ROLE)]
        think = rng.random() < 0.3
        for i in range(rng.choice([1, 2, 3, 5, 8])):
            merged = i > 0 and rng.random() < 0.2
            at = at if merged else round(at + rng.uniform(0.2, 4), 3)
            content = REASONING if think and i == 0 else rng.choice([CONTENT, CONTENT, CONTENT, TOOL])
            chunks.append(
                Chunk(at, rng.choice([0, 3, 4, 12, 28]), content | (MERGED if merged else 0), rng.choice([0.0, 0.1]))
            )
        chunks.append(Chunk(round(at + 0.1, 3), 0, USAGE))
        end = round(at + 0.2, 3)
        if kind:
            chunks = chunks[: rng.randrange(len(chunks))]
            end = chunks[-1].at if chunks else round(sent + 3, 3)
        output = rng.choice([0, 1, 2, 7, 20]) if not kind else None
        if output == 0 and not think:
            output = 1
        reasoning = rng.choice([3, 9]) if think else 0
        has_usage = rng.random() < 0.8 and not kind
        usage = (
            rng.choice([10, 15, 120]),
            (output or 0) + reasoning + rng.choice([0, 0, 3]),
            reasoning or None,
            rng.choice([None, 0, 8]),
        )
        rows.append(
            Row(
                sent=sent,
                chunks=tuple(chunks),
                scheduled=due,
                started=begun,
                end=end,
                reused=not fresh,
                connect=connect if fresh else None,
                dns=dns if fresh else None,
                tls=tls if fresh else None,
                body_sent=body,
                headers=round(sent + 1, 3),
                first_byte=round(sent + 1, 3),
                cancelled_at=end if kind in (9, 15, 16) else None,
                kind=kind,
                status=200 if kind != 4 else 503,
                message="broken" if kind else None,
                isl=rng.choice([8, 10, 100]),
                output=output,
                reasoning=reasoning,
                requested=rng.choice([None, 10, 20]),
                usage=usage if has_usage else (None,) * 4,
                usage_json=None,
                phase=0,
                rtt=round(rng.uniform(0.1, 0.2), 3),
            )
        )
    return rows


def measured(rows: list[Row], options: MetricOptions | None = None) -> tuple[MetricContext, dict[str, Result]]:
    r = open_context(columns_of(rows), options or MetricOptions())
    sweep = scan_context(r)
    return r, measure(r, sweep, STANDARD_PERCENTILES)


def check(tag: str, stats: Stats, expected: dict[str, float]) -> None:
    for name, value in expected.items():
        found = stats.get(name)
        assert found == pytest.approx(value, rel=1e-9, abs=1e-6), f"{tag}:{name}"


@pytest.mark.parametrize("seed", range(12))
def test_request_metrics_equal_the_oracle(seed: int) -> None:
    rows = random_run(seed)
    _, results = measured(rows, MetricOptions(network_rtt_ns=oracle.NETWORK_RTT_MS * 1e6))
    tags = [*oracle.REQUEST, *(t for t in METRICS if t.startswith("network_adjusted_"))]
    for tag in tags:
        numbers = oracle.values(tag, rows)
        if not numbers:
            assert tag not in results, tag
            continue
        check(tag, results[tag].stats, oracle.stats(numbers))


@pytest.mark.parametrize("seed", range(12))
def test_scalars_equal_the_oracle(seed: int) -> None:
    rows = random_run(seed)
    _, results = measured(rows)
    for tag, value in oracle.scalars(rows).items():
        if value is None:
            assert tag not in results, tag
        else:
            check(tag, results[tag].stats, {"avg": value})


@pytest.mark.parametrize("seed", range(12))
def test_inter_chunk_latency_pools_all_gaps(seed: int) -> None:
    rows = random_run(seed)
    _, results = measured(rows)
    check(
        "inter_chunk_latency",
        results["inter_chunk_latency"].stats,
        oracle.stats([g for r in rows for g in oracle.gaps(r)]),
    )


@pytest.mark.parametrize("seed", range(12))
def test_time_weighted_metrics_equal_the_oracle(seed: int) -> None:
    rows = random_run(seed)
    _, results = measured(rows)
    for tag in oracle.WEIGHTED:
        check(tag, results[tag].stats, oracle.weighted(tag, rows))


@pytest.mark.parametrize("seed", range(6))
def test_error_adjusted_latencies_count_failures_as_infinite(seed: int) -> None:
    rows = random_run(seed)
    _, results = measured(rows)
    failed = sum(r.kind not in (0, 9, 15, 16) for r in rows)
    for tag in ("time_to_first_token", "request_latency", "decode_duration", "inter_token_latency"):
        if not failed:
            assert f"adj_{tag}" not in results
            continue
        numbers = sorted(oracle.values(tag, rows)) + [float("inf")] * failed
        stats = results[f"adj_{tag}"].stats
        assert (stats.count, stats.avg, stats.max, stats.sum) == (len(numbers), None, None, None)
        for p in STANDARD_PERCENTILES:
            rank = max(1, -(-int(p) * len(numbers) // 100))
            expected = numbers[rank - 1]
            assert stats.percentiles[p] == (None if expected == float("inf") else pytest.approx(expected, abs=1e-9))


def test_every_exported_metric_is_checked_here_or_elsewhere() -> None:
    """Guards against a metric that no independent computation has ever seen."""
    exported = {tag for tag, m in load_all().items() if m.is_exported}
    adjusted = {t for t in exported if t.startswith("adj_")}
    seen = {*oracle.REQUEST, *oracle.WEIGHTED, *oracle.scalars(random_run(0)), "inter_chunk_latency"}
    seen |= {t for t in exported if t.startswith(("network_", "server_", "outside_server"))}
    # The adjusted ones above, the round trip in test_metrics_latency; the server's times in tests/e2e/test_server_lifecycle.
    seen |= {t for t, m in load_all().items() if m.table == "speculation"}  # test_metrics_speculation
    assert exported - adjusted - seen == ABSENT_HERE


def test_every_metric_is_documented() -> None:
    for tag, m in load_all().items():
        assert m.doc, tag
        assert m.formula, tag
        assert m.provenance, tag
        assert m.header, tag

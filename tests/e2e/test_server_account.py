"""The server's own counters and gauges beside the client's: they must agree, also with failures, warm-up and from disk."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.e2e.runs import Sim

from aiperf import report
from aiperf._core import read_parquet_columns
from aiperf.metrics.summary import Summary

pytestmark = pytest.mark.slow
SERVER = ("server requests", "server prompt tokens", "server output tokens", "server running")
ASK = {"probe": True, "no_server_metrics": False, "server_metrics_interval": 0.2}


def verdicts(summary: Summary) -> dict[str, str]:
    return {c.name: c.verdict for c in summary.checks if c.name in SERVER}


def test_counters_agree_and_a_report_from_disk_says_the_same(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=20, itl_ms=3)
    run = sim.run(
        concurrency=8, request_count=160, osl=20, server_metrics_formats=("json", "csv", "jsonl", "parquet"), **ASK
    )
    summary = run.summary()
    written = sorted(path.suffix for path in run.dir.glob("server_metrics_export.*"))
    assert written == [".csv", ".json", ".jsonl", ".parquet"]
    table = run.dir / "server_metrics_export.parquet"
    assert verdicts(summary) == dict.fromkeys(SERVER, "holds")
    told = json.loads((run.dir / "run.json").read_text(encoding="utf-8"))["server_metrics"]
    stats = sim.stats()
    assert told["counters"]["generation_tokens"] == stats["completion_tokens"] == 160 * 20
    assert told["counters"]["prompt_tokens"] == stats["prompt_tokens"] == 160 * 20
    tokens = [
        value
        for name, value in zip(*read_parquet_columns(table, ["metric_name", "value"]).values(), strict=True)
        if name == "vllm:generation_tokens"
    ]
    assert tokens[-1] == 160 * 20
    again = report(run.dir).summary()
    assert verdicts(again) == verdicts(summary)
    assert [c.text for c in again.checks] == [c.text for c in summary.checks]


def test_warm_up_and_failures_do_not_break_the_account(serve: Callable[..., Sim]) -> None:
    """The server counts warm-up requests as well, and failed or cancelled ones partly or not at all."""
    sim = serve(ttft_ms=20, itl_ms=3, faults=[{"kind": "cut", "every": 25, "after_chunks": 4}])
    run = sim.run(
        concurrency=8,
        request_count=150,
        osl=20,
        warmup_request_count=24,
        request_cancellation_rate=10,
        request_cancellation_delay=0.04,
        **ASK,
    )
    summary = run.summary()
    assert summary.counts.failed > 0
    assert summary.counts.deliberate > 0
    found = verdicts(summary)
    assert {k: found[k] for k in SERVER[:3]} == dict.fromkeys(SERVER[:3], "holds")


def test_another_client_is_noticed(serve: Callable[..., Sim]) -> None:
    """Half of the server's work is somebody else's: the accounting check says so, and the certificate is not trustworthy."""
    import threading

    sim = serve(ttft_ms=20, itl_ms=3)
    other = threading.Thread(
        target=lambda: sim.run(concurrency=8, request_count=120, osl=20, artifact_dir=sim.dir / "other")
    )
    other.start()
    run = sim.run(concurrency=8, request_count=120, osl=20, **ASK)
    summary = run.summary()
    other.join()
    found = verdicts(summary)
    assert found["server requests"] == "broken"
    assert summary.certificate is not None
    assert summary.certificate.verdict != "trustworthy"
    assert any("other clients" in reason for reason in summary.certificate.reasons)


def test_no_server_metrics_reads_nothing(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5)
    run = sim.run(probe=False, no_server_metrics=True)
    summary = run.summary()
    assert verdicts(summary) == {}
    assert sim.stats()["replies"] == 20

"""What the simulated engine says of its requests, on every way it can say it, against its ledger."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, summary_of

from aiperf import Run, report
from aiperf.metrics.compute import open_context
from aiperf.metrics.lifecycle import find_lifecycle

pytestmark = pytest.mark.slow
MS = 1e6
ENGINE = {"preset": "tiny"}
LOAD = {"concurrency": 12, "request_count": 60, "isl": 60, "osl": 12}
SCRAPED = {"no_server_metrics": False, "server_metrics_interval": 0.1, "probe": True}
PARTS = {
    "server_queue_ns": ("received_ns", "admitted_ns"),
    "server_prefill_ns": ("admitted_ns", "made_first_ns"),
    "server_decode_ns": ("made_first_ns", "made_last_ns"),
}


def truth(sim: Sim, run: Run, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(rows,) ns by the ledger."""
    begin, end = PARTS[column]
    rows = sim.by_id()
    return np.array([rows[str(i)][end] - rows[str(i)][begin] for i in run.columns.strings("request_id")], dtype=float)


@pytest.mark.parametrize(
    ("timings", "told", "extra"),
    [
        ("dynamo", ("server_decode_ns",), {"extra_inputs": {"nvext": {"extra_fields": ["timing"]}}}),
        ("sglang", tuple(PARTS), {}),
        ("vllm", tuple(PARTS), {}),
        ("llama_cpp", ("server_prefill_ns", "server_decode_ns"), {}),
    ],
)
def test_times_in_the_response_are_the_ledger_s(
    serve: Callable[..., Sim], timings: str, told: tuple[str, ...], extra: dict[str, object]
) -> None:
    sim = serve(engine=ENGINE, timings=timings)
    run = sim.run(**LOAD, **extra)
    for column in PARTS:
        values = run.columns.scalar(column)
        if column in told:
            assert np.abs(values - truth(sim, run, column)).max() <= 1_000, column
        else:
            assert np.isnan(values).all()
    assert set(run.columns.scalar("server_source").tolist()) == {1.0}
    line = json.loads((run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line["metrics"]["server_decode_time"]["unit"] == "ms"
    if timings != "llama_cpp":
        first = truth(sim, run, "server_queue_ns") + truth(sim, run, "server_prefill_ns")
        mean = run.summary()["server_time_to_first_token"].avg
        assert mean == pytest.approx(first.mean() / MS, abs=0.002)


def test_headers_of_whole_responses_are_read(serve: Callable[..., Sim]) -> None:
    sim = serve(engine=ENGINE, timings="tgi")
    run = sim.run(streaming=False, **LOAD)
    assert np.abs(run.columns.scalar("server_queue_ns") - truth(sim, run, "server_queue_ns")).max() <= 1_000
    assert set(run.columns.scalar("server_source").tolist()) == {2.0}


@pytest.mark.parametrize("timings", ["off", "dynamo"])
def test_what_the_server_does_not_say_is_absent(serve: Callable[..., Sim], timings: str) -> None:
    """Dynamo says nothing unless it is asked."""
    run = serve(engine=ENGINE, timings=timings).run(**LOAD)
    assert np.isnan(run.columns.scalar("server_queue_ns")).all()
    assert "server_queue_time" not in run.summary()


@pytest.mark.parametrize("timings", ["sglang", "dynamo"])
def test_parts_add_up_to_the_client_s_latency(serve: Callable[..., Sim], timings: str) -> None:
    asked = {"extra_inputs": {"nvext": {"extra_fields": ["timing"]}}} if timings == "dynamo" else {}
    run = serve(engine=ENGINE, timings=timings).run(**LOAD, **SCRAPED, **asked)
    context = open_context(run.columns, run.metric_options)
    lifecycle = find_lifecycle(context, run.summary().server, 1e9)
    assert lifecycle is not None
    assert lifecycle.source == "response"
    total = sum(lifecycle.parts.values())
    np.testing.assert_allclose(total, context.finish - np.fmin(context.start, context.scheduled), atol=2)
    assert lifecycle.worst_ns <= 1 * MS


def test_scraped_figures_are_those_of_the_ledger(serve: Callable[..., Sim]) -> None:
    sim = serve(engine=ENGINE)
    run = sim.run(**LOAD, **SCRAPED)
    view = run.summary().server
    assert view is not None
    for name, column in (
        ("queue_time", "server_queue_ns"),
        ("prefill_time", "server_prefill_ns"),
        ("decode_time", "server_decode_ns"),
    ):
        assert view.stat(name) == pytest.approx(truth(sim, run, column).mean() / MS, abs=0.01)
        low, high = view.figures[name].bounds["p99"]
        assert low <= np.percentile(truth(sim, run, column), 99, method="inverted_cdf") / MS <= (high or np.inf)
    assert view.stat("requests") == LOAD["request_count"]
    text = (run.dir / "profile_export_console.txt").read_text(encoding="utf-8")
    assert "AIPerf | Server Metrics" in text
    assert summary_of(run)["server_metrics"]["server:queue_time"]["count"] == LOAD["request_count"]
    again = report(run.dir).summary()
    assert again.server == view
    assert [f.rule for f in again.server_findings] == [f.rule for f in run.summary().server_findings]


def test_hit_rate_of_the_counters_is_the_ledger_s(serve: Callable[..., Sim]) -> None:
    """Few enough at a time that none is preempted: who starts again looks its prompt up again, which the counters count."""
    sim = serve(engine=ENGINE)
    run = sim.run(concurrency=3, request_count=40, isl=80, osl=12, shared_system_prompt_length=64, **SCRAPED)
    view = run.summary().server
    assert view is not None
    assert view.stat("preemptions") == 0
    rows = sim.ledger()
    cached, prompts = (sum(int(row[k]) for row in rows) for k in ("cached_tokens", "prompt_tokens"))
    assert cached > 0
    assert view.stat("prefix_hit_rate") == pytest.approx(100 * cached / prompts)


def _free_pair() -> int:
    """A port that is free, and so is the next."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def test_spans_are_received_joined_and_read_from_a_file_again(serve: Callable[..., Sim]) -> None:
    port = _free_pair()
    sim = serve(engine=ENGINE, otlp=f"127.0.0.1:{port + 1}", spans=None)
    run = sim.run(**LOAD, engine_traces=f"127.0.0.1:{port}")
    for column in PARTS:
        assert np.abs(run.columns.scalar(column) - truth(sim, run, column)).max() <= 1_000, column
    assert set(run.columns.scalar("server_source").tolist()) == {3.0}
    assert run.json.server_clock_ns is not None
    assert run.json.server_clock_ns[0] <= 0 <= run.json.server_clock_ns[1]
    kept = run.files.spans
    assert kept.exists()
    # A run that was made without the receiver, and the spans of its server in a file.
    other = sim.run(**LOAD, trace_sampling=0.0, artifact_dir=sim.dir / "other")
    assert np.isnan(other.columns.scalar("server_queue_ns")).all()
    again = report(run.dir, engine_traces=kept)
    assert np.array_equal(again.columns.scalar("server_queue_ns"), run.columns.scalar("server_queue_ns"))
    strange = report(other.dir, engine_traces=kept)
    assert {n.kind for n in strange.notes} >= {"spans_of_strangers"}


def test_a_share_of_the_requests_is_traced(serve: Callable[..., Sim]) -> None:
    sim = serve(ledger_headers=True)
    sim.run(request_count=400, concurrency=8, osl=1, trace_sampling=0.25)
    traced = [row for row in sim.ledger() if "traceparent" in {k.lower() for k in row["headers"]}]
    assert 60 <= len(traced) <= 140
    for row in traced:
        header = next(v for k, v in row["headers"].items() if k.lower() == "traceparent")
        version, trace, parent, flags = header.split("-")
        assert (version, trace, flags) == ("00", row["request_id"].replace("-", ""), "01")
        assert int(parent, 16) != 0


def test_an_assertion_and_a_comparison_take_the_server_s_metrics(serve: Callable[..., Sim]) -> None:
    from aiperf.compare.comparison import compare_runs

    sim = serve(engine=ENGINE)
    asked = ("server:queue_time:p99 < 1ms", "server:requests >= 60")
    # Gauges are those read while the load goes on, which a busy machine may do late.
    often = SCRAPED | {"server_metrics_interval": 0.02}
    run = sim.run(**LOAD, **often, **{"assert": asked})
    assert [g.passed for g in run.summary().assertions] == [False, True]
    assert "bucket" in run.summary().assertions[0].actual
    other = sim.run(**LOAD, **often, artifact_dir=sim.dir / "other")
    tags = {d.tag for d in compare_runs([run.data, other.data]).pairs[0].differences}
    assert {"server:queue_time", "server:kv_cache_usage"} <= tags

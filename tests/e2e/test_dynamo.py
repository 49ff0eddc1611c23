"""A real Dynamo (frontend, KV router, mocker): its counters, queues and `nvext.timing` beside what the client sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.dynamo_server import BLOCK_TOKENS, MODEL, Dynamo, running_dynamo
from tests.e2e.runs import kinds, summary_of
from tests.e2e.traces.test_replay_on_the_ledger import BLOCK, TIMED, like_mooncake, write

from aiperf import Run, profile
from aiperf import write as write_run
from aiperf.config.resolve import config_from
from aiperf.errors import ErrorKind
from aiperf.metrics.compute import open_context
from aiperf.metrics.lifecycle import find_lifecycle
from aiperf.telemetry.spans.otlp import read_spans
from aiperf.telemetry.spans.span import client_span

pytestmark = [pytest.mark.dynamo, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("dynamo")]
TIMING = {"nvext": {"extra_fields": ["timing"]}}
SLOTS = 8


@pytest.fixture(scope="module")
def dynamo() -> Iterator[Dynamo]:
    """Eight batch slots and a KV cache of 65,536 tokens."""
    with running_dynamo("--max-num-seqs", str(SLOTS), "--num-gpu-blocks-override", "4096") as server:
        yield server


def measure(server: Dynamo, directory: Path, **flags: object) -> Run:
    asked: dict[str, object] = {
        "model": MODEL,
        "url": server.url,
        "streaming": True,
        "tokenizer": str(server.model),
        "server_metrics": (server.worker,),
        "server_metrics_interval": 0.1,
        "artifact_dir": directory / "run",
        "calibrate": False,
        "report": False,
        "random_seed": 1,
        **flags,
    }
    return write_run(profile(config_from({k: v for k, v in asked.items() if v is not None})))


@pytest.mark.parametrize(
    ("endpoint", "streaming"), [("chat", True), ("chat", False), ("completions", True), ("responses", True)]
)
def test_lengths_and_counts_are_dynamo_s(dynamo: Dynamo, tmp_path: Path, endpoint: str, streaming: bool) -> None:
    """Its tokens are drawn at random: counted again from the text they may be a few more or less, which is no missed length."""
    run = measure(
        dynamo, tmp_path, endpoint_type=endpoint, streaming=streaming, concurrency=4, request_count=12, isl=90, osl=40
    )
    columns = run.columns
    assert set(kinds(run)) == {ErrorKind.OK}, columns.strings("error_message")
    assert run.exit_code == 0
    assert set(columns.scalar("usage_completion")) == {40.0}
    assert (np.abs(columns.scalar("counted_output") - 40) <= 4).all()
    template = columns.scalar("usage_prompt") - columns.scalar("isl")
    # The template's end and the text's begin may become one token.
    assert (template == 0).all() if endpoint == "completions" else (np.ptp(template) <= 1 and template.min() > 0)
    view = run.summary().server
    assert view is not None
    assert view.stat("generation_tokens") == 12 * 40
    assert view.stat("prompt_tokens") == columns.scalar("usage_prompt").sum()
    assert view.stat("requests") == 12
    assert "osl_mismatch" not in {n.kind for n in run.notes}
    assert "broken" not in {c.verdict for c in run.summary().checks}


def test_its_timing_adds_up_with_the_client_s(dynamo: Dynamo, tmp_path: Path) -> None:
    run = measure(dynamo, tmp_path, concurrency=4, request_count=40, isl=100, osl=20, extra_inputs=TIMING)
    columns = run.columns
    assert set(columns.scalar("server_source").tolist()) == {1.0}
    total, decode = columns.scalar("server_total_ns"), columns.scalar("server_decode_ns")
    latency = columns.scalar("end") - columns.scalar("sent")
    ttft = columns.scalar("first_content") - columns.scalar("sent")
    assert (total <= latency + 1e6).all()
    assert (total - decode <= ttft + 1e6).all()
    assert (decode > 0).all()
    # Its router's wait is not the engine's, and what it calls prefill holds the engine's queue.
    assert np.isnan(columns.scalar("server_queue_ns")).all()
    assert np.isnan(columns.scalar("server_prefill_ns")).all()
    lifecycle = find_lifecycle(open_context(columns, run.metric_options), run.summary().server, 1e9)
    assert lifecycle is not None
    assert lifecycle.source == "response"
    assert "queue and prefill" in lifecycle.parts
    r = open_context(columns, run.metric_options)
    np.testing.assert_allclose(sum(lifecycle.parts.values()), r.finish - np.fmin(r.start, r.scheduled), atol=2)
    assert summary_of(run)["server_time_to_first_token"]["count"] == 40


def test_its_spans_are_waited_for_and_leave_what_the_response_said(dynamo: Dynamo, tmp_path: Path) -> None:
    """Frontend and worker export on their own, seconds apart; neither tells a queue or a prefill, and HTTP spans end when they please."""
    run = measure(
        dynamo,
        tmp_path,
        concurrency=12,
        request_count=30,
        isl=50,
        osl=20,
        extra_inputs=TIMING,
        engine_traces=f"127.0.0.1:{dynamo.otlp}",
        request_cancellation_rate=20.0,
        request_cancellation_delay=0.2,
    )
    names = {s.name for s in read_spans(run.files.spans)}
    assert {"http-request", "handle_payload"} <= names
    ended = sum(s.name == "http-request" and s.parent == client_span(s.trace) for s in read_spans(run.files.spans))
    assert ended == 30
    columns = run.columns
    is_ok = columns.scalar("error_kind") == ErrorKind.OK
    assert np.isfinite(columns.scalar("server_arrival")).all()
    assert set(columns.scalar("server_source")[is_ok].tolist()) == {1.0}
    assert np.isfinite(columns.scalar("server_decode_ns")[is_ok]).all()
    assert not {"server_clock_jumped", "spans_incomplete"} & {n.kind for n in run.notes}


def test_unless_it_is_asked_it_says_nothing(dynamo: Dynamo, tmp_path: Path) -> None:
    run = measure(dynamo, tmp_path, concurrency=2, request_count=4, isl=30, osl=4)
    assert np.isnan(run.columns.scalar("server_total_ns")).all()


def test_the_queue_in_front_of_eight_slots_shows(dynamo: Dynamo, tmp_path: Path) -> None:
    """The frontend sees no queue: with 32 in flight it says 32, and only the worker's page knows that eight are running."""
    run = measure(dynamo, tmp_path, concurrency=4 * SLOTS, request_count=160, isl=100, osl=30, extra_inputs=TIMING)
    view = run.summary().server
    assert view is not None
    assert view.stat("requests_running", "max") == SLOTS
    assert view.stat("batch_size", "max") == SLOTS
    course = {s.name: np.array(s.values, dtype=np.float64) for s in view.series}
    running, waiting = course["requests_running"], course["requests_waiting"]
    # Between the end of one request and the start of the next a slot is empty: then one more waits.
    assert np.nanmax(running + waiting) <= 4 * SLOTS
    assert 2 * SLOTS <= waiting[running == SLOTS].max() <= 3 * SLOTS
    most = view.stat("requests_waiting", "max")
    assert most is not None
    assert most >= 2 * SLOTS
    in_flight = view.stat("requests_in_flight", "max")
    assert in_flight is not None
    assert 3 * SLOTS < in_flight <= 4 * SLOTS
    found = find_lifecycle(open_context(run.columns, run.metric_options), view, 1e9)
    assert found is not None
    means = found.means()
    assert means["queue and prefill"] > 0.5 * sum(means.values())
    assert "server queue" not in means


def test_hit_rate_of_a_replay_is_that_of_its_counters(dynamo: Dynamo, tmp_path: Path) -> None:
    trace = write(tmp_path / "trace.jsonl", like_mooncake(60, every_ms=60))
    flags: dict[str, object] = {**TIMED, "random_seed": None}
    run = measure(dynamo, tmp_path, input_file=trace, **flags)
    columns = run.columns
    assert set(kinds(run)) == {ErrorKind.OK}, columns.strings("error_message")
    cached, prompts = columns.scalar("usage_cached").sum(), columns.scalar("usage_prompt").sum()
    view = run.summary().server
    assert view is not None
    assert view.stat("prefix_hit_rate") == pytest.approx(100 * cached / prompts, abs=0.01)
    # What an unbounded cache would find of the trace's own blocks.
    seen: set[tuple[int, ...]] = set()
    hits = total = 0
    for line in like_mooncake(60, every_ms=60):
        blocks = line["hash_ids"]
        known = [tuple(blocks[: i + 1]) in seen for i in range(len(blocks))]
        hits += sum(known) * BLOCK
        total += line["input_length"]
        seen |= {tuple(blocks[: i + 1]) for i in range(len(blocks))}
    assert cached / prompts == pytest.approx(hits / total, abs=0.06)
    assert BLOCK % BLOCK_TOKENS == 0


def test_a_kv_cache_that_is_too_small_shows(tmp_path: Path) -> None:
    """48 blocks of 16 tokens for eight requests that grow to 170: preempted, and computed anew."""
    with running_dynamo("--max-num-seqs", str(SLOTS), "--num-gpu-blocks-override", "48") as server:
        run = measure(server, tmp_path, concurrency=SLOTS, request_count=12, isl=60, osl=100)
        assert set(kinds(run)) == {ErrorKind.OK}, run.columns.strings("error_message")
        view = run.summary().server
        assert view is not None
        full, preempted = view.stat("kv_cache_usage", "max"), view.stat("preemptions")
        assert full is not None
        assert full >= 90
        assert preempted is not None
        assert preempted > 0
        assert "kv_full" in {f.rule for f in run.summary().server_findings}
        assert set(run.columns.scalar("usage_completion")) == {100.0}


def test_requests_that_are_cancelled_are_aborted_not_refused(dynamo: Dynamo, tmp_path: Path) -> None:
    run = measure(
        dynamo,
        tmp_path,
        concurrency=4,
        request_count=24,
        isl=60,
        osl=200,
        request_cancellation_rate=50.0,
        request_cancellation_delay=0.4,
    )
    found = kinds(run)
    cancelled = found[ErrorKind.CANCELLED]
    assert 4 <= cancelled <= 20
    view = run.summary().server
    assert view is not None
    assert view.stat("aborted_requests") == cancelled
    assert not view.stat("rejected_requests")
    assert "server_not_at_rest" not in {n.kind for n in run.notes}

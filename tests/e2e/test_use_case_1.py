"""The demo's first use case: the command verbatim but for the URL, and the server's own counts beside the report's."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from tests.e2e.runs import Sim, attempts, kinds, summary_of

from aiperf.errors import ErrorKind, ExitCode


@pytest.mark.parametrize(
    ("concurrency", "count", "isl", "osl"),
    [(10, 60, 100, 50), pytest.param(100, 1000, 1000, 500, marks=pytest.mark.slow)],
)
def test_every_request_has_the_lengths_asked_for(
    serve: Callable[..., Sim], concurrency: int, count: int, isl: int, osl: int
) -> None:
    sim = serve(ttft_ms=10, tokens_per_chunk=[5])
    run = sim.run(concurrency=concurrency, request_count=count, isl=isl, osl=osl)
    assert run.exit_code == ExitCode.OK
    assert kinds(run) == {ErrorKind.OK: count}
    ledger = sim.ledger()
    assert len(ledger) == count
    assert {row["prompt_tokens"] for row in ledger} == {isl}
    assert {row["sent_tokens"] for row in ledger} == {osl}
    assert {row["request_id"] for row in ledger} == set(attempts(run))
    columns = run.columns
    assert set(columns.scalar("isl")) == {float(isl)}
    assert set(columns.scalar("counted_output")) == {float(osl)}
    summary = summary_of(run)
    assert summary["request_count"]["avg"] == count
    assert summary["input_sequence_length"]["avg"] == isl
    assert summary["output_sequence_length"]["avg"] == osl
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == count
    assert all(json.loads(line)["metrics"]["output_sequence_length"]["value"] == osl for line in lines[:50])


def test_never_more_in_flight_than_asked(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5, itl_ms=1)
    sim.run(concurrency=7, request_count=70)
    ledger = sim.ledger()
    events = sorted(event for row in ledger for event in ((row["received_ns"], 1), (row["last_ns"], -1)))
    at = np.array([t for t, _ in events])
    in_flight = np.cumsum([step for _, step in events])
    assert in_flight.max() == 7
    # Between two events the number is that after the first; weighted by time, all slots are busy nearly always.
    mean = (in_flight[:-1] * np.diff(at)).sum() / (at[-1] - at[0])
    assert mean > 5.5


def test_prompts_share_no_prefix(serve: Callable[..., Sim]) -> None:
    sim = serve(ledger_prefixes=True, ledger_prompts=True)
    sim.run(concurrency=5, request_count=50, isl=200)
    ledger = sim.ledger()
    assert len({row["prompt"] for row in ledger}) == 50
    assert max(row["shared_prefix_bytes"] for row in ledger[1:]) < 48


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_chat_and_completions_streamed_and_whole(serve: Callable[..., Sim], endpoint: str, streaming: bool) -> None:
    sim = serve(ttft_ms=3)
    run = sim.run(endpoint_type=endpoint, streaming=streaming)
    assert kinds(run) == {ErrorKind.OK: 20}
    ledger = sim.ledger()
    assert {row["stream"] for row in ledger} == {streaming}
    assert {row["prompt_tokens"] for row in ledger} == {20}
    assert {row["sent_tokens"] for row in ledger} == {8}
    assert set(run.columns.scalar("counted_output")) == {8.0}
    summary = summary_of(run)
    assert ("time_to_first_token" in summary) == streaming
    assert summary["request_latency"]["avg"] >= 3

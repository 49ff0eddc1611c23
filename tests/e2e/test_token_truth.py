"""Every figure about tokens against the ledger: 0, 1, 3, 7 tokens a chunk, bundled first chunks, reasoning, tool calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds, summary_of

from aiperf import Run
from aiperf.errors import ErrorKind

CLOCKS_MS = 3.0
"""How far a stamp of the client may be from the server's on a busy machine; medians are held to much less."""

CASES: dict[str, dict[str, object]] = {
    "one": {"tokens_per_chunk": [1]},
    "three": {"tokens_per_chunk": [3]},
    "seven": {"tokens_per_chunk": [7]},
    "mixed": {"tokens_per_chunk": [0, 1, 3, 7]},
    "bundled first": {"tokens_per_chunk": [7, 1, 1, 1, 1, 1, 1, 1]},
    "speculative": {"tokens_per_chunk": [1, 4, 2, 1, 3], "itl_jitter": 0.5},
    "reasoning": {"reasoning_tokens": 9},
    "reasoning, other name": {"reasoning_tokens": 9, "reasoning_field": "reasoning"},
    "reasoning, mixed chunks": {"reasoning_tokens": 9, "tokens_per_chunk": [0, 1, 3, 7]},
    "tool call": {"tool_call": "only"},
    "prose and tool call": {"tool_call": "after_prose"},
    "early role": {"role": "early"},
    "finish with the last": {"finish": "with_last"},
}


def records(run: Run) -> dict[str, dict[str, Any]]:
    """Metrics of the successful requests, by request id."""
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    return {r["metadata"]["x_request_id"]: r["metrics"] for r in map(json.loads, lines) if r.get("error") is None}


def with_tokens(row: dict[str, Any]) -> list[int]:
    """Epoch ns of the row's chunks that hold text."""
    return [at for at, tokens, _ in row["chunks"] if tokens]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_token_figures_are_the_ledgers(serve: Callable[..., Sim], case: str) -> None:
    options = CASES[case]
    sim = serve(**{"ttft_ms": 30, "itl_ms": 8, "ledger_chunks": True, "usage": "always", **options})
    run = sim.run(concurrency=4, request_count=24, osl=30)
    assert kinds(run) == {ErrorKind.OK: 24}
    found = records(run)
    apart: dict[str, list[float]] = {"ttft": [], "itl": [], "ttst": [], "latency": []}
    for row in sim.ledger():
        metrics = found[row["request_id"]]
        value = {tag: entry["value"] for tag, entry in metrics.items()}
        assert value["output_sequence_length"] == row["sent_tokens"] == 30
        assert value.get("reasoning_token_count", 0) == row["reasoning_tokens"]
        assert value["output_token_count"] == row["sent_tokens"] - row["reasoning_tokens"]
        assert value["usage_completion_tokens"] == row["sent_tokens"]
        assert value["input_sequence_length"] == value["usage_prompt_tokens"] == row["prompt_tokens"] == 20
        at = with_tokens(row)
        apart["ttft"].append(value["time_to_first_token"] - (at[0] - row["received_ns"]) / 1e6)
        apart["latency"].append(value["request_latency"] - (at[-1] - row["received_ns"]) / 1e6)
        apart["ttst"].append(value["time_to_second_token"] - (at[1] - at[0]) / 1e6)
        apart["itl"].append(value["inter_token_latency"] - (at[-1] - at[0]) / 29e6)
        assert len(value["inter_chunk_latency"]) == len(at) - 1
        assert value["output_token_throughput_per_user"] == pytest.approx(1000 / value["inter_token_latency"])
        if row["reasoning_tokens"]:
            visible = [t for t, tokens, kind in row["chunks"] if tokens and kind == "content"]
            error = value["time_to_first_output_token"] - (visible[0] - row["received_ns"]) / 1e6
            assert abs(error) < CLOCKS_MS * 4
    for name, errors in apart.items():
        assert abs(np.median(errors)) < 0.5, name
    summary = summary_of(run)
    assert summary["total_osl"]["avg"] == 24 * 30
    assert summary["token_provenance"] == "local tokenizer"
    checks = {c["name"]: c["verdict"] for c in summary["conservation"]}
    assert (checks["prompt tokens"], checks["output tokens"]) == ("holds", "holds")


@pytest.mark.slow
def test_a_chat_templates_constant_is_explained_and_the_bundle_is_warned_of(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=10, itl_ms=4, template_tokens=11, tokens_per_chunk=[7, 1, 1, 1, 1, 1, 1, 1])
    run = sim.run(concurrency=4, request_count=40, osl=14)
    check = next(c for c in run.summary().checks if c.name == "prompt tokens")
    assert check.verdict == "explained"
    assert "+11 tokens a request" in check.text
    assert "bundled_first_chunk" in {n.kind for n in run.summary().notices}


@pytest.mark.slow
def test_the_servers_count_is_used_when_asked_for(serve: Callable[..., Sim]) -> None:
    run = serve(ttft_ms=5, itl_ms=2, reasoning_tokens=4, template_tokens=7).run(use_server_token_count=True, osl=12)
    summary = summary_of(run)
    assert summary["token_provenance"] == "server usage"
    assert summary["input_sequence_length"]["avg"] == 27
    assert summary["output_sequence_length"]["avg"] == 12
    assert summary["reasoning_token_count"]["avg"] == 4

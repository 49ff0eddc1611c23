"""A chunk is not a token: whatever the framing of a reply, its tokens are those the server sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim, chunk_stamps, kinds, summary_of

from aiperf import Run
from aiperf.errors import ErrorKind, ExitCode

SHAPES: list[Any] = [
    pytest.param({}, id="plain"),
    pytest.param({"tokens_per_chunk": [0, 1, 3, 7]}, id="0-1-3-7"),
    pytest.param({"tokens_per_chunk": [7]}, id="7"),
    pytest.param({"tokens_per_chunk": [0, 0, 0, 5]}, id="mostly-empty"),
    pytest.param({"coalesce": 1}, id="one-write-per-chunk"),
    pytest.param({"role": "early", "ttft_ms": 5}, id="role-early"),
    pytest.param({"role": "off"}, id="no-role"),
    pytest.param({"finish": "with_last"}, id="finish-with-last"),
    pytest.param({"done": False}, id="no-done"),
    pytest.param({"early_headers": True, "ttft_ms": 5}, id="early-headers"),
    pytest.param({"usage": "always"}, id="usage-always"),
    pytest.param({"usage": "continuous", "tokens_per_chunk": [2]}, id="usage-in-each-chunk"),
    pytest.param({"usage": "never"}, id="no-usage"),
    pytest.param({"reasoning_tokens": 11}, id="reasoning-content"),
    pytest.param({"reasoning_tokens": 11, "reasoning_field": "reasoning"}, id="reasoning"),
    pytest.param({"reasoning_tokens": 11, "reasoning_field": "think_tag"}, id="think-tags"),
    pytest.param(
        {"reasoning_tokens": 11, "reasoning_field": "think_tag", "tokens_per_chunk": [0, 1, 3, 7]}, id="think-tags-cut"
    ),
    pytest.param({"reasoning_tokens": 11, "tokens_per_chunk": [7]}, id="reasoning-and-text-in-one"),
    pytest.param({"tool_call": "only"}, id="tool-only"),
    pytest.param({"tool_call": "after_prose"}, id="tool-after-prose"),
    pytest.param({"tool_call": "with_prose", "tokens_per_chunk": [3]}, id="tool-with-prose"),
    pytest.param({"reasoning_tokens": 5, "tool_call": "after_prose"}, id="reasoning-then-tool"),
]


def check(sim: Sim, run: Run, osl: int) -> None:
    """Tokens, reasoning tokens and chunks of each record against the ledger's row."""
    assert run.exit_code == ExitCode.OK, kinds(run)
    ledger = sim.by_id()
    columns = run.columns
    names = [str(name) for name in columns.strings("request_id")]
    output = np.nan_to_num(columns.scalar("counted_output"))
    reasoning = np.nan_to_num(columns.scalar("counted_reasoning"))
    for i, name in enumerate(names):
        row = ledger[name]
        assert row["sent_tokens"] == osl
        assert output[i] + reasoning[i] == row["sent_tokens"], name
        assert reasoning[i] == row["reasoning_tokens"], name
    assert summary_of(run)["output_sequence_length"]["avg"] == osl


@pytest.mark.parametrize("options", SHAPES)
def test_streamed_tokens_are_the_servers(serve: Callable[..., Sim], options: dict[str, object]) -> None:
    sim = serve(ledger_chunks=True, **options)
    run = sim.run(osl=40, request_count=12)
    if str(options.get("tool_call", "off")) == "off":
        check(sim, run, 40)
    else:
        # Markup of a call is tokens of the server's that are no text of the reply: usage is the measure there.
        assert kinds(run) == {ErrorKind.OK: 12}
        assert set(run.columns.scalar("usage_completion")) == {40.0}
    # As many stamped chunks with text as the server wrote chunks with tokens.
    stamps = chunk_stamps(run)
    for name, row in sim.by_id().items():
        assert len(stamps[name]) == sum(1 for _, tokens, _ in row["chunks"] if tokens > 0), name


@pytest.mark.parametrize("options", [s for s in SHAPES if "tokens_per_chunk" not in s.values[0]])
def test_tokens_of_whole_replies_are_the_servers(serve: Callable[..., Sim], options: dict[str, object]) -> None:
    sim = serve(**options)
    run = sim.run(osl=40, request_count=6, streaming=False)
    if str(options.get("tool_call", "off")) == "off":
        check(sim, run, 40)
    else:
        assert kinds(run) == {ErrorKind.OK: 6}


@pytest.mark.parametrize("usage", ["auto", "always", "continuous", "never"])
def test_usage_is_beside_the_count(serve: Callable[..., Sim], usage: str) -> None:
    sim = serve(usage=usage, template_tokens=9, reasoning_tokens=6, osl=30)
    run = sim.run(osl=30, isl=25, request_count=10)
    columns = run.columns
    if usage == "never":
        assert np.isnan(columns.scalar("usage_completion")).all()
        assert np.isnan(columns.scalar("usage_prompt")).all()
        assert "usage_prompt_tokens" not in summary_of(run)
    else:
        assert set(columns.scalar("usage_completion")) == {30.0}
        assert set(columns.scalar("usage_prompt")) == {34.0}
        assert set(columns.scalar("usage_reasoning")) == {6.0}
    assert set(columns.scalar("isl")) == {25.0}


def test_server_counts_can_be_the_headline(serve: Callable[..., Sim]) -> None:
    sim = serve(template_tokens=9)
    run = sim.run(osl=30, isl=25, use_server_token_count=True)
    summary = summary_of(run)
    assert summary["input_sequence_length"]["avg"] == 34
    assert summary["output_sequence_length"]["avg"] == 30


def visible_after_ms(sim: Sim) -> float:
    """Median time from the first chunk to the first that is no reasoning, by the server."""
    gaps = []
    for row in sim.ledger():
        first = next(at for at, tokens, _ in row["chunks"] if tokens)
        visible = next(at for at, tokens, kind in row["chunks"] if tokens and kind != "reasoning")
        gaps.append((visible - first) / 1e6)
    return float(np.median(gaps))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "think_tag"])
def test_the_first_visible_token_comes_after_the_reasoning(serve: Callable[..., Sim], field: str, kept: bool) -> None:
    sim = serve(reasoning_tokens=16, reasoning_field=field, ttft_ms=4, itl_ms=2, ledger_chunks=True)
    run = sim.run(osl=24, concurrency=2, use_server_token_count=not kept)
    summary = summary_of(run)
    assert summary["time_to_first_token"]["p50"] < 12
    late = summary["time_to_first_output_token"]["p50"] - summary["time_to_first_token"]["p50"]
    assert late > 10
    assert late == pytest.approx(visible_after_ms(sim), abs=4)
    if kept:
        assert set(run.columns.scalar("counted_reasoning")) == {16.0}


def test_role_chunk_is_no_first_token(serve: Callable[..., Sim]) -> None:
    sim = serve(role="early", ttft_ms=40)
    run = sim.run()
    assert np.median(run.columns.scalar("first_content") - run.columns.scalar("sent")) >= 40e6


def test_itl_counts_tokens_not_chunks(serve: Callable[..., Sim]) -> None:
    """Chunks of 5 tokens every 10 ms: 10 ms between chunks, (19 × 10 ms) / 99 tokens between tokens."""
    sim = serve(tokens_per_chunk=[5], itl_ms=10)
    summary = summary_of(sim.run(osl=100, request_count=8))
    assert summary["inter_token_latency"]["p50"] == pytest.approx(190 / 99, rel=0.05)
    assert summary["inter_chunk_latency"]["p50"] == pytest.approx(10, rel=0.05)


def test_framing_ndjson_is_read(serve: Callable[..., Sim]) -> None:
    """NDJSON under a chat path: a stream that is not an event stream fails clearly, and does not hang."""
    sim = serve(framing="ndjson")
    run = sim.run()
    assert set(kinds(run)) <= {ErrorKind.MALFORMED, ErrorKind.OK, ErrorKind.EMPTY_REPLY}
    if ErrorKind.OK in kinds(run):
        check(sim, run, 8)


def test_a_long_reply_in_one_line(serve: Callable[..., Sim]) -> None:
    sim = serve(tokens_per_chunk=[50_000])
    run = sim.run(osl=50_000, request_count=2, concurrency=1)
    check(sim, run, 50_000)


def test_text_in_other_scripts_is_counted_after_the_last_byte(serve: Callable[..., Sim]) -> None:
    sim = serve()
    run = sim.run(osl=30, request_count=4, export_outputs_json=True)
    text = (run.dir / "outputs.json").read_text(encoding="utf-8")
    assert "\ufffd" not in text

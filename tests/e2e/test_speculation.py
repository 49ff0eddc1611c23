"""What a server says of its draft model, request by request, is in AIPerf's metrics, records and histogram."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
from tests.e2e.runs import Sim, summary_of

from aiperf.cli import main


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_every_step_of_the_ledger_is_counted(serve: Callable[..., Sim], endpoint: str, streaming: bool) -> None:
    """Of 8 tokens with 2 proposed in each step: one with the prompt, then steps that accept 0, 1, 2, and 0 for the last."""
    sim = serve(spec_tokens=2)
    run = sim.run(endpoint_type=endpoint, streaming=streaming, osl=8, request_count=6)
    assert [row["sent_tokens"] for row in sim.ledger()] == [8] * 6
    summary = summary_of(run)
    averages = {tag: figure["avg"] for tag, figure in summary.items() if "spec_decode" in tag and "avg" in figure}
    assert averages == {
        "spec_decode_acceptance_length": 1.75,
        "spec_decode_token_weighted_acceptance_length": 1.75,
        "spec_decode_draft_acceptance_rate": 37.5,
        "spec_decode_overall_draft_acceptance_rate": 37.5,
        "spec_decode_accepted_per_verified": pytest.approx(7 / 12),
        "spec_decode_steps": 4,
        "spec_decode_accepted_draft_tokens": 3,
        "spec_decode_draft_tokens": 8,
        "total_spec_decode_steps": 24,
    }
    assert (summary["total_accepted_draft_tokens"]["avg"], summary["total_draft_tokens"]["avg"]) == (18, 48)
    assert summary["pooled_spec_decode_acceptance_histogram"] == {"0": 12, "1": 6, "2": 6}
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line)["spec_decode_acceptance"] for line in lines]
    pool: Counter[str] = Counter()
    for one in told:
        pool.update(one["acceptance_histogram"])
        assert (one["num_spec_steps"], one["completion_tokens"], one["engine"]) == (4, 8, "vllm")
    assert dict(pool) == summary["pooled_spec_decode_acceptance_histogram"]


def test_a_server_that_says_nothing_leaves_no_trace(serve: Callable[..., Sim]) -> None:
    run = serve().run(request_count=4)
    assert not [key for key in summary_of(run) if "spec_decode" in key]
    assert "spec_decode" not in (run.dir / "profile_export.jsonl").read_text(encoding="utf-8")


def test_the_screen_has_its_table(serve: Callable[..., Sim], capsys: pytest.CaptureFixture[str]) -> None:
    sim = serve(spec_tokens=3)
    words = ["--model", "qwen3-0.6b", "--url", sim.url, "--streaming", "--tokenizer", "builtin", "--no-report"]
    words += ["--request-count", "3", "--osl", "9", "--artifact-dir", str(sim.dir / "run"), "--ui", "none"]
    assert main(["profile", *words]) == 0
    told = capsys.readouterr().out
    assert "LLM Metrics: Spec Decode" in told
    assert "Acceptance Length" in told

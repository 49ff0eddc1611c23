"""Commands of AIPerf's users besides `profile`: chat, plugins, the SPEED-Bench matrix, the messages of a run."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.runs import MODEL, Sim

from aiperf.cli import main


def test_a_chat_keeps_its_history(
    serve: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sim = serve(ttft_ms=20, itl_ms=5)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\nand again\n\n"))
    assert main(["chat", "--model", MODEL, "--url", sim.url]) == 0
    told = capsys.readouterr()
    assert len(told.out.strip().splitlines()) == 2
    timings = re.findall(r"TTFT ([\d,]+) ms, latency ([\d,]+) ms, ([\d,]+) tokens, ([\d.,]+) tokens/s", told.err)
    assert len(timings) == 2
    rows = sim.ledger()
    assert len(rows) == 2
    for (first, whole, tokens, _), row in zip(timings, rows, strict=True):
        assert 20 <= int(first.replace(",", "")) <= int(whole.replace(",", ""))
        assert int(tokens.replace(",", "")) == row["sent_tokens"]
    assert rows[1]["prompt_tokens"] > rows[0]["prompt_tokens"] + 2, "the second turn holds the first"


def test_one_quick_message_and_a_server_that_is_not_there(
    serve: Callable[..., Sim], capsys: pytest.CaptureFixture[str]
) -> None:
    sim = serve()
    assert main(["chat", "hello", "--quick", "--model", MODEL, "--url", sim.url]) == 0
    assert "TTFT" in capsys.readouterr().err
    assert main(["chat", "hello", "--quick", "--model", MODEL, "--url", "http://127.0.0.1:9"]) == 2
    assert "cannot talk to `http://127.0.0.1:9/v1/chat/completions`" in capsys.readouterr().err


def test_plug_ins_are_listed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    assert re.search(r"endpoints +\d+", capsys.readouterr().out)
    assert main(["plugins", "endpoint", "chat"]) == 0
    assert "/v1/chat/completions" in capsys.readouterr().out
    assert main(["plugins", "--validate"]) == 0
    assert main(["plugins", "endpoints", "chatt"]) == 2
    assert "did you mean `chat`?" in capsys.readouterr().err


def write(folder: Path, model: str, category: str, throughput: float) -> None:
    folder.mkdir(parents=True)
    content = {
        "output_token_throughput": {"unit": "tokens/sec", "avg": throughput},
        "input_config": {"models": {"items": [{"name": model}]}, "datasets": [{"format": f"speed_bench_{category}"}]},
    }
    (folder / "profile_export_aiperf.json").write_text(json.dumps(content), encoding="utf-8")


def test_speed_bench_runs_become_a_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", "m1", "coding", 10)
    write(tmp_path / "b", "m1", "math", 30)
    write(tmp_path / "c", "m2", "coding", 5)
    target = tmp_path / "matrix.csv"
    assert main(["speed-bench-report", str(tmp_path), "--metric", "throughput", "--output", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == "model,coding,math,mean\nm1,10.00,30.00,20.00\nm2,5.00,,5.00\n"
    capsys.readouterr()
    assert main(["speed-bench-report", "--paths", str(tmp_path)]) == 1
    assert "no run of SPEED-Bench among 3 has `spec_decode_acceptance_length`" in capsys.readouterr().err


def test_the_messages_of_a_run_are_a_page(serve: Callable[..., Sim], capsys: pytest.CaptureFixture[str]) -> None:
    sim = serve()
    run = sim.run(conversation_num=2, conversation_turn_mean=2, request_count=None, export_level="raw")
    assert main(["analyze", "turn-messages", str(run.dir)]) == 0
    page = (run.dir / "turn_messages.html").read_text(encoding="utf-8")
    assert page.count("2 turns") == 2
    assert page.count("turn 1, status 200") == 2
    assert main(["analyze", "turn-messages", str(sim.dir)]) == 1
    assert "--export-level raw" in capsys.readouterr().err

"""The demo's use case 3: its commands but for URL and file, the tokenizer by its hub name from a local cache, without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.runs import Sim
from tests.e2e.traces.test_replay_on_the_ledger import like_mooncake, write

from aiperf.records.store import open_run
from aiperf.workload.vocabulary import load_corpus

TOKENIZER = "Qwen/Qwen3-0.6B"
OPTION_1 = (
    "profile --model qwen3-0.6b --url {url} --endpoint-type chat --streaming --input-file {file} "
    "--custom-dataset-type mooncake_trace --fixed-schedule --tokenizer Qwen/Qwen3-0.6B"
)
OPTION_2 = OPTION_1.replace("--fixed-schedule ", "")

pytestmark = pytest.mark.slow


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """`HF_HOME` with one repository in its cache, as huggingface_hub lays it out: a small byte-level BPE."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    words, stream = load_corpus()
    prose = [words[i] for i in stream[:20_000]]
    # As in a large vocabulary, frequent words are a token each, with a space in front and without.
    text = [*prose, *(" ".join(prose[k : k + 200]) for k in range(0, len(prose), 200))]
    made.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=4000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    repository = tmp_path / "hf" / "hub" / f"models--{TOKENIZER.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    made.save(str(snapshot / "tokenizer.json"))
    return tmp_path / "hf"


def aiperf(command: str, folder: Path, hub: Path) -> subprocess.CompletedProcess[str]:
    """The installed command in a folder of its own; a hub that nobody can reach."""
    nowhere = {"HF_HOME": str(hub), "HF_ENDPOINT": "http://127.0.0.1:9", "AIPERF_CACHE_DIR": str(folder / "cache")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "AIPERF_"))}
    return subprocess.run(
        [str(Path(sys.executable).with_name("aiperf")), *command.split()],
        cwd=folder,
        env=kept | nowhere | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("option", ["1: original timing", "2: as fast as possible"])
def test_the_demos_commands(serve: Callable[..., Sim], tmp_path: Path, hub: Path, option: str) -> None:
    from tokenizers import Tokenizer

    lines = like_mooncake(80, every_ms=25)
    write(tmp_path / "mooncake_trace.jsonl", lines)
    sim = serve(ledger_prompts=True)
    command = (OPTION_1 if option.startswith("1") else OPTION_2).format(url=sim.url, file="mooncake_trace.jsonl")
    ended = aiperf(command, tmp_path, hub)
    assert ended.returncode == 0, ended.stderr
    assert "LLM Metrics" in ended.stdout
    kind = "fixed_schedule" if option.startswith("1") else "concurrency512"
    run_dir = tmp_path / "artifacts" / f"qwen3-0.6b-openai-chat-{kind}"
    summary: dict[str, Any] = json.loads((run_dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert summary["request_count"]["avg"] == 80
    lengths = np.array([line["input_length"] for line in lines])
    assert summary["input_sequence_length"]["avg"] == pytest.approx(lengths.mean())

    columns = open_run(run_dir)
    (cached,) = hub.glob("hub/*/snapshots/*/tokenizer.json")
    independent = Tokenizer.from_file(str(cached))
    prompts = {row["request_id"]: row["prompt"] for row in sim.ledger() if row["request_id"]}
    order = columns.scalar("session").astype(int)
    for name, line in zip(columns.strings("request_id"), order.tolist(), strict=True):
        assert len(independent.encode(prompts[str(name)], add_special_tokens=False).ids) == lengths[line]
    span_s = (columns.scalar("sent").max() - columns.scalar("sent").min()) / 1e9
    if option.startswith("1"):
        assert span_s == pytest.approx((lines[-1]["timestamp"] - lines[0]["timestamp"]) / 1e3, abs=0.2)
        assert "timestamps of the trace are not used" not in ended.stderr
    else:
        assert "timestamps of the trace are not used" in ended.stderr


def test_a_name_that_is_not_in_the_cache_fails_at_once_and_says_what_to_do(
    serve: Callable[..., Sim], tmp_path: Path, hub: Path
) -> None:
    write(tmp_path / "mooncake_trace.jsonl", like_mooncake(3))
    sim = serve()
    command = OPTION_1.format(url=sim.url, file="mooncake_trace.jsonl").replace(TOKENIZER, "Qwen/Qwen9-1T")
    ended = aiperf(command, tmp_path, hub)
    assert ended.returncode == 2
    assert "Qwen/Qwen9-1T" in ended.stderr
    assert "--tokenizer builtin" in ended.stderr
    assert not [row for row in sim.ledger() if row["path"] == "/v1/chat/completions"]


def test_the_demos_subset_is_one_command(tmp_path: Path, hub: Path) -> None:
    lines = like_mooncake(200, every_ms=2500)
    write(tmp_path / "mooncake_trace.jsonl", lines)
    ended = aiperf(
        "trace cut mooncake_trace.jsonl --window 0m:5m --speed 5 --output mooncake_trace_5min_5x.jsonl", tmp_path, hub
    )
    assert ended.returncode == 0, ended.stderr
    kept = [x for x in lines if x["timestamp"] - lines[0]["timestamp"] < 300_000]
    found = [
        json.loads(x) for x in (tmp_path / "mooncake_trace_5min_5x.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [x["hash_ids"] for x in found] == [x["hash_ids"] for x in kept]
    times = np.array([x["timestamp"] for x in found])
    assert times == pytest.approx((np.array([x["timestamp"] for x in kept]) - lines[0]["timestamp"]) / 5, abs=1)


@pytest.mark.parametrize(
    "command",
    [
        "trace stats t.jsonl",
        "analyze-trace t.jsonl --output-file report.json",
        "trace validate t.jsonl",
        "validate mooncake-trace --input t.jsonl",
        "trace synth t.jsonl --requests 20 --output made.jsonl",
        "synthesize agentic-code --num-sessions 2 --output agents",
    ],
)
def test_trace_tools_and_the_names_aiperf_gives_them(tmp_path: Path, hub: Path, command: str) -> None:
    write(tmp_path / "t.jsonl", like_mooncake(30))
    ended = aiperf(command, tmp_path, hub)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout or ended.stderr
    if "report.json" in command:
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        assert report["total_requests"] == 30

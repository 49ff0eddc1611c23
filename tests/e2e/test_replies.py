"""Responses as servers and gateways write them, from their bytes to the report: bug reports 10 to 12 and what is like them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.pieces import Script, serve_pieces
from tests.e2e.runs import Sim, kinds

from aiperf import Run
from aiperf.errors import ErrorKind, ExitCode

SSE = "Content-Type: text/event-stream\r\n"
USAGE = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}


def event(content: str | None = None, finish: str | None = None, usage: object = None) -> bytes:
    delta = {} if content is None else {"content": content}
    body: dict[str, object] = {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    if usage is not None:
        body["usage"] = usage
    return f"data: {json.dumps(body)}\n\n".encode()


AB = [event(" a"), event(" b")]
STOP = event(finish="stop")
LAST = f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\n".encode()
DONE = b"data: [DONE]\n\n"
WHOLE = json.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": " a b"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()


def chunked(parts: list[bytes], headers: str = SSE, *, ends: bool = True) -> list[bytes]:
    """A piece per part: the head, each part as a chunk of its own, the last chunk."""
    head = f"HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n".encode()
    return [head, *(b"%x\r\n%s\r\n" % (len(p), p) for p in parts), *([b"0\r\n\r\n"] if ends else [])]


def sized(body: bytes, headers: str = "Content-Type: application/json\r\n") -> list[bytes]:
    return [f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body]


def run_of(script: Script, folder: Path, **flags: object) -> Run:
    with serve_pieces(script) as server:
        sim = Sim(f"http://127.0.0.1:{server.port}", folder, server)
        return sim.run(**{"model": "m", "request_count": 10, "concurrency": 2, "workers": 1, **flags})


def notices(run: Run) -> dict[str, str]:
    return {n.kind: n.text for n in run.summary().notices}


def test_whole_responses_to_a_request_for_a_stream_have_no_first_token(tmp_path: Path) -> None:
    run = run_of(Script(replies=[sized(WHOLE)]), tmp_path)
    assert kinds(run) == {ErrorKind.OK: 10}
    for tag in ("time_to_first_token", "inter_token_latency", "inter_chunk_latency", "time_to_second_token"):
        assert tag not in run.summary().metrics, tag
    assert run.summary().stat("request_latency") is not None
    assert run.summary().stat("usage_completion_tokens") == 2
    assert "10 of 10 responses came whole" in notices(run)["whole_responses"]
    facts = json.loads((run.dir / "run.json").read_text(encoding="utf-8"))
    assert "whole_responses" in {n["kind"] for n in facts["notes"]}


def test_one_whole_response_among_streams_leaves_the_others_figures_alone(tmp_path: Path) -> None:
    streams = [chunked([*AB, STOP, LAST, DONE])] * 9
    run = run_of(Script(replies=[*streams, sized(WHOLE)]), tmp_path)
    assert kinds(run) == {ErrorKind.OK: 10}
    metrics = run.summary().metrics
    assert metrics["time_to_first_token"].stats.count == metrics["inter_token_latency"].stats.count == 9
    assert metrics["request_latency"].stats.count == 10
    assert "1 of 10 responses came whole" in notices(run)["whole_responses"]


@pytest.mark.parametrize("ends", ["last chunk", "close"])
@pytest.mark.parametrize("last", [b"data:  [DONE] \n\n", b"data: [DONE]\n", b"data: [DONE]"])
def test_a_stream_that_says_done_is_done(tmp_path: Path, last: bytes, ends: str) -> None:
    """Without a finish reason: the line alone says so."""
    if ends == "close":
        pieces = [f"HTTP/1.1 200 OK\r\n{SSE}Connection: close\r\n\r\n".encode() + b"".join(AB) + last]
    else:
        pieces = chunked([*AB, last])
    run = run_of(Script(replies=[pieces], requests_per_connection=1), tmp_path)
    assert kinds(run) == {ErrorKind.OK: 10}
    assert run.exit_code == ExitCode.OK


def test_a_stream_that_does_not_say_so_is_cut(tmp_path: Path) -> None:
    run = run_of(Script(replies=[chunked(AB)], requests_per_connection=1), tmp_path)
    assert kinds(run) == {ErrorKind.CUT: 10}


def test_usage_per_chunk_is_read(tmp_path: Path) -> None:
    """Bug report 12: 0 tokens at 50 ms, 1 at 150 ms, 3 at 250 ms; texts at 150 and 250 ms."""

    def usage(tokens: int) -> dict[str, int]:
        return USAGE | {"completion_tokens": tokens}

    parts = [
        event("", usage=usage(0)),
        event("", usage=usage(0)) + event(" a", usage=usage(1)),
        event("", usage=usage(2)) + event(" b", usage=usage(3)),
        event(finish="stop", usage=usage(3)) + DONE,
    ]
    script = Script(replies=[chunked(parts)], pauses=(0.0, 0.05, 0.1, 0.1, 0.0))
    run = run_of(script, tmp_path, per_chunk_usage=True, use_server_token_count=True)
    assert kinds(run) == {ErrorKind.OK: 10}
    assert run.summary().stat("output_sequence_length") == 3
    # The head is the first piece. Python's threads may write later than they want to.
    first, last = (np.mean([w[piece] for w in script.written[-10:]]) for piece in (2, 3))
    assert first >= 150
    assert run.summary().stat("time_to_first_token") == pytest.approx(first, abs=25)
    assert run.summary().stat("inter_token_latency") == pytest.approx((last - first) / 2, abs=12)
    assert set(run.columns.scalar("first_chunk_usage")) == {1.0}


def test_a_compressed_stream_is_read_and_remarked_upon(tmp_path: Path) -> None:
    body = gzip.compress(b"".join([*AB, STOP, LAST, DONE]))
    run = run_of(Script(replies=[sized(body, f"{SSE}Content-Encoding: gzip\r\n")]), tmp_path)
    assert kinds(run) == {ErrorKind.OK: 10}
    assert run.summary().stat("output_sequence_length") == 2
    assert "gzip (10)" in notices(run)["compressed"]


def test_a_stream_of_another_type_is_read_and_remarked_upon(tmp_path: Path) -> None:
    parts = [*AB, STOP, LAST, DONE]
    run = run_of(Script(replies=[chunked(parts, "Content-Type: application/octet-stream\r\n")]), tmp_path)
    assert kinds(run) == {ErrorKind.OK: 10}
    assert "`application/octet-stream` (10)" in notices(run)["stream_type"]
    assert (run.columns.scalar("http_chunks") == 5).all()


def test_what_is_as_it_should_be_is_not_remarked_upon(tmp_path: Path) -> None:
    script = Script(replies=[chunked([*AB, STOP, LAST, DONE])], pauses=(0.0, 0.01, 0.01))
    run = run_of(script, tmp_path)
    assert kinds(run) == {ErrorKind.OK: 10}
    path = {"whole_responses", "buffered", "joined_chunks", "compressed", "stream_type", "intermediary"}
    assert not notices(run).keys() & path


def test_an_event_without_end_ends_at_the_limit(tmp_path: Path) -> None:
    body = b"data: " + b"x" * 300_000
    run = run_of(Script(replies=[chunked([body])], requests_per_connection=1), tmp_path, max_event_bytes=100_000)
    assert kinds(run) == {ErrorKind.MALFORMED: 10}
    assert "--max-event-bytes" in str(run.columns.strings("error_message")[0])


@pytest.mark.parametrize("status", [307, 308])
def test_redirects_within_the_host_are_followed(tmp_path: Path, status: int) -> None:
    """The first request learns the way; the others go there at once."""
    there = f"HTTP/1.1 {status} Moved\r\nLocation: /v2/chat\r\nContent-Length: 0\r\n\r\n".encode()
    streams = [chunked([*AB, STOP, LAST, DONE])] * 10
    script = Script(replies=[[there], *streams])
    run = run_of(script, tmp_path, concurrency=1)
    assert kinds(run) == {ErrorKind.OK: 10}
    assert script.served == 11
    assert script.targets == ["/v1/chat/completions", *["/v2/chat"] * 10]
    note = next(n for n in run.notes if n.kind == "redirected")
    assert "`/v2/chat`" in note.text


def test_redirects_in_the_middle_of_a_run_are_followed(tmp_path: Path) -> None:
    there = b"HTTP/1.1 307 Moved\r\nLocation: /v2/chat\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    stream = chunked([*AB, STOP, LAST, DONE])
    script = Script(replies=[stream, stream, stream, [there], *[stream] * 7])
    assert kinds(run_of(script, tmp_path, concurrency=1)) == {ErrorKind.OK: 10}


@pytest.mark.parametrize("place", ["http://elsewhere.example/v1", "/v1/chat/completions"])
def test_redirects_elsewhere_or_in_a_circle_name_their_target(tmp_path: Path, place: str) -> None:
    there = f"HTTP/1.1 307 Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
    run = run_of(Script(replies=[[there]]), tmp_path)
    assert kinds(run) == {ErrorKind.HTTP_STATUS: 10}
    assert set(run.columns.strings("error_message")) == {f"redirected to `{place}`"}


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_counts_that_only_some_responses_have_are_remarked_upon(tmp_path: Path, is_asked_for: bool) -> None:
    """Sums over them are sums of a part: whoever reads a throughput must know."""
    replies = [chunked([*AB, STOP, LAST, DONE]), chunked([*AB, STOP, DONE])]
    found = run_of(Script(replies=replies), tmp_path, use_server_token_count=is_asked_for)
    text = notices(found)["usage_missing"]
    assert "5 of 10 without output tokens and 5 of 10 without prompt tokens" in text
    assert ("throughput" in text) == is_asked_for
    assert found.summary().stat("total_usage_completion_tokens") == 10
    control = run_of(Script(replies=replies[:1]), tmp_path, use_server_token_count=is_asked_for)
    assert "usage_missing" not in notices(control)


def test_counts_that_no_response_has_are_missed_only_where_they_were_asked_for(tmp_path: Path) -> None:
    script = Script(replies=[chunked([*AB, STOP, DONE])])
    asked = run_of(script, tmp_path, use_server_token_count=True)
    assert "10 of 10 without output tokens" in notices(asked)["usage_missing"]
    assert asked.summary().stat("output_sequence_length") is None
    assert "usage_missing" not in notices(run_of(script, tmp_path))


def test_outputs_shorter_than_asked_for_are_remarked_upon(tmp_path: Path) -> None:
    """Servers take `ignore_eos` on one API and drop it on another: nothing but the lengths shows it."""
    script = Script(replies=[chunked([*AB, STOP, LAST, DONE])])
    for flags, hint in (({"ignore_eos": "on"}, "`ignore_eos` that was sent"), ({}, "may need `--ignore-eos on`")):
        found = run_of(script, tmp_path, osl=40, **flags)
        (note,) = (n for n in found.summary().notices if n.kind == "osl_mismatch")
        assert (
            note.text == "10 of 10 responses (100.0%) did not match the requested output length, 95% shorter on average"
        )
        assert hint in str(note.hint)
    assert "osl_mismatch" not in notices(run_of(script, tmp_path, osl=2, ignore_eos="on"))


@pytest.mark.parametrize(
    "delta",
    [
        {"refusal": " one two"},
        {"content": [{"type": "text", "text": " one"}, {"type": "text", "text": " two"}]},
    ],
    ids=["refusal", "parts"],
)
def test_output_in_other_places_is_output(tmp_path: Path, delta: dict[str, object]) -> None:
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    script = Script(replies=[chunked([f"data: {json.dumps(body)}\n\n".encode(), STOP, DONE])])
    found = run_of(script, tmp_path)
    assert kinds(found) == {ErrorKind.OK: 10}
    assert found.summary().stat("output_sequence_length") == 2


def test_mistrals_thinking_is_reasoning(tmp_path: Path) -> None:
    think = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "let me see"}]}]}
    body = {"choices": [{"index": 0, "delta": think, "finish_reason": None}]}
    parts = [f"data: {json.dumps(body)}\n\n".encode(), *AB, STOP, DONE]
    found = run_of(Script(replies=[chunked(parts)], pauses=(0.0, 0.0, 0.01)), tmp_path)
    assert kinds(found) == {ErrorKind.OK: 10}
    assert found.summary().stat("reasoning_token_count") is not None
    assert (found.columns.scalar("first_output") > found.columns.scalar("first_content")).all()


def test_a_status_that_is_no_success_is_named_by_its_number(tmp_path: Path) -> None:
    reply = [b"HTTP/1.1 304 Not Modified\r\n\r\n"]
    found = run_of(Script(replies=[reply]), tmp_path)
    (group,) = found.summary().errors
    assert (group.code, group.type, group.words) == (304, "Not Modified", "HTTP 304")

"""APIs other than chat completions, from recorded pages: what a run counts of them, and that the vendors' own clients read the same pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.pieces import answer_with
from tests.e2e.runs import Sim

from aiperf import Run

Event = dict[str, Any]

MESSAGE: Event = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 7, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 1},
}


def _block(index: int, block: Event, deltas: Sequence[Event]) -> list[Event]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


MESSAGES_STREAM: list[Event] = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "ping"},
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "Eq"}],
    ),
    *_block(1, {"type": "text", "text": ""}, [{"type": "text_delta", "text": t} for t in ("Hel", "lo")]),
    *_block(
        2,
        {"type": "tool_use", "id": "t", "name": "look", "input": {}},
        [{"type": "input_json_delta", "partial_json": p} for p in ("", '{"a":', "1}")],
    ),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 15},
    },
    {"type": "message_stop"},
]
MESSAGES_WHOLE: Event = {
    **MESSAGE,
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "Eq"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "t", "name": "look", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {**MESSAGE["usage"], "output_tokens": 15},
}

OUTPUT: list[Event] = [
    {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
    },
    {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "c",
        "name": "look",
        "arguments": '{"a":1}',
        "status": "completed",
    },
]
RESPONSE: Event = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_700_000_000,
    "model": "m",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "status": "in_progress",
    "output": [],
    "usage": None,
}
RESPONSES_WHOLE: Event = {
    **RESPONSE,
    "status": "completed",
    "output": OUTPUT,
    "usage": {
        "input_tokens": 127,
        "input_tokens_details": {"cached_tokens": 100},
        "output_tokens": 15,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 142,
    },
}
_EMPTY = [{**OUTPUT[0], "summary": []}, {**OUTPUT[1], "content": []}, {**OUTPUT[2], "arguments": ""}]
_AT = {"output_index": 1, "content_index": 0, "item_id": "msg_1"}
RESPONSES_STREAM: list[Event] = [
    {"type": "response.created", "response": RESPONSE},
    {"type": "response.in_progress", "response": RESPONSE},
    {"type": "response.output_item.added", "output_index": 0, "item": _EMPTY[0]},
    {
        "type": "response.reasoning_summary_text.delta",
        "output_index": 0,
        "summary_index": 0,
        "item_id": "rs_1",
        "delta": "hm",
    },
    {"type": "response.output_item.done", "output_index": 0, "item": OUTPUT[0]},
    {"type": "response.output_item.added", "output_index": 1, "item": _EMPTY[1]},
    {**_AT, "type": "response.content_part.added", "part": {"type": "output_text", "text": "", "annotations": []}},
    {**_AT, "type": "response.output_text.delta", "delta": "Hel", "logprobs": []},
    {**_AT, "type": "response.output_text.delta", "delta": "lo", "logprobs": []},
    {**_AT, "type": "response.output_text.done", "text": "Hello", "logprobs": []},
    {**_AT, "type": "response.content_part.done", "part": OUTPUT[1]["content"][0]},
    {"type": "response.output_item.done", "output_index": 1, "item": OUTPUT[1]},
    {"type": "response.output_item.added", "output_index": 2, "item": _EMPTY[2]},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "item_id": "fc_1", "delta": '{"a":1}'},
    {"type": "response.function_call_arguments.done", "output_index": 2, "item_id": "fc_1", "arguments": '{"a":1}'},
    {"type": "response.output_item.done", "output_index": 2, "item": OUTPUT[2]},
    {"type": "response.completed", "response": RESPONSES_WHOLE},
]
TGI_DETAILS: Event = {"finish_reason": "length", "generated_tokens": 3, "input_length": 9, "seed": None}
TGI_STREAM: list[Event] = [
    *(
        {
            "index": number,
            "token": {"id": number, "text": t, "logprob": -1.0, "special": t == "</s>"},
            "generated_text": None,
            "details": None,
        }
        for number, t in enumerate(("Hel", "lo"))
    ),
    {
        "index": 2,
        "token": {"id": 2, "text": "</s>", "logprob": -1.0, "special": True},
        "generated_text": "Hello",
        "details": TGI_DETAILS,
    },
]


def page(kind: str, body: str, status: str = "200 OK") -> bytes:
    data = body.encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def stream(events: Sequence[Event]) -> bytes:
    """SSE with each event's type as its name, where it has one; numbered as OpenAI numbers them."""
    lines = []
    for number, event in enumerate(events):
        name = f"event: {event['type']}\n" if "type" in event else ""
        numbered = {**event, "sequence_number": number} if event.get("type", "").startswith("response.") else event
        lines.append(f"{name}data: {json.dumps(numbered)}\n\n")
    return page("text/event-stream", "".join(lines))


def whole(body: object) -> bytes:
    return page("application/json", json.dumps(body))


def run_on(answer: bytes, directory: Path, endpoint: str, **flags: object) -> Run:
    with answer_with(answer) as port:
        sim = Sim(f"http://127.0.0.1:{port}", directory, None)
        return sim.run(endpoint_type=endpoint, request_count=4, concurrency=2, export_outputs_json=True, **flags)


@pytest.mark.parametrize(
    ("endpoint", "streaming", "answer", "usage"),
    [
        ("messages", True, stream(MESSAGES_STREAM), (127, 15)),
        ("messages", False, whole(MESSAGES_WHOLE), (127, 15)),
        ("responses", True, stream(RESPONSES_STREAM), (127, 15)),
        ("responses", False, whole(RESPONSES_WHOLE), (127, 15)),
        ("huggingface_generate", True, stream(TGI_STREAM), (9, 3)),
        ("huggingface_generate", False, whole({"generated_text": "Hello", "details": TGI_DETAILS}), (9, 3)),
    ],
)
def test_a_run_reads_text_reasoning_and_usage(
    tmp_path: Path, endpoint: str, streaming: bool, answer: bytes, usage: tuple[int, int]
) -> None:
    run = run_on(answer, tmp_path, endpoint, streaming=streaming)
    assert run.exit_code == 0
    summary = run.summary()
    assert summary["request_count"].avg == 4
    assert (summary["usage_prompt_tokens"].avg, summary["usage_completion_tokens"].avg) == usage
    assert ("time_to_first_token" in summary.metrics) == streaming
    texts = json.loads(next(path for what, path in run.written if "outputs" in str(path)).read_text(encoding="utf-8"))
    assert "Hello" in json.dumps(texts)


@pytest.mark.parametrize(
    ("endpoint", "answer", "says"),
    [
        (
            "messages",
            stream(
                [
                    *MESSAGES_STREAM[:4],
                    {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
                ]
            ),
            "Overloaded",
        ),
        (
            "messages",
            page("application/json", '{"type":"error","error":{"type":"x","message":"no"}}', "529 Overloaded"),
            "no",
        ),
        ("messages", stream(MESSAGES_STREAM[:6]), "finish"),
        (
            "responses",
            stream([*RESPONSES_STREAM[:8], {"type": "response.failed", "response": {"error": {"message": "broken"}}}]),
            "broken",
        ),
        ("responses", stream(RESPONSES_STREAM[:8]), "finish"),
        ("huggingface_generate", whole({"error": "Input validation error", "error_type": "validation"}), "validation"),
    ],
)
def test_errors_inside_a_response_are_failed_requests(tmp_path: Path, endpoint: str, answer: bytes, says: str) -> None:
    run = run_on(answer, tmp_path, endpoint)
    assert run.exit_code == 4
    assert says in (run.dir / "profile_export.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("endpoint", "answer", "title"),
    [
        ("cohere_rankings", whole({"id": "r", "results": [{"index": 0, "relevance_score": 0.5}]}), "Ranking Metrics"),
        ("hf_tei_rankings", whole([{"index": 0, "score": 0.5}]), "Ranking Metrics"),
        ("nim_embeddings", whole({"data": [], "usage": {"prompt_tokens": 3}}), "NIM Embeddings Metrics"),
        ("chat_embeddings", whole({"data": [], "usage": {"prompt_tokens": 3}}), "Embeddings Metrics"),
        ("image_generation", whole({"created": 1, "data": [{"b64_json": "QQ=="}]}), "Image Generation Metrics"),
    ],
)
def test_apis_without_text_have_titles_and_no_token_metrics(
    tmp_path: Path, endpoint: str, answer: bytes, title: str
) -> None:
    run = run_on(answer, tmp_path, endpoint)
    assert run.exit_code == 0
    assert run.metrics_title == title
    assert not {"time_to_first_token", "output_sequence_length"} & set(run.summary().metrics)


@contextmanager
def _served(answer: bytes) -> Iterator[str]:
    with answer_with(answer) as port:
        yield f"http://127.0.0.1:{port}"


def test_the_anthropic_client_reads_the_same_pages() -> None:
    anthropic = pytest.importorskip("anthropic", reason="the package `anthropic` is not installed")
    ask = {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "x"}]}
    with _served(whole(MESSAGES_WHOLE)) as url, anthropic.Anthropic(base_url=url, api_key="k") as client:
        message = client.messages.create(**ask)
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    with _served(stream(MESSAGES_STREAM)) as url, anthropic.Anthropic(base_url=url, api_key="k") as client:
        with client.messages.stream(**ask) as events:
            final = events.get_final_message()
        assert (final.content[1].text, final.content[2].input) == ("Hello", {"a": 1})
        assert (final.usage.input_tokens, final.usage.output_tokens) == (7, 15)


def test_the_openai_client_reads_the_same_pages() -> None:
    openai = pytest.importorskip("openai", reason="the package `openai` is not installed")
    ask = {"model": "m", "input": "x"}
    with _served(whole(RESPONSES_WHOLE)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="k") as client:
        assert client.responses.create(**ask).output_text == "Hello"
    with _served(stream(RESPONSES_STREAM)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="k") as client:
        with client.responses.stream(**ask) as events:
            final = events.get_final_response()
        assert (final.output_text, final.usage.output_tokens) == ("Hello", 15)

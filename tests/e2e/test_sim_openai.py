"""The simulated server's chat, completions, and errors as the official `openai` client reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.e2e.runs import Sim

openai = pytest.importorskip("openai", reason="the package `openai` is not installed")

Serve = Callable[..., Sim]

TALK = {"reasoning_tokens": 6, "tool_call": "after_prose"}
ASK = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "say something"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
        },
    }
]
ERRORS = [
    (400, "BadRequestError"),
    (401, "AuthenticationError"),
    (403, "PermissionDeniedError"),
    (404, "NotFoundError"),
    (422, "UnprocessableEntityError"),
    (429, "RateLimitError"),
    (500, "InternalServerError"),
    (503, "InternalServerError"),
]


@contextmanager
def client_of(sim: Sim, api_key: str = "k") -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{sim.url}/v1", api_key=api_key, max_retries=0) as client:
        yield client


def test_chat_whole_and_streamed_says_the_same(serve: Serve) -> None:
    sim = serve(models=["m"], tokens_per_chunk=[1, 3, 2], **TALK)
    ask: dict[str, Any] = {"model": "m", "messages": ASK, "max_completion_tokens": 40, "tools": TOOLS}
    with client_of(sim) as client:
        whole = client.chat.completions.create(**ask)
        with client.chat.completions.stream(**ask, stream_options={"include_usage": True}) as events:
            seen = [event.type for event in events]
            final = events.get_final_completion()
    for made in (whole, final):
        (choice,) = made.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.role == "assistant"
        assert choice.message.content
        (call,) = choice.message.tool_calls
        assert (call.type, call.function.name) == ("function", "get_weather")
        assert json.loads(call.function.arguments)["text"]
        assert made.usage.completion_tokens == 40
        assert made.usage.completion_tokens_details.reasoning_tokens == 6
        assert made.usage.total_tokens == made.usage.prompt_tokens + 40
    assert {
        "chunk",
        "content.delta",
        "tool_calls.function.arguments.delta",
        "tool_calls.function.arguments.done",
    } <= set(seen)
    assert whole.choices[0].message.reasoning_content
    for row, made in zip(sim.ledger(), (whole, final), strict=True):
        assert (row["prompt_tokens"], row["sent_tokens"]) == (made.usage.prompt_tokens, 40)
        assert made.id


def test_every_chunk_of_a_chat_is_one_and_usage_comes_only_where_it_is_asked_for(serve: Serve) -> None:
    sim = serve(reasoning_tokens=2)
    with client_of(sim) as client:
        for asked in (True, False):
            options = {"stream_options": {"include_usage": True}} if asked else {}
            chunks = list(client.chat.completions.create(model="m", messages=ASK, max_tokens=8, stream=True, **options))
            assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
            assert len({chunk.id for chunk in chunks}) == 1
            said = [chunk for chunk in chunks if chunk.choices]
            assert said[0].choices[0].delta.role == "assistant"
            assert [chunk.choices[0].finish_reason for chunk in said if chunk.choices[0].finish_reason] == ["length"]
            thought = [c for c in said if getattr(c.choices[0].delta, "reasoning_content", None)]
            assert len(thought) == 2
            usages = [chunk.usage for chunk in chunks if chunk.usage]
            assert [usage.completion_tokens for usage in usages] == ([8] if asked else [])
            if asked:
                assert not chunks[-1].choices


def test_completions_whole_and_streamed(serve: Serve) -> None:
    sim = serve()
    with client_of(sim) as client:
        whole = client.completions.create(model="m", prompt="once upon a time", max_tokens=9)
        chunks = list(client.completions.create(model="m", prompt="once upon a time", max_tokens=9, stream=True))
    assert (whole.object, whole.choices[0].finish_reason) == ("text_completion", "length")
    assert whole.usage.completion_tokens == 9
    assert "".join(c.choices[0].text for c in chunks if c.choices)
    assert [row["sent_tokens"] for row in sim.ledger()] == [9, 9]


def test_models_are_listed(serve: Serve) -> None:
    with client_of(serve(models=["one", "two"])) as client:
        assert [model.id for model in client.models.list()] == ["one", "two"]


@pytest.mark.parametrize(("status", "error"), ERRORS)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_client_knows_the_errors(serve: Serve, api: str, status: int, error: str) -> None:
    sim = serve(faults=[{"kind": "status", "status": status}])
    with client_of(sim) as client:
        asks: dict[str, Callable[[], object]] = {
            "chat": lambda: client.chat.completions.create(model="m", messages=ASK),
            "responses": lambda: client.responses.create(model="m", input="hello"),
        }
        with pytest.raises(openai.APIStatusError) as caught:
            asks[api]()
    assert (type(caught.value).__name__, caught.value.status_code) == (error, status)
    assert caught.value.body["message"]


def test_a_wrong_key_an_unknown_model_and_a_long_prompt_are_refused_by_name(serve: Serve) -> None:
    sim = serve(api_key="k", models=["m"], strict_model=True, context_limit=30)
    with client_of(sim, api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="m", messages=ASK)
    with client_of(sim) as client:
        with pytest.raises(openai.NotFoundError, match="other"):
            client.chat.completions.create(model="other", messages=ASK)
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            client.chat.completions.create(model="m", messages=ASK, max_tokens=400)


def test_an_error_in_a_stream_is_raised_and_a_cut_one_too(serve: Serve) -> None:
    sim = serve(
        faults=[
            {"kind": "error_in_200", "after_chunks": 2, "requests": [1]},
            {"kind": "cut", "after_chunks": 2, "requests": [2]},
        ]
    )
    with client_of(sim) as client:
        for error, says in ((openai.APIError, "EngineCore"), (openai.APIConnectionError, "Connection error")):
            with pytest.raises(error, match=says):
                list(client.chat.completions.create(model="m", messages=ASK, max_tokens=9, stream=True))

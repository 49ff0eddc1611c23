"""APIs other than chat, spoken by the simulated server: the vendors' own clients understand it, and a run counts what its ledger has."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpcore2
import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds

from aiperf.errors import ErrorKind

Serve = Callable[..., Sim]

TALK = {"reasoning_tokens": 6, "tool_call": "after_prose"}
ASK = [{"role": "user", "content": "say something"}]


def post(sim: Sim, path: str, body: object) -> tuple[int, bytes]:
    told = httpcore2.request(
        "POST", sim.url + path, headers={"Content-Type": "application/json"}, content=json.dumps(body).encode()
    )
    return told.status, told.content


def form(**fields: str | bytes) -> tuple[bytes, str]:
    """A body and its `Content-Type`; bytes are files."""
    parts = []
    for name, value in fields.items():
        file = '; filename="f.bin"' if isinstance(value, bytes) else ""
        data = value if isinstance(value, bytes) else value.encode()
        head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + b"--xyz--\r\n", "multipart/form-data; boundary=xyz"


# -- the vendors' clients


def test_the_anthropic_client_reads_streams_and_whole_messages(serve: Serve) -> None:
    anthropic = pytest.importorskip("anthropic", reason="the package `anthropic` is not installed")
    sim = serve(api_key="k", models=["sim"], **TALK)
    with anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as client:
        ask: dict[str, Any] = {"model": "sim", "max_tokens": 40, "messages": ASK, "system": "be brief"}
        whole = client.messages.create(**ask)
        with client.messages.stream(**ask) as events:
            seen = [event.type for event in events]
            final = events.get_final_message()
        for message in (whole, final):
            assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
            assert message.content[2].name == "get_weather"
            assert isinstance(message.content[2].input["text"], str)
            assert message.stop_reason == "tool_use"
        assert {"message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop"} <= set(
            seen
        )
        first, second = sim.ledger()
        for row, message in zip((first, second), (whole, final), strict=True):
            assert (row["prompt_tokens"], row["sent_tokens"]) == (message.usage.input_tokens, 40)
            assert message.usage.output_tokens == 40
    with (
        anthropic.Anthropic(base_url=sim.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError, match="authentication_error"),
    ):
        stranger.messages.create(**ask)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "BadRequestError"),
        (404, "NotFoundError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (529, "OverloadedError"),
    ],
)
def test_the_anthropic_client_knows_the_errors(serve: Serve, status: int, error: str) -> None:
    anthropic = pytest.importorskip("anthropic", reason="the package `anthropic` is not installed")
    sim = serve(faults=[{"kind": "status", "status": status}])
    with anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(model="m", max_tokens=5, messages=ASK)
        assert type(caught.value).__name__ in {error, "InternalServerError"}
        assert caught.value.status_code == status


def test_the_anthropic_client_raises_an_error_event(serve: Serve) -> None:
    anthropic = pytest.importorskip("anthropic", reason="the package `anthropic` is not installed")
    sim = serve(faults=[{"kind": "error_in_200", "after_chunks": 2}])
    with (
        anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError, match="EngineCore"),
        client.messages.stream(model="m", max_tokens=9, messages=ASK) as events,
    ):
        events.get_final_message()


def test_the_openai_client_reads_every_event_of_responses(serve: Serve) -> None:
    openai = pytest.importorskip("openai", reason="the package `openai` is not installed")
    sim = serve(finish_reason="tool_calls", **TALK)
    with openai.OpenAI(base_url=f"{sim.url}/v1", api_key="k", max_retries=0) as client:
        ask: dict[str, Any] = {"model": "m", "input": ASK, "instructions": "be brief", "max_output_tokens": 40}
        whole = client.responses.create(**ask)
        with client.responses.stream(**ask) as events:
            seen = list(events)
            final = events.get_final_response()
        for response in (whole, final):
            assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
            assert response.status == "completed"
            assert json.loads(response.output[2].arguments)["text"]
            assert response.usage.output_tokens == 40
            assert response.usage.output_tokens_details.reasoning_tokens == 6
        assert [event.sequence_number for event in seen] == sorted(event.sequence_number for event in seen)
        types = {event.type.removeprefix("response.") for event in seen}
        assert types >= {
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.done",
            "output_text.delta",
            "output_text.done",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "content_part.done",
            "output_item.done",
            "completed",
        }
        first, _ = sim.ledger()
        assert first["prompt_tokens"] == whole.usage.input_tokens


def test_responses_that_hit_the_limit_are_incomplete_and_failed_ones_failed(serve: Serve) -> None:
    openai = pytest.importorskip("openai", reason="the package `openai` is not installed")
    sim = serve(faults=[{"kind": "error_in_200", "after_chunks": 2, "requests": [2]}])
    with openai.OpenAI(base_url=f"{sim.url}/v1", api_key="k", max_retries=0) as client:
        kept = []
        for _ in range(2):
            stream = client.responses.create(model="m", input="x", max_output_tokens=5, stream=True)
            kept.append(list(stream)[-1])
        assert kept[0].type == "response.incomplete"
        assert kept[0].response.incomplete_details.reason == "max_output_tokens"
        assert (kept[1].type, kept[1].response.error.code) == ("response.failed", "server_error")


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
def test_the_openai_client_reads_vectors_images_transcripts_and_videos(serve: Serve) -> None:
    openai = pytest.importorskip("openai", reason="the package `openai` is not installed")
    sim = serve(embedding_dims=4)
    with openai.OpenAI(base_url=f"{sim.url}/v1", api_key="k", max_retries=0) as client:
        numbers = client.embeddings.create(model="m", input=["a", "b"], encoding_format="float")
        packed = client.embeddings.create(model="m", input=["a", "b"])
        for made in (numbers, packed):
            assert [len(row.embedding) for row in made.data] == [4, 4]
        assert len(client.embeddings.create(model="m", input="a", dimensions=7).data[0].embedding) == 7
        image = client.images.generate(model="m", prompt="a cat", n=2)
        assert len(image.data) == 2
        assert image.usage.output_tokens > 0
        kinds_seen = [e.type for e in client.images.generate(model="m", prompt="a", stream=True, partial_images=2)]
        assert kinds_seen == [*["image_generation.partial_image"] * 2, "image_generation.completed"]
        edited = client.images.edit(model="m", prompt="a dog", image=("a.png", b"\x89PNG", "image/png"))
        assert edited.data[0].b64_json
        text = client.audio.transcriptions.create(model="m", file=("a.wav", b"RIFF", "audio/wav"))
        assert len(text.text.split()) == 16
        job = client.videos.create(model="m", prompt="a bird", seconds="4")
        assert job.status == "queued"
        assert client.videos.retrieve(job.id).status == "completed"
        assert client.videos.download_content(job.id).read()[4:8] == b"ftyp"


# -- a run of ours


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("endpoint", ["messages", "responses", "huggingface_generate"])
def test_a_run_counts_what_the_ledger_has(serve: Serve, endpoint: str, streaming: bool) -> None:
    talk = {} if endpoint == "huggingface_generate" else TALK
    sim = serve(tokens_per_chunk=[1, 3, 2], **talk)
    run = sim.run(endpoint_type=endpoint, streaming=streaming, osl=40)
    assert run.exit_code == 0, kinds(run)
    ledger = sim.by_id()
    names = run.columns.strings("request_id")
    prompt, completion = run.columns.scalar("usage_prompt"), run.columns.scalar("usage_completion")
    reasoning = run.columns.scalar("usage_reasoning")
    for request, name in enumerate(names):
        row = ledger[str(name)]
        # TGI says how long the prompt was in streams alone.
        if streaming or endpoint != "huggingface_generate":
            assert prompt[request] == row["prompt_tokens"]
        assert (completion[request], row["sent_tokens"]) == (40, 40)
        if endpoint == "responses":
            assert reasoning[request] == row["reasoning_tokens"] == 6
    summary = run.summary()
    assert summary["output_sequence_length"].avg == 40
    assert summary["input_sequence_length"].avg == 20
    if endpoint != "huggingface_generate":
        assert summary["reasoning_token_count"].avg == 6
    if streaming:
        content = np.concatenate([batch.is_content for batch in run.columns.batches()])
        assert int(content.sum()) == sum(row["num_chunks"] for row in ledger.values())


@pytest.mark.parametrize("endpoint", ["messages", "responses", "huggingface_generate"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "status", "status": 529}, ErrorKind.HTTP_STATUS),
        ({"kind": "error_in_200", "after_chunks": 2}, ErrorKind.ERROR_IN_REPLY),
        ({"kind": "error_in_200", "as": "json"}, ErrorKind.ERROR_IN_REPLY),
        ({"kind": "cut", "after_chunks": 2}, ErrorKind.CUT),
        ({"kind": "cut", "after_chunks": 2, "mid_event": True}, ErrorKind.CUT),
        ({"kind": "malformed", "after_chunks": 2}, ErrorKind.MALFORMED),
        ({"kind": "empty", "leaves": "no_body"}, ErrorKind.EMPTY_REPLY),
        ({"kind": "empty"}, ErrorKind.EMPTY_REPLY),
    ],
)
def test_every_fault_is_the_kind_it_is_on_chat(
    serve: Serve, endpoint: str, fault: dict[str, object], kind: ErrorKind
) -> None:
    run = serve(faults=[{**fault, "requests": [2]}]).run(endpoint_type=endpoint, request_count=4, concurrency=1)
    assert kinds(run) == {ErrorKind.OK: 3, kind: 1}


@pytest.mark.parametrize("endpoint", ["embeddings", "nim_embeddings", "chat_embeddings", "image_generation"])
def test_results_come_after_the_time_to_first_token(serve: Serve, endpoint: str) -> None:
    sim = serve(ttft_ms=30)
    run = sim.run(endpoint_type=endpoint, streaming=False, request_count=6, concurrency=2)
    assert run.exit_code == 0, kinds(run)
    rows = sim.ledger()
    assert all(row["prompt_tokens"] == 20 for row in rows)
    assert all(row["end_ns"] - row["received_ns"] >= 30e6 for row in rows)
    least = run.summary()["request_latency"].min
    assert least is not None
    assert least >= 30


def test_cached_input_is_counted_apart_by_messages_and_added_by_a_run(serve: Serve) -> None:
    sim = serve(engine={})
    run = sim.run(endpoint_type="messages", request_count=4, concurrency=1, isl=200, shared_system_prompt_length=400)
    assert run.exit_code == 0
    ledger = sim.by_id()
    cached = run.columns.scalar("usage_cached")
    for i, name in enumerate(run.columns.strings("request_id")):
        row = ledger[str(name)]
        assert run.columns.scalar("usage_prompt")[i] == row["prompt_tokens"]
        assert cached[i] == row["cached_tokens"]
    assert cached.max() >= 384


# -- what is refused


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/messages", {"max_tokens": 3, "messages": ASK}, "anthropic-version"),
        ("/v1/responses", {"messages": ASK}, "`input`"),
        ("/generate", {"prompt": "x"}, "`inputs`"),
        ("/v2/rerank", {"documents": ["a"]}, "`query`"),
        ("/rerank", {"query": "q"}, "`texts`"),
        ("/v1/ranking", {"query": {"text": "q"}}, "`passages`"),
        ("/v1/images/edits", {"prompt": "x"}, "`image`"),
        ("/v1/audio/transcriptions", {"prompt": "x"}, "`file`"),
    ],
)
def test_a_request_that_lacks_what_it_needs_is_refused(serve: Serve, path: str, body: object, says: str) -> None:
    status, told = post(serve(), path, body)
    assert status == 400
    assert says in told.decode()


def test_rankings_are_in_order_of_their_scores(serve: Serve) -> None:
    sim = serve()
    for path, body, score, rows in [
        ("/v2/rerank", {"query": "q", "documents": ["a", "b", "c"]}, "relevance_score", "results"),
        ("/v1/ranking", {"query": {"text": "q"}, "passages": [{"text": t} for t in "abc"]}, "logit", "rankings"),
        ("/rerank", {"query": "q", "texts": ["a", "b", "c"]}, "score", None),
    ]:
        status, told = post(sim, path, body)
        assert status == 200, told
        found = json.loads(told)[rows] if rows else json.loads(told)
        assert sorted(row["index"] for row in found) == [0, 1, 2]
        assert [row[score] for row in found] == sorted((row[score] for row in found), reverse=True)
    assert [row["prompt_tokens"] for row in sim.ledger()] == [4, 4, 4]


def test_a_job_that_fails_says_so(serve: Serve) -> None:
    sim = serve(faults=[{"kind": "error_in_200"}])
    body, content_type = form(prompt="a bird", model="m")
    told = httpcore2.request("POST", f"{sim.url}/v1/videos", headers={"Content-Type": content_type}, content=body)
    name = json.loads(told.content)["id"]
    state = json.loads(httpcore2.request("GET", f"{sim.url}/v1/videos/{name}").content)
    assert (state["status"], state["error"]["code"]) == ("failed", "server_error")


NO_STREAMS = {
    "embeddings": "usage_prompt",
    "nim_embeddings": "usage_prompt",
    "chat_embeddings": "usage_prompt",
    "cohere_rankings": "usage_prompt",
    "nim_rankings": "usage_prompt",
    "hf_tei_rankings": None,
    "image_generation": "usage_prompt",
    "solido_rag": None,
    "completions": "usage_prompt",
    "chat": "usage_prompt",
}
"""APIs, and the column of what their responses say of the prompt's tokens."""


@pytest.mark.parametrize("endpoint", NO_STREAMS)
def test_input_lengths_are_those_of_the_ledger(serve: Serve, endpoint: str) -> None:
    sim = serve()
    run = sim.run(endpoint_type=endpoint, streaming=False, isl_stddev=6, request_count=12)
    assert run.exit_code == 0, kinds(run)
    ledger = sim.by_id()
    told = NO_STREAMS[endpoint]
    for i, name in enumerate(run.columns.strings("request_id")):
        tokens = ledger[str(name)]["prompt_tokens"]
        assert run.columns.scalar("isl")[i] == tokens
        if told is not None:
            assert run.columns.scalar(told)[i] == tokens


@pytest.mark.parametrize("endpoint", [*NO_STREAMS, "image_edit", "image_retrieval", "audio_transcription"])
@pytest.mark.parametrize("status", [401, 429, 503])
def test_an_error_of_each_api_is_a_failed_request_with_the_server_s_words(
    serve: Serve, endpoint: str, status: int
) -> None:
    media: dict[str, object] = {}
    if endpoint.startswith("image_") and endpoint != "image_generation":
        media = {"image_width_mean": 8, "image_height_mean": 8}
    elif endpoint.startswith("audio"):
        media = {"audio_length_mean": 0.1}
    faults = [{"kind": "status", "status": status, "requests": [2]}]
    run = serve(faults=faults).run(endpoint_type=endpoint, streaming=False, request_count=4, concurrency=1, **media)
    assert kinds(run) == {ErrorKind.OK: 3, ErrorKind.HTTP_STATUS: 1}
    rows = [json.loads(r) for r in (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()]
    (error,) = [row["error"] for row in rows if row.get("error")]
    assert error["code"] == status
    assert error["message"]

"""Endpoints: the bodies their APIs want, and where in their replies things are."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path

import pytest

from aiperf import registry
from aiperf.config.resolve import config_from
from aiperf.endpoints import BodyOptions, Endpoint, Where, headers_of, load_endpoint, path_of
from aiperf.endpoints.form import CONTENT_TYPE, File, form_text, split_medium
from aiperf.endpoints.response_field import pointers_for
from aiperf.errors import ConfigError, DatasetError
from aiperf.session import Message, Turn

PIXEL = "data:image/png;base64,QQ=="
OPTIONS = BodyOptions(model="m", streaming=True)


def body(name: str, turn: Turn, history: tuple[Message, ...] = (), **options: object) -> dict[str, object]:
    fields: dict[str, object] = {"model": "m", "streaming": True, **options}
    return load_endpoint(name).body(turn, history, BodyOptions(**fields))  # type: ignore[arg-type]  # a table's rows


def user(*texts: str) -> Message:
    return Message(role="user", parts=(texts[0],), more=tuple((t,) for t in texts[1:]))


def seen(*texts: str, images: tuple[str, ...] = (), audios: tuple[str, ...] = ()) -> Turn:
    return Turn(messages=(Message(role="user", parts=texts, images=images, audios=audios),))


def test_every_file_is_an_endpoint_with_path_and_pointers() -> None:
    names = registry.names("endpoints")
    assert {"chat", "completions", "embeddings", "messages", "nim_rankings", "responses"} <= set(names)
    for name in registry.names("endpoints"):
        endpoint = load_endpoint(name)
        assert isinstance(endpoint, Endpoint)
        assert endpoint.path.startswith("/") or name in {"raw", "template"}
        for pointers in (endpoint.pointers, endpoint.plain_pointers):
            lists = [
                v for v in (getattr(pointers, field) for field in type(pointers).model_fields) if isinstance(v, tuple)
            ]
            found = [p for entries in lists for p in entries]
            wheres = [p for p in found if isinstance(p, Where)]
            plain = [p if isinstance(p, str) else p.pointer for p in found]
            assert all(p.startswith("/") for p in (*plain, *(c for w in wheres for c in w.where)))
        assert bool(endpoint.plain_pointers.text) == endpoint.features.tokens_out
        assert endpoint.is_form == (CONTENT_TYPE in endpoint.headers)


def test_endpoint_with_a_dash_is_the_same_and_a_wrong_name_gets_a_hint() -> None:
    assert load_endpoint("nim-rankings").path == "/v1/ranking"
    with pytest.raises(ConfigError, match="no endpoint is named `chatt`") as caught:
        load_endpoint("chatt")
    assert "`chat`" in str(caught.value.problems[0].hint)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"max_completion_tokens": 5, "stream_options": {"include_usage": True}}),
        ({"legacy_max_tokens": True, "streaming": False}, {"max_tokens": 5, "stream": False}),
        ({"ignore_eos": True, "force_min_tokens": True}, {"ignore_eos": True, "min_tokens": 5}),
        ({"include_usage": False}, {"stream": True}),
        ({"extra": {"temperature": 0, "max_completion_tokens": 9}}, {"temperature": 0, "max_completion_tokens": 9}),
        ({"extra": {"stream": False}}, {"stream": False}),
        (
            {"extra": {"stream_options": {"continuous_usage_stats": True}}},
            {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        ({"extra": {"stream_options": {"include_usage": False}}}, {"stream_options": {"include_usage": False}}),
        ({"extra": {"stream_options": None}}, {"stream_options": {"include_usage": True}}),
    ],
)
@pytest.mark.parametrize("name", ["chat", "completions"])
def test_options_are_in_the_body(name: str, options: dict[str, object], expected: dict[str, object]) -> None:
    made = body(name, Turn(messages=(user("x"),), osl=5), (), **options)
    if name == "completions" and "max_completion_tokens" not in dict(options.get("extra", {})):  # type: ignore[call-overload]
        expected = {("max_tokens" if k == "max_completion_tokens" else k): v for k, v in expected.items()}
    assert {k: made[k] for k in expected} == expected
    assert ("stream_options" in made) == (made["stream"] is True and options.get("include_usage", True) is True)


@pytest.mark.parametrize(
    ("turn", "extra", "is_sent"),
    [
        (Turn(messages=(user("x"),)), {}, False),
        (Turn(messages=(user("x"),), osl=5), {}, True),
        (Turn(messages=(user("x"),)), {"max_tokens": 5}, True),
        (Turn(messages=(user("x"),)), {"max_tokens": None}, False),
        (Turn(messages=(user("x"),), extra={"max_completion_tokens": 5}), {}, True),
    ],
)
@pytest.mark.parametrize("name", ["chat", "completions"])
def test_end_of_text_is_ignored_only_up_to_a_length(
    name: str, turn: Turn, extra: dict[str, object], *, is_sent: bool
) -> None:
    """Without one a real server generates until its context is full: 200 s for two requests of everybody's first command."""
    made = body(name, turn, (), ignore_eos=True, force_min_tokens=True, extra=extra)
    assert made.get("ignore_eos") is (True if is_sent else None)
    assert ("min_tokens" in made) == (turn.osl is not None)


def test_a_turns_own_fields_win_over_the_users() -> None:
    made = body("chat", Turn(messages=(user("x"),), extra={"seed": 2}), extra={"seed": 1, "top_p": 0.5})
    assert (made["seed"], made["top_p"]) == (2, 0.5)


def test_chat_history_comes_first_and_tools_are_sent() -> None:
    tools = ({"type": "function", "function": {"name": "f"}},)
    made = body(
        "chat",
        Turn(messages=(user("now"),), tools=tools),
        (user("before"), Message(role="assistant", parts=("answer",))),
    )
    assert [m["role"] for m in made["messages"]] == ["user", "assistant", "user"]  # type: ignore[attr-defined]
    assert made["tools"] == list(tools)


def test_chat_content_is_a_list_where_a_message_has_more_than_one_text() -> None:
    message = Message(
        role="user",
        parts=("look",),
        images=("http://i/1.png",),
        audios=("wav,UklGRg==",),
        videos=("http://v/1.mp4",),
        more=(("and",),),
    )
    made = body("chat", Turn(messages=(message,)))["messages"]
    assert made == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": ("look",)},
                {"type": "text", "text": ("and",)},
                {"type": "image_url", "image_url": {"url": "http://i/1.png"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "video_url", "video_url": {"url": "http://v/1.mp4"}},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        ("data:audio/mp3;base64,QQ==", {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}}),
        ("https://a/b.wav", {"type": "audio_url", "audio_url": {"url": "https://a/b.wav"}}),
    ],
)
def test_audio_in_other_forms(audio: str, expected: dict[str, object]) -> None:
    made = body("chat", Turn(messages=(Message(role="user", parts=(), audios=(audio,)),)))["messages"]
    assert made == [{"role": "user", "content": [expected]}]


def test_chat_messages_of_tools_keep_their_fields() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = Message(role="assistant", parts=(), extra={"tool_calls": [call]})
    answered = Message(role="tool", parts=("42",), extra={"tool_call_id": "1"})
    assert body("chat", Turn(messages=(asked, answered)))["messages"] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": ("42",), "tool_call_id": "1"},
    ]


def test_named_texts_are_one_chat_message() -> None:
    messages = (
        Message(role="user", parts=("q",), name="query"),
        Message(role="user", parts=("p1",), name="passages", more=(("p2",),)),
    )
    assert body("chat", Turn(messages=messages))["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": (t,)} for t in ("q", "p1", "p2")]}
    ]


def test_completions_join_the_conversation() -> None:
    made = body("completions", Turn(messages=(user("c"),)), (user("a"), Message(role="assistant", parts=("b",))))
    assert made["prompt"] == ("a", " ", "b", " ", "c")
    assert body("completions", Turn(messages=(user("a", "b"),)))["prompt"] == [("a",), ("b",)]


def test_embeddings_take_a_batch_and_nothing_of_generation() -> None:
    made = body("embeddings", Turn(messages=(user("a", "b"),), osl=7), extra={"dimensions": 8})
    assert made == {"model": "m", "input": [("a",), ("b",)], "dimensions": 8}


def test_rankings_need_a_query() -> None:
    messages = (
        Message(role="user", parts=("q",), name="query"),
        Message(role="user", parts=("a",), name="passages", more=(("b",),)),
    )
    assert body("nim_rankings", Turn(messages=messages)) == {
        "model": "m",
        "query": {"text": ("q",)},
        "passages": [{"text": ("a",)}, {"text": ("b",)}],
    }
    with pytest.raises(DatasetError, match="needs a text named `query`"):
        body("nim_rankings", Turn(messages=(user("x"),)))


def test_pointers_are_the_apis() -> None:
    chat, completions = load_endpoint("chat"), load_endpoint("completions")
    # A refusal is output as well, and the parts of Mistral's lists.
    told = ("/choices/0/delta/content", "/choices/0/delta/refusal", "/choices/0/delta/content/*/text")
    assert chat.pointers.text == told
    assert chat.pointers.reasoning == (
        "/choices/0/delta/reasoning_content",
        "/choices/0/delta/reasoning",
        "/choices/0/delta/content/*/thinking/*/text",
    )
    assert "/choices/0/delta/tool_calls" in chat.pointers.tool
    assert chat.plain_pointers.text == tuple(p.replace("/delta/", "/message/") for p in told)
    assert completions.pointers.text == completions.plain_pointers.text == ("/choices/0/text",)
    for endpoint in (chat, completions):
        assert endpoint.pointers.error == ("/error",)
        assert "/usage/completion_tokens_details/reasoning_tokens" in endpoint.pointers.usage_reasoning
        assert "/usage/prompt_tokens_details/cached_tokens" in endpoint.pointers.usage_cached


CHAT_TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}},
}
PICTURE = Message(role="user", parts=("what?",), images=("data:image/png;base64,QUJD", "https://host/a.png"))


@pytest.mark.parametrize(
    ("turn", "options", "expected"),
    [
        (
            Turn(messages=(user("x"),)),
            {},
            {"messages": [{"role": "user", "content": ("x",)}], "max_tokens": 1024, "stream": True, "model": "m"},
        ),
        (Turn(messages=(user("x"),), osl=5), {"streaming": False}, {"max_tokens": 5, "stream": False}),
        (
            Turn(messages=(user("x"),), osl=5),
            {"extra": {"max_tokens": 9, "thinking": {"type": "enabled"}}},
            {"max_tokens": 9},
        ),
        (Turn(messages=(Message(role="system", parts=("be",)), user("x"))), {}, {"system": ("be",)}),
        (
            Turn(messages=(Message(role="system", parts=("be",)), Message(role="developer", parts=("do",)), user("x"))),
            {},
            {"system": [{"type": "text", "text": ("be",)}, {"type": "text", "text": ("do",)}]},
        ),
        (
            Turn(messages=(user("x"),), tools=(CHAT_TOOL, {"name": "own", "input_schema": {}})),
            {},
            {
                "tools": [
                    {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}},
                    {"name": "own", "input_schema": {}},
                ]
            },
        ),
        (
            Turn(messages=(PICTURE,)),
            {},
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                            {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
                            {"type": "text", "text": ("what?",)},
                        ],
                    }
                ]
            },
        ),
    ],
)
def test_messages_bodies(turn: Turn, options: dict[str, object], expected: dict[str, object]) -> None:
    made = body("messages", turn, (), **options)
    assert {k: made[k] for k in expected} == expected
    assert "stream_options" not in made
    assert all(m["role"] not in {"system", "developer"} for m in made["messages"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (
            Turn(messages=(user("x"),)),
            {"model": "m", "input": [{"role": "user", "content": ("x",), "type": "message"}], "stream": True},
        ),
        (
            Turn(messages=(Message(role="system", parts=("be",)), user("x")), osl=5),
            {
                "input": [
                    {"role": "system", "content": ("be",), "type": "message"},
                    {"role": "user", "content": ("x",), "type": "message"},
                ],
                "max_output_tokens": 5,
            },
        ),
        (
            Turn(messages=(user("x"),), tools=(CHAT_TOOL,)),
            {"tools": [{"type": "function", **CHAT_TOOL["function"]}]},  # type: ignore[dict-item]
        ),
        (
            Turn(
                messages=(
                    Message(role="user", parts=("hear",), images=("data:image/png;base64,QQ==",), audios=("wav,QQ==",)),
                )
            ),
            {
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": ("hear",)},
                            {"type": "input_image", "image_url": "data:image/png;base64,QQ=="},
                            {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
                        ],
                        "type": "message",
                    }
                ]
            },
        ),
    ],
)
def test_responses_bodies(turn: Turn, expected: dict[str, object]) -> None:
    made = body("responses", turn)
    assert {k: made[k] for k in expected} == expected
    assert "max_tokens" not in made
    assert "stream_options" not in made


QUERY = (
    Message(role="user", parts=("q",), name="query"),
    Message(role="user", parts=("a",), name="passages", more=(("b",),)),
)


@pytest.mark.parametrize(
    ("name", "turn", "expected"),
    [
        ("cohere_rankings", Turn(messages=QUERY), {"model": "m", "query": ("q",), "documents": [("a",), ("b",)]}),
        ("hf_tei_rankings", Turn(messages=QUERY), {"query": ("q",), "texts": [("a",), ("b",)]}),
        (
            "huggingface_generate",
            Turn(messages=(user("a", "b"),), osl=4),
            {"inputs": ("a", " ", "b"), "parameters": {"details": True, "max_new_tokens": 4}},
        ),
        (
            "nim_embeddings",
            Turn(messages=(Message(role="user", parts=("a",), images=("data:image/png;base64,QQ==",)),)),
            {"model": "m", "input": [("a",), "data:image/png;base64,QQ=="], "input_type": "query"},
        ),
        (
            "chat_embeddings",
            Turn(messages=(user("a"),)),
            {"model": "m", "messages": [{"role": "user", "content": ("a",)}]},
        ),
        (
            "image_generation",
            Turn(messages=(user("a", "b"),)),
            {"model": "m", "prompt": ("a", " ", "b"), "n": 1, "response_format": "b64_json"},
        ),
        ("image_edit", seen("a", images=(PIXEL,)), {"model": "m", "prompt": ("a",), "n": 1, "image": File(PIXEL)}),
        (
            "image_edit",
            seen("a", images=(PIXEL, PIXEL)),
            {"model": "m", "prompt": ("a",), "n": 1, "image": [File(PIXEL), File(PIXEL)]},
        ),
        ("video_generation", Turn(messages=(user("a"),)), {"model": "m", "prompt": ("a",)}),
        (
            "video_generation",
            seen("a", images=(PIXEL,)),
            {"model": "m", "prompt": ("a",), "input_reference": File(PIXEL)},
        ),
        ("image_retrieval", seen(images=(PIXEL,)), {"input": [{"type": "image_url", "url": PIXEL}]}),
        (
            "audio_transcription",
            seen(audios=("wav,QQ==",)),
            {"file": File("wav,QQ=="), "model": "m", "response_format": "json"},
        ),
        (
            "solido_rag",
            Turn(messages=(user("a", "b"),)),
            {
                "query": [("a",), ("b",)],
                "filters": {"family": "Solido", "tool": "SDE"},
                "inference_model": "m",
                "stream": True,
            },
        ),
    ],
)
def test_bodies_of_the_other_apis(name: str, turn: Turn, expected: dict[str, object]) -> None:
    assert body(name, turn) == expected


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"endpoint_type": "huggingface_generate"}, "/generate"),
        ({"endpoint_type": "huggingface_generate", "streaming": True}, "/generate_stream"),
        ({"endpoint_type": "huggingface_generate", "streaming": True, "endpoint": "/x"}, "/x"),
        ({"endpoint_type": "messages", "streaming": True}, "/v1/messages"),
    ],
)
def test_streaming_has_a_path_of_its_own_where_the_api_says_so(options: dict[str, object], path: str) -> None:
    assert path_of(config_from({"model": "m", **options})) == path


VERSION = ("anthropic-version", "2023-06-01")
MESSAGES = {"endpoint_type": "messages"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"api_key": "k"}, (("Authorization", "Bearer k"),)),
        ({"api_key": "k", "header": "authorization:mine"}, (("authorization", "mine"),)),
        (MESSAGES, (VERSION,)),
        ({**MESSAGES, "api_key": "k"}, (("x-api-key", "k"), VERSION)),
        ({**MESSAGES, "api_key": "k", "header": "Authorization:mine"}, (VERSION, ("Authorization", "mine"))),
        ({**MESSAGES, "api_key": "k", "header": "X-Api-Key:mine"}, (VERSION, ("X-Api-Key", "mine"))),
        ({**MESSAGES, "header": "Anthropic-Version:2030-01-01"}, (("Anthropic-Version", "2030-01-01"),)),
    ],
)
def test_each_api_has_its_own_headers_and_the_users_win(
    options: dict[str, object], expected: tuple[tuple[str, str], ...]
) -> None:
    assert headers_of(config_from({"model": "m", **options})) == expected


def test_a_form_is_what_the_standard_library_reads() -> None:
    fields = {
        "a": 'x "y"\n',
        "n": 2,
        "flag": True,
        "gone": None,
        "file": [File("data:image/png;base64,QQ=="), File("wav,Qg==")],
    }
    text = form_text({**fields, "link": File("https://h/x.png")})
    message = message_from_bytes(f"{CONTENT_TYPE[0]}: {CONTENT_TYPE[1]}\r\n\r\n{text}".encode(), policy=HTTP)
    found = [
        (part.get_param("name", header="content-disposition"), part.get_content_type(), part.get_payload())
        for part in message.iter_parts()
    ]
    assert found == [
        ("a", "text/plain", 'x "y"\n'),
        ("n", "text/plain", "2"),
        ("flag", "text/plain", "true"),
        ("file", "image/png", "QQ=="),
        ("file", "audio/wav", "Qg=="),
        ("link", "text/plain", "https://h/x.png"),
    ]


@pytest.mark.parametrize(
    ("medium", "parts"),
    [
        ("data:image/png;base64,QQ==", ("data:image/png;base64,", "QQ==")),
        ("wav,QQ==", ("wav,", "QQ==")),
        ("https://h/a,b.png", ("https://", "h/a,b.png")),
        ("QQ==", ("", "QQ==")),
    ],
)
def test_a_medium_is_its_kind_and_its_data(medium: str, parts: tuple[str, str]) -> None:
    assert split_medium(medium) == parts


@pytest.mark.parametrize(
    ("path", "pointers"),
    [
        ("choices[0].message.content", ("/choices/0/message/content",)),
        ("a.b[*].c", ("/a/b/*/c",)),
        ('"a/b".c', ("/a~1b/c",)),
        ("a || b.c", ("/a", "/b/c")),
    ],
)
def test_a_response_field_is_a_pointer(path: str, pointers: tuple[str, ...]) -> None:
    assert pointers_for(path).text == pointers


@pytest.mark.parametrize("path", [".a", "a[-1]", "length(a)", "a[?b]", "a b"])
def test_a_response_field_beyond_us_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="is not understood"):
        pointers_for(path)


def test_a_template_is_rendered_and_its_settings_stay_out_of_the_body() -> None:
    source = (
        '{"q": {{ query|tojson }}, "p": {{ passages|tojson }}, "all": {{ texts|length }}, "n": {{ max_tokens or 0 }}}'
    )
    query = Message(role="user", parts=("a",), name="query")
    turn = Turn(messages=(query, Message(role="user", parts=("b",), more=(("c",),), name="passages")), osl=5)
    extra = {"payload_template": source, "response_field": "x", "k": 1}
    endpoint = load_endpoint("template").configured(extra)
    options = BodyOptions(model="m", streaming=False, extra=extra)
    assert endpoint.body(turn, (), options) == {"q": "a", "p": ["b", "c"], "all": 3, "n": 5, "k": 1}
    assert endpoint.plain_pointers.text == ("/x",)
    with pytest.raises(DatasetError, match="does not render to JSON"):
        load_endpoint("template").configured({"payload_template": "{{ text }}"}).body(turn, (), options)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_endpoint("template").configured({"payload_template": "{% if %}"})
    with pytest.raises(ConfigError, match="needs a template"):
        load_endpoint("template").configured({})
    with pytest.raises(DatasetError, match="`--endpoint-type raw`"):
        load_endpoint("raw").body(turn, (), options)


def test_every_endpoint_is_tested_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{name}"' in text for name in registry.names("endpoints"))

"""Ids of images, rows chosen by their columns, and whole conversations as rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.datasets.test_datasets import DATA, lines, load, texts

from aiperf.errors import DatasetError
from aiperf.session import Session

CHAT = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def ids(session: Session) -> list[list[tuple[str, str | None]]]:
    """(image, its id) by turn."""
    return [
        [pair for m in t.messages for pair in zip(m.images, m.image_ids or (None,) * len(m.images), strict=True)]
        for t in session.turns
    ]


def test_images_have_ids_and_are_sent_once_per_session(file: Path) -> None:
    """An image stays where its session has not sent it before, and twice within one request."""
    image, other_image = "http://h/a", "http://h/b"
    rows = [
        {"session_id": "s", "text": "1", "images": [image, other_image, image], "image_uuids": ["A", "B", "A"]},
        {"session_id": "s", "text": "2", "images": [{"contents": [image, image], "uuids": ["A", "C"]}]},
        {"session_id": "s", "text": "3", "images": [other_image, "http://h/plain"]},
        {"session_id": "t", "text": "4", "images": [image], "image_uuids": ["A"]},
        {"session_id": "t", "text": "5", "image_uuids": ["A", "Z"]},
    ]
    lines(file, *rows)
    first, second = load("single_turn", file)
    assert ids(first)[0] == [(image, "A"), (other_image, "B"), (image, "A")]
    assert ids(second)[1] == [("", "A"), ("", "Z")]
    first, second = load("single_turn", file, strip_images=True)
    assert ids(first) == [
        [(image, "A"), (other_image, "B"), (image, "A")],
        [("", "A"), (image, "C")],
        [(other_image, None), ("http://h/plain", None)],
    ]
    assert ids(second) == [[(image, "A")], [("", "A"), ("", "Z")]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"images": ["x", "y"], "image_uuids": ["a"]}, "`image_uuids` has 1 ids for 2 images"),
        ({"images": ["x"], "image_uuids": [""]}, "`image_uuids` must not be empty texts"),
        ({"image": "x", "image_uuids": ["a"]}, "`image_uuids` are for `images`, not for `image`"),
        ({"images": [{"contents": ["x"], "uuids": ["a", "b"]}]}, "`uuids` has 2 ids for 1 images"),
        ({"images": [{"contents": ["x"]}], "image_uuids": ["a"]}, "others have `uuids`"),
    ],
)
def test_ids_that_do_not_fit_their_images_are_said(file: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        load("single_turn", lines(file, {"text": "t", **row}))


def test_rows_are_filtered_by_the_values_of_columns(file: Path) -> None:
    rows = [
        {"prompt": "a", "level": 1, "meta": {"lang": "en"}},
        {"prompt": "b", "level": 2, "meta": '{"lang": "de", "ok": true}'},
        {"prompt": "c", "level": 1, "meta": {"lang": "de", "ok": True}},
    ]
    lines(file, *rows)

    def filtered(**filters: str) -> list[list[str]]:
        return [texts(s.turns[0]) for s in load("hf", file, prompt_field="prompt", filters=filters)]

    assert filtered(level="1") == [["a"], ["c"]]
    assert filtered(**{"meta.lang": "de"}) == [["b"], ["c"]]
    assert filtered(**{"meta.lang": "de", "level": "1"}) == [["c"]]
    with pytest.raises(DatasetError, match=r"no row of .* has level=7"):
        filtered(level="7")
    with pytest.raises(DatasetError, match="has no column `lang` to filter by") as raised:
        filtered(lang="de")
    assert raised.value.hint == "columns: `prompt`, `level`, `meta`"


def test_conversations_are_replayed_up_to_each_response(file: Path) -> None:
    first, second = load("mooncake_hf", DATA / "mooncake_hf.jsonl")
    assert [[m.role for m in t.messages] for t in first.turns] == [
        ["system", "user"],
        ["system", "user", "assistant", "tool"],
    ]
    assert all(t.fresh for t in first.turns)
    call = first.turns[1].messages[2].extra["tool_calls"]
    assert call == [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":1}'}}]
    assert [dict(t) for t in first.turns[0].tools] == [{"type": "function", "function": {"name": "add"}}]
    assert (first.turns[0].osl, dict(first.turns[0].extra)) == (20, {"temperature": 0.0})
    assert (second.id, second.turns[0].osl, dict(second.turns[0].extra)) == ("row-2", 7, {"seed": 1})
    (only,) = load("mooncake_hf", DATA / "mooncake_hf.jsonl", filters={"difficulty": "hard"})
    assert only.id == "row-2"
    row = {
        "id": 5,
        "data": {"turns": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        "t": 0.5,
    }
    mapping = {"messages": "data.turns", "session_id": "id", "extra.temperature": "t"}
    (mapped,) = load("mooncake_hf", lines(file, row), mapping=mapping)
    assert (mapped.id, dict(mapped.turns[0].extra)) == ("5", {"temperature": 0.5})


def test_recorded_agents_send_each_call_as_it_was() -> None:
    first, second = load("exgentic", DATA / "exgentic.jsonl")
    one, two = first.turns
    assert [(m.role, m.parts) for m in one.messages] == [("system", ("be brief",)), ("user", ("1+1?",))]
    assert (one.osl, dict(one.extra), one.delay_ns) == (20, {"temperature": 0.5, "stop": ["END"]}, 0)
    assert [m.role for m in two.messages] == ["system", "user", "assistant", "tool", "user"]
    answer, result = two.messages[2:4]
    function = {"name": "add", "arguments": '{"a":1,"b":1}'}
    assert answer.extra == {
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    assert (result.parts, result.extra) == (("2",), {"tool_call_id": "c1"})
    assert (two.osl, two.delay_ns, [t["type"] for t in two.tools]) == (12, 1_500_000_000, ["function"])
    assert [m.role for m in second.turns[0].messages] == ["system", "user"]
    assert second.turns[1].delay_ns == 0, "it began before the other had ended"

    alone = load("exgentic", DATA / "exgentic.jsonl", schedule=True)
    assert [(s.id, s.turns[0].at_ns) for s in alone] == [
        ("a:1", 0),
        ("a:0", 2_500_000_000),
        ("b:0", 0),
        ("b:1", 1_250_000_000),
    ]


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"harness": "Tool_Calling"}, ["a"]),
        ({"source_model": "azure/GPT-4.1"}, ["a"]),
        ({"benchmark": "tau2_retail", "harness": "claude_code"}, ["b"]),
    ],
)
def test_recorded_agents_are_chosen_by_what_they_are(filters: dict[str, str], ids: list[str]) -> None:
    assert [s.id for s in load("exgentic", DATA / "exgentic.jsonl", filters=filters)] == ids


def test_recorded_agents_that_are_not_there_are_named(file: Path) -> None:
    with pytest.raises(DatasetError, match="no session has a call that can be sent and harness=other") as raised:
        load("exgentic", DATA / "exgentic.jsonl", filters={"harness": "other"})
    assert raised.value.hint == "there are claude_code/claude-opus-4-5, tool_calling/gpt-4.1"
    with pytest.raises(DatasetError, match="not filtered by `lang`"):
        load("exgentic", DATA / "exgentic.jsonl", filters={"lang": "de"})
    row = json.loads((DATA / "exgentic.jsonl").read_text(encoding="utf-8").splitlines()[0])
    with pytest.raises(DatasetError, match="an id of its own"):
        load("exgentic", lines(file, row, row))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": "m"}, "field `models`: expected a list of names"),
        ({"harness": None}, "field `harness`: expected a text"),
        ({"spans": [1]}, "field `spans`: expected a list of objects"),
        ({"start_time": "noon"}, "field `start_time`: expected a time of ISO 8601"),
        ({"end_time": "2020-01-01"}, "expected a time not before `start_time`"),
        ({"gen_ai.usage.input_tokens": None}, "expected a number of tokens"),
        ({"gen_ai.request.max_tokens": 0}, "expected a number of tokens"),
        ({"gen_ai.request.temperature": "hot"}, "expected a number"),
        ({"gen_ai.request.stop_sequences": "x"}, "expected a list of texts"),
        ({"gen_ai.input.messages": "[]"}, "at least one message"),
        ({"gen_ai.input.messages": "[{"}, "expected JSON"),
        ({"gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "odd"}]}]'}, "expected text, thinking"),
        ({"gen_ai.tool.definitions": '[{"type": "odd"}]'}, "expected functions"),
    ],
)
def test_a_broken_agent_trace_names_its_row_and_field(file: Path, change: dict[str, object], said: str) -> None:
    row = json.loads((DATA / "exgentic.jsonl").read_text(encoding="utf-8").splitlines()[0])
    (name,) = change
    at = row if name in row else row["spans"][1] if name in row["spans"][1] else row["spans"][1]["attributes"]
    at[name] = change[name]
    with pytest.raises(DatasetError, match="line 1: .*" + said):
        load("exgentic", lines(file, row))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": []}, "field `messages`: expected a list of messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, "expected a message of the assistant"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "a message before the first one of the assistant"),
        ({"messages": [{"content": "x"}]}, "objects with a `role`"),
        ({"messages": CHAT, "output_length": -1}, "field `output_length`: expected a number of tokens"),
        ({"messages": CHAT, "extra": {"model": "m"}}, "fields that the request does not have itself"),
        ({"messages": CHAT, "tools": [1]}, "field `tools`: expected a list of objects"),
        ({"text": "x"}, "field `messages`: expected a list of messages"),
    ],
)
def test_a_broken_conversation_names_its_row_and_field(file: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        load("mooncake_hf", lines(file, row))
    good = {"session_id": "g", "messages": CHAT}
    assert len(load("mooncake_hf", lines(file, row, good), skip_invalid=True)) == 1
    with pytest.raises(DatasetError, match="an id of its own"):
        load("mooncake_hf", lines(file, good, good))
    with pytest.raises(DatasetError, match="`nonsense` is no field of a conversation"):
        load("mooncake_hf", file, mapping={"nonsense": "x"})

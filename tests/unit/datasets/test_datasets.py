"""Dataset formats: what a file becomes, and what is said of a broken one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiperf import registry
from aiperf.datasets import DatasetOptions, dataset_module
from aiperf.errors import DatasetError
from aiperf.session import Message, Pause, Reply, Session, Turn

MS = 1_000_000
DATA = Path(__file__).parents[2] / "data" / "datasets"


def opened(name: str, path: Path | None, **options: Any) -> tuple[Iterator[Session], DatasetOptions]:
    module = dataset_module(name)
    made = module.Options.model_validate({"path": path, **options})
    return module.load(made, np.random.default_rng(1)), made


def load(name: str, path: Path | None, **options: Any) -> list[Session]:
    return list(opened(name, path, **options)[0])


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return path


def texts(turn: Turn) -> list[str]:
    return [p for m in turn.messages for parts in (m.parts, *m.more) for p in parts if isinstance(p, str)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def as_plain(session: Session) -> dict[str, object]:
    """For the golden files: what is set, in words of JSON."""
    turns = []
    for each in session.turns:
        turn: dict[str, object] = {}
        for name in ("osl", "at_ns", "delay_ns", "model", "expected", "payload", "fresh", "after"):
            value = getattr(each, name)
            if value not in (None, 0, (), False):
                turn[name] = value if not isinstance(value, tuple) else [list(v) for v in value]
        if each.extra:
            turn["extra"] = dict(each.extra)
        if each.tools:
            turn["tools"] = [dict(tool) for tool in each.tools]
        if each.messages:
            turn["messages"] = [_plain_message(m) for m in each.messages]
        turns.append(turn)
    plain: dict[str, object] = {"id": session.id, "turns": turns}
    if session.system:
        plain["system"] = [str(p) for p in session.system]
    if session.parent:
        plain["parent"] = session.parent
    return plain


def _plain_message(m: Message) -> dict[str, object]:
    plain: dict[str, object] = {"role": m.role, "parts": [str(p) for p in m.parts]}
    for name in ("images", "audios", "videos", "name", "more", "extra", "image_ids"):
        if getattr(m, name):
            plain[name] = getattr(m, name)
    return plain


GOLDEN = {
    "single_turn": "single_turn.jsonl",
    "multi_turn": "multi_turn.jsonl",
    "random_pool": "pools",
    "sharegpt": "sharegpt.json",
    "raw_payload": "raw_payload.jsonl",
    "inputs_json": "inputs.json",
    "hf": "questions.csv",
    "dag_jsonl": "agents.jsonl",
    "speed_bench": "speed_bench.jsonl",
    "mooncake_hf": "mooncake_hf.jsonl",
    "exgentic": "exgentic.jsonl",
    "chat_transcript": "chat_transcript.jsonl",
    "sagemaker_data_capture": "sagemaker_data_capture.jsonl",
}


@pytest.mark.parametrize("name", registry.names("datasets"))
def test_format_is_read_as_its_golden_file_says(name: str, golden: Any) -> None:
    more: dict[str, Any] = {"entries": 4} if name == "random_pool" else {}
    sessions = load(name, DATA / GOLDEN[name], **more)
    text = json.dumps([as_plain(s) for s in sessions], indent=1, ensure_ascii=False, default=list) + "\n"
    golden(f"datasets/{name}.json", text)


@pytest.mark.parametrize("name", [n for n in registry.names("datasets") if n != "hf"])
def test_missing_empty_and_truncated_files_fail_with_their_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no file `.*missing\.jsonl`"):
        load(name, tmp_path / "missing.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\n")
    with pytest.raises(DatasetError, match=r"`.*empty\.jsonl`: it is empty"):
        load(name, empty)


def test_every_format_needs_a_file_or_says_so() -> None:
    for name in ("single_turn", "dag_jsonl", "mooncake_hf", "exgentic"):
        with pytest.raises(DatasetError, match="needs a file"):
            load(name, None)
    with pytest.raises(DatasetError, match="a file or a name on the hub"):
        load("hf", None)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ('{"text": 5}', "`{path}`: line 2: field `text`: expected a valid string, found `5`"),
        ('{"txt": "x"}', "`{path}`: line 2: expected a usable record, found none of `text`, `texts`"),
        ('{"text": "a", "texts": ["b"]}', "`text` and `texts` exclude each other"),
        ('{"text": "a", "timestamp": 1, "delay": 1}', "`timestamp` and `delay` exclude each other"),
        ('{"text": "a", "output_length": 0}', "field `output_length`: expected greater than 0, found `0`"),
        ('["text"]', '`{path}`: line 2: expected a JSON object, found `["text"]`'),
        ('{"text": ', "`{path}`: line 2: expected a JSON object, found damage at column 11"),
    ],
)
def test_broken_line_names_file_line_field_and_value(file: Path, record: str, said: str) -> None:
    file.write_text(f'{{"text": "fine"}}\n{record}\n', encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        load("single_turn", file)
    assert said.replace("{path}", str(file)) in caught.value.message
    sessions, options = opened("single_turn", file, skip_invalid=True)
    assert [s.id for s in sessions] == ["line-1"]
    (note,) = options.notes
    assert note.kind == "invalid_lines"
    assert note.data["count"] == 1


def test_file_cut_in_the_middle_is_called_truncated(file: Path) -> None:
    file.write_text('{"text": "fine"}\n{"text": "no en', encoding="utf-8")
    with pytest.raises(DatasetError, match="truncated: its last line, 2, ends in the middle"):
        load("single_turn", file)


def test_missing_field_lists_what_is_there(file: Path) -> None:
    lines(file, {"session_id": "a", "messages": []})
    with pytest.raises(DatasetError, match="no such field") as caught:
        load("multi_turn", file)
    assert "field `turns`" in caught.value.message
    assert "(there are `session_id`, `messages`)" in caught.value.message


def test_many_broken_lines_are_counted_and_the_first_listed(file: Path) -> None:
    lines(file, *[{"text": "x"} if i % 2 else {} for i in range(400)])
    sessions, options = opened("single_turn", file, skip_invalid=True)
    assert len(list(sessions)) == 200
    (note,) = options.notes
    assert note.data["count"] == 200
    assert len(note.data["lines"]) == 100  # type: ignore[arg-type]
    assert note.text.startswith("200 records left out")


def test_gzip_is_read_and_broken_gzip_named(tmp_path: Path) -> None:
    packed = tmp_path / "data.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}\n'))
    assert [texts(s.turns[0]) for s in load("single_turn", packed)] == [["a"], ["b"]]
    packed.write_bytes(packed.read_bytes()[:20])
    with pytest.raises(DatasetError, match="truncated"):
        load("single_turn", packed)
    packed.write_bytes(b"plain")
    with pytest.raises(DatasetError, match="not gzip data"):
        load("single_turn", packed)


def test_single_turn_sessions_are_sequences_without_history(file: Path) -> None:
    lines(file, {"text": "a", "session_id": "s"}, {"text": "x"}, {"text": "b", "session_id": "s", "delay": 1.5})
    first, second = load("single_turn", file)
    assert (first.id, [t.fresh for t in first.turns], first.turns[1].delay_ns) == ("s", [True, True], 3 * MS // 2)
    assert (second.id, second.turns[0].fresh) == ("line-2", False)


def test_files_become_data_urls_and_missing_ones_are_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "i.png").write_bytes(b"\x89PNG")
    lines(file, {"text": "a", "image": "i.png"}, {"image": "https://x/y.png"}, {"audio": "wav,QUJD"})
    found = [s.turns[0].messages[0] for s in load("single_turn", file)]
    assert found[0].images == ("data:image/png;base64,iVBORw==",)
    assert (found[1].parts, found[1].images) == ((), ("https://x/y.png",))
    assert found[2].audios == ("wav,QUJD",)
    lines(file, {"image": "no.png"})
    with pytest.raises(DatasetError, match=r"the image `no\.png` is neither a URL nor a file"):
        load("single_turn", file)


def test_multi_turn_sorts_by_timestamps_and_hoists_the_system_turn(file: Path) -> None:
    turns = [{"role": "system", "text": "S"}, {"text": "b", "timestamp": 20}, {"text": "a", "timestamp": 10}]
    lines(file, {"session_id": "s", "turns": turns}, {"session_id": "s", "turns": [{"text": "c", "timestamp": 30}]})
    (session,) = load("multi_turn", file)
    assert session.system == ("S",)
    assert [(texts(t), t.at_ns) for t in session.turns] == [(["a"], 10 * MS), (["b"], 20 * MS), (["c"], 30 * MS)]


def test_random_pool_draws_with_replacement_and_is_seeded(file: Path) -> None:
    lines(file, *[{"text": str(i)} for i in range(5)])
    first = load("random_pool", file, entries=50)
    assert len(first) == len({s.id for s in first}) == 50
    assert {t for s in first for t in texts(s.turns[0])} == set("01234")
    assert first == load("random_pool", file, entries=50)


def test_a_folders_pools_give_their_texts_the_names_of_their_files(tmp_path: Path) -> None:
    """As AIPerf: `queries.jsonl` and `passages.jsonl` with plain texts make rankings; a text's own name stays."""
    lines(tmp_path / "passages.jsonl", {"text": "p"}, {"texts": [{"name": "other", "contents": ["p"]}]})
    lines(tmp_path / "queries.jsonl", {"text": "q"})
    found = load("random_pool", tmp_path, entries=40)
    assert {tuple(m.name for m in s.turns[0].messages) for s in found} == {
        ("passages", "queries"),
        ("other", "queries"),
    }
    (alone,) = load("random_pool", tmp_path / "queries.jsonl", entries=1)
    assert alone.turns[0].messages[0].name is None


def test_random_pool_batches_draw_each_medium_on_its_own(file: Path) -> None:
    lines(file, *[{"text": str(i), "image": f"http://x/{i}"} for i in range(9)])
    message = load("random_pool", file, entries=1, batch_size=4)[0].turns[0].messages[0]
    assert len(message.more) == 3
    assert len(message.images) == 1
    with pytest.raises(DatasetError, match="cannot be drawn from a folder"):
        load("random_pool", DATA / "pools", batch_size=2)


def test_sharegpt_takes_the_first_pair_or_the_conversation(file: Path) -> None:
    said = [
        {"from": "system", "value": "S"},
        *[{"from": f, "value": f"{f}{i}"} for i in range(2) for f in ("human", "gpt")],
    ]
    lines(
        file,
        {"id": "a", "conversations": said},
        {"id": "b", "conversations": said[:1]},
        {"id": "a", "conversations": said},
    )
    sessions, options = opened("sharegpt", file)
    found = list(sessions)
    assert [s.id for s in found] == ["a", "a (line 3)"]
    assert [(texts(t), t.expected) for t in found[0].turns] == [(["human0"], "gpt0")]
    assert found[0].system == ("S",)
    assert [n.kind for n in options.notes] == ["no_answer"]
    every = load("sharegpt", file, turns="all")[0]
    assert [(texts(t), t.expected) for t in every.turns] == [(["human0"], "gpt0"), (["human1"], "gpt1")]


def test_raw_payload_folder_has_a_conversation_per_file(tmp_path: Path) -> None:
    lines(tmp_path / "b.jsonl", {"messages": [1]}, {"messages": [2], "max_tokens": 3})
    lines(tmp_path / "a.jsonl", {"messages": [3]})
    first, second = load("raw_payload", tmp_path)
    assert (first.id, second.id) == ("a", "b")
    assert [(t.payload, t.osl) for t in second.turns] == [
        ({"messages": [1]}, None),
        ({"messages": [2], "max_tokens": 3}, 3),
    ]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"payloads": [{}]}, "`{path}`: item 1: field `session_id`: expected text, found no such field"),
        ({"session_id": "a", "payloads": []}, "field `payloads`: expected a list of request bodies, found `[]`"),
    ],
)
def test_inputs_json_names_the_broken_item(tmp_path: Path, item: object, said: str) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps({"data": [item]}), encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        load("inputs_json", path)
    assert said.replace("{path}", str(path)) in caught.value.message


def test_inputs_json_tells_of_sessions_it_has_no_bodies_of(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(
        json.dumps({"data": [{"session_id": "a", "payloads": [{"x": 1}]}], "recipe": [1, 2]}), encoding="utf-8"
    )
    sessions, options = opened("inputs_json", path)
    assert [s.id for s in sessions] == ["a"]
    assert [n.data["count"] for n in options.notes] == [2]


def test_hf_finds_well_known_columns_and_takes_named_ones(file: Path) -> None:
    lines(file, {"n": 1, "question": "q", "answer": "a b", "tokens": "7", "sys": "S", "key": "k"})
    (found,) = load("hf", file)
    assert (found.id, texts(found.turns[0]), found.turns[0].expected) == ("row-1", ["q"], None)
    named = {"prompt_field": "question", "answer_field": "answer", "output_length_field": "tokens"}
    (found,) = load("hf", file, system_field="sys", id_field="key", **named)
    assert (found.id, found.system, found.turns[0].osl, found.turns[0].expected) == ("k", ("S",), 7, "a b")


def test_hf_messages_of_both_kinds_give_questions_and_answers(file: Path) -> None:
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    lines(file, {"messages": [*chat, {"role": "user", "content": "q2"}]})
    (first,) = load("hf", file)
    assert (first.system, [texts(t) for t in first.turns], first.turns[0].expected) == (("S",), [["q"]], "a")
    (every,) = load("hf", file, turns="all")
    assert [texts(t) for t in every.turns] == [["q"], ["q2"]]
    lines(file, {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})
    assert load("hf", file)[0].turns[0].expected == "a"


def test_hf_says_which_columns_there_are(file: Path) -> None:
    lines(file, {"foo": 1, "bar": 2})
    with pytest.raises(DatasetError, match="cannot determine which column") as caught:
        load("hf", file)
    assert "`foo`, `bar`" in str(caught.value.hint)
    with pytest.raises(DatasetError, match="has no column `prmpt`"):
        load("hf", file, prompt_field="prmpt")


def test_hf_broken_row_names_row_column_and_value(file: Path) -> None:
    lines(file, {"prompt": "a"}, {"prompt": None})
    with pytest.raises(DatasetError, match="line 2: field `prompt`: expected text, found null"):
        load("hf", file)


def test_hf_images_are_bytes_or_urls(file: Path) -> None:
    from aiperf.datasets.formats.hf import _images

    assert _images({"bytes": b"\x89PNG", "path": None}, file) == ("data:image/png;base64,iVBORw==",)
    assert _images([b"\xff\xd8\xff", "http://x/y"], file) == ("data:image/jpeg;base64,/9j/", "http://x/y")


def test_hf_dataset_in_the_local_cache_works_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet as the hub converts it; the native reader is checked by its own test."""
    from huggingface_hub import constants

    from aiperf.datasets import hub

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "datasets--org--data"
    snapshot = repository / "snapshots" / ("1" * 40)
    (snapshot / "default" / "train").mkdir(parents=True)
    (snapshot / "default" / "train" / "0000.parquet").write_bytes(b"")
    (repository / "refs" / "refs" / "convert").mkdir(parents=True)
    (repository / "refs" / "refs" / "convert" / "parquet").write_text("1" * 40, encoding="utf-8")
    (found,) = hub.parquet_files("org/data", None, "train")
    assert found.name == "0000.parquet"
    with pytest.raises(DatasetError, match=r"no split `test`|cannot be reached"):
        hub.parquet_files("org/data", None, "test")
    with pytest.raises(DatasetError, match="`org/other` is not in the local Hugging Face cache"):
        load("hf", None, dataset="org/other")


DRIVER: dict[str, object] = {"session_id": "a", "orchestrator": True}
THINKING: dict[str, object] = {"think_time_ms": 5, "think_time_sigma": 0.5}


def turn(text: str, **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_spawned_conversations_start_after_their_turn_and_are_joined(file: Path) -> None:
    main = {
        "session_id": "main",
        "turns": [turn("a", spawns=["x", {"children": ["y"], "join_at": 2}]), turn("b"), turn("c")],
    }
    lines(file, main, {"session_id": "x", "turns": [turn("x")]}, {"session_id": "y", "turns": [turn("y"), turn("y2")]})
    sessions = {s.id: s for s in load("dag_jsonl", file)}
    assert list(sessions) == ["main", "x", "y"]
    assert [t.after for t in sessions["main"].turns] == [(), (("x", 0),), (("y", 1),)]
    assert [t.after for t in sessions["y"].turns] == [(("main", 0),), ()]
    assert (sessions["x"].parent, texts(sessions["x"].turns[0])) == ("main", ["x"])


def test_forks_inherit_the_conversation_with_its_live_replies(file: Path) -> None:
    main = {"session_id": "main", "turns": [turn("a"), turn("b", forks=["left", "right"])]}
    deeper = {"session_id": "left", "turns": [turn("l", forks=[{"child": "deep", "background": True}]), turn("l2")]}
    lines(
        file, main, deeper, {"session_id": "right", "turns": [turn("r")]}, {"session_id": "deep", "turns": [turn("d")]}
    )
    sessions = {s.id: s for s in load("dag_jsonl", file)}
    parts = [p for m in sessions["deep"].turns[0].messages for p in m.parts]
    assert parts == ["a", Reply(0, "main"), "b", Reply(1, "main"), "l", Reply(0, "left"), "d"]
    assert sessions["deep"].turns[0].after == (("left", 0),)
    assert sessions["right"].turns[0].after == (("main", 1),)


def test_an_orchestrator_sends_nothing_and_each_round_waits_for_the_one_before(file: Path) -> None:
    driver = {**DRIVER, "spawns": ["x", "y"], "rounds": 2, **THINKING, "think_time_max_ms": 20}
    two = {"session_id": "x", "turns": [turn("x"), turn("x2")]}
    lines(file, driver, two, {"session_id": "y", "turns": [turn("y")]})
    main, *started = load("dag_jsonl", file)
    assert [t.silent for t in main.turns] == [Pause(0.5, 0, 20_000_000)] * 3
    assert [t.delay_ns for t in main.turns] == [5_000_000, 5_000_000, 0]
    assert [s.name for s in started] == ["x", "y", "x", "y"]
    assert [s.turns[0].after for s in started] == [(("a", 0),)] * 2 + [(("a", 1),)] * 2
    last = [(s.id, len(s.turns) - 1) for s in started]
    assert [t.after for t in main.turns] == [(), tuple(last[:2]), tuple(last[2:])]
    assert {s.parent for s in started} == {"a"}
    assert all(t.silent is None for s in started for t in s.turns)


def test_rounds_of_a_list_have_conversations_and_think_times_of_their_own(file: Path) -> None:
    rounds = [{"spawns": ["x"], "think_time_ms": 7}, {"spawns": ["y"]}]
    driver = {**DRIVER, "rounds": rounds, "think_time_ms": 2}
    lines(file, driver, *({"session_id": n, "turns": [turn(n)]} for n in ("x", "y")))
    main, first_helper, second_helper = load("dag_jsonl", file)
    assert [t.delay_ns for t in main.turns] == [7_000_000, 2_000_000, 0]
    assert (first_helper.turns[0].after, second_helper.turns[0].after) == ((("a", 0),), (("a", 1),))
    lines(file, {**DRIVER, "spawns": ["x"]}, {"session_id": "x", "turns": [turn("x")]})
    once, first_helper = load("dag_jsonl", file)
    assert [(t.silent, t.after) for t in once.turns] == [(Pause(), ())]
    assert first_helper.turns[0].after == (("a", 0),)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{"session_id": "a", "turns": [turn("x", spawns=["b"])]}], "starts `b`, which is not in the file"),
        (
            [
                {"session_id": "a", "turns": [turn("x", forks=["b"]), turn("y")]},
                {"session_id": "b", "turns": [turn("z")]},
            ],
            "has turns behind turn 0, which ends it by the fork `b`",
        ),
        (
            [
                {"session_id": "a", "turns": [turn("x", spawns=[{"children": ["b"], "join_at": 5}])]},
                {"session_id": "b", "turns": [turn("z")]},
            ],
            "`join_at` 5 of turn 0 is not one of its later turns",
        ),
        (
            [{"session_id": "a", "turns": [turn("x", spawns=["b", "b"])]}, {"session_id": "b", "turns": [turn("z")]}],
            "starts `b` twice",
        ),
        (
            [
                {"session_id": "a", "turns": [turn("x", forks=["b"])]},
                {"session_id": "c", "turns": [turn("x", forks=["b"])]},
                {"session_id": "b", "turns": [turn("z")]},
            ],
            "`b` of `",
        ),
        (
            [
                {"session_id": "a", "turns": [turn("x", spawns=["b"])]},
                {"session_id": "b", "turns": [turn("z", spawns=["a"])]},
            ],
            "in a circle",
        ),
        ([{"session_id": "a", "turns": [{"messages": [{"content": "x"}]}]}], "each message needs a `role`"),
        (
            [{"session_id": "a", "turns": [turn("x", temperature=1)]}],
            "field `turns.0.temperature`: expected only fields that the format knows",
        ),
        ([{"session_id": "a", "turns": []}], "needs `turns`, or `orchestrator: true` and `spawns`"),
        ([{"session_id": "a", "turns": [turn("x")], "rounds": 2}], "`rounds` needs `orchestrator: true`"),
        ([{"session_id": "a", "turns": [turn("x")], "spawns": ["b"]}], "here they belong to a turn"),
        ([{**DRIVER}], "needs `spawns`, or a list of `rounds`"),
        ([{**DRIVER, "spawns": ["b"], "turns": [turn("x")]}], "it has no `turns`, only `spawns`"),
        ([{**DRIVER, "spawns": ["b"], "rounds": True}], "field `rounds"),
        ([{**DRIVER, "spawns": ["b"], "rounds": 0}], "greater than or equal to 1"),
        ([{**DRIVER, "spawns": ["b"], "rounds": [{"spawns": ["c"]}]}], "none beside the list"),
        ([{**DRIVER, "rounds": [{"spawns": ["b"]}, {"spawns": ["b"]}]}], "`b` is started by two rounds"),
        ([{**DRIVER, "spawns": ["b"], "think_time_ms": 5}], "there are none"),
        ([{**DRIVER, "spawns": ["b"], "rounds": 2, "think_time_sigma": 1}], "the median to draw around"),
        ([{**DRIVER, "spawns": ["b"], "rounds": 2, "think_time_max_ms": 9}], "they bound what is drawn"),
        (
            [{**DRIVER, "spawns": ["b"], "rounds": 1, **THINKING, "think_time_min_ms": 9, "think_time_max_ms": 8}],
            "`think_time_min_ms` 9 is above `think_time_max_ms` 8",
        ),
        ([{**DRIVER, "spawns": ["b"]}], "starts `b`, which is not in the file"),
    ],
)
def test_impossible_branching_is_refused(file: Path, records: list[object], said: str) -> None:
    lines(file, *records)
    with pytest.raises(DatasetError) as caught:
        load("dag_jsonl", file)
    assert said in caught.value.message


def test_what_several_conversations_spawn_is_started_for_each(file: Path) -> None:
    """As AIPerf: a helper is written once; each that calls it has its own, waits for its own, and they are of one name."""
    lines(
        file,
        {"session_id": "a", "turns": [turn("x", spawns=["help"]), turn("y", spawns=["help"]), turn("z")]},
        {"session_id": "b", "turns": [turn("x", spawns=["help"]), turn("y")]},
        {"session_id": "help", "turns": [turn("h", spawns=["deep"])]},
        {"session_id": "deep", "turns": [turn("d")]},
    )
    sessions = load("dag_jsonl", file)
    assert [s.name for s in sessions] == ["a", "help", "deep", "help", "deep", "b", "help", "deep"]
    assert len({s.id for s in sessions}) == len(sessions)
    of = {s.id: s for s in sessions}
    helpers = [s for s in sessions if s.name == "help"]
    assert [s.parent for s in helpers] == ["a", "a", "b"]
    assert [s.turns[0].after for s in helpers] == [(("a", 0),), (("a", 1),), (("b", 0),)]
    assert [of["a"].turns[k].after for k in (1, 2)] == [((h.id, 0),) for h in helpers[:2]]
    assert {s.parent for s in sessions if s.name == "deep"} == {h.id for h in helpers}


def test_tool_messages_keep_their_fields(file: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "http://x"}}],
    }
    odd = {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}
    lines(file, {"session_id": "a", "turns": [{"messages": [call, parts, odd]}]})
    first, second, third = load("dag_jsonl", file)[0].turns[0].messages
    assert first.extra == {"tool_calls": [{"id": "1"}], "content": None}
    assert (second.parts, second.images) == (("t",), ("http://x",))
    assert third.extra == {"content": odd["content"]}


def test_every_format_has_a_golden_and_every_public_name_its_columns() -> None:
    from aiperf.datasets.formats.hf import KNOWN, Options

    assert set(GOLDEN) == set(registry.names("datasets"))
    for values in KNOWN.values():
        Options.model_validate(values)


def test_parquet_is_read_by_the_native_core(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers come as arrays, texts and nested values as lists; only named columns are read."""
    from aiperf import _core

    asked: list[object] = []

    def read(path: str, names: list[str] | None) -> dict[str, object]:
        asked.append(names)
        table: dict[str, object] = {"question": ["a", "b"], "n": np.array([3, 4]), "images": [[b"\x89PNG"], None]}
        return table if names is None else {n: table[n] for n in names if n in table}

    monkeypatch.setattr(_core, "read_parquet_columns", read, raising=False)
    path = file.with_suffix(".parquet")
    assert [texts(s.turns[0]) for s in load("hf", path)] == [["a"], ["b"]]
    sessions = load("hf", path, prompt_field="question", output_length_field="n", image_field="images")
    assert [s.turns[0].osl for s in sessions] == [3, 4]
    assert sessions[0].turns[0].messages[0].images == ("data:image/png;base64,iVBORw==",)
    assert asked == [None, ["question", "n", "images"]]
    with pytest.raises(DatasetError, match="has no column `prompt`"):
        load("hf", path, prompt_field="prompt")


@pytest.mark.parametrize("shape", ["list", "lines"])
@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"id": "b", "conversations": [{"from": "human", "value": None}]},
            'field `conversations.0`: expected texts `from` and `value`, found `{"from": "human", "value": null}`',
        ),
        ("a string", 'expected a JSON object, found `"a string"`'),
        ({"id": "b"}, "field `conversations`: expected a list, found no such field (there are `id`)"),
    ],
)
def test_a_broken_sharegpt_record_names_the_way_to_leave_it_out(
    shape: str, record: object, said: str, tmp_path: Path
) -> None:
    good = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    records = [good, record, good]
    path = tmp_path / "chats"
    text = json.dumps(records) if shape == "list" else "".join(json.dumps(r) + "\n" for r in records)
    path.write_text(text, encoding="utf-8-sig")
    with pytest.raises(DatasetError) as caught:
        load("sharegpt", path)
    assert caught.value.message == f"cannot read `{path}`: {'item' if shape == 'list' else 'line'} 2: {said}"
    assert "`--skip-invalid`" in str(caught.value.hint)
    sessions, options = opened("sharegpt", path, skip_invalid=True)
    assert len(list(sessions)) == 2
    assert [n.data["count"] for n in options.notes if n.kind == "invalid_lines"] == [1]

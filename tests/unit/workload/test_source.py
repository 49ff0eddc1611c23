"""Datasets and traces through the configuration: the format found, options passed on, lengths, limits, what goes in front."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.workload.words_tokenizer import GluingTokenizer, WordsTokenizer
from tests.unit.workload.workload_reference import ReferenceVocabulary

from aiperf import registry
from aiperf.config.model import Config
from aiperf.config.resolve import config_from
from aiperf.errors import ConfigError, DatasetError
from aiperf.traces.replay import Replay
from aiperf.workload import Workload, build_workload
from aiperf.workload import source as source_module
from aiperf.workload.inputs import render_body
from aiperf.workload.segments import UNKNOWN
from aiperf.workload.vocabulary import EncodedText

TOKENIZER = WordsTokenizer()
WORDS = [bytes([97 + i // 26, 97 + i % 26]) for i in range(600)]
SOURCE = ReferenceVocabulary(WORDS, [1] * 600, list(range(600)), list(range(600)))
DATA = Path(__file__).parents[2] / "data" / "datasets"


def workload(path: Path | None, seed: int = 1, **sections: Any) -> Workload:
    given = {"input_file": path, **sections.pop("input", {})}
    config = Config.model_validate({"endpoint": {"model_names": ("m",)}, "input": given, **sections})
    return build_workload(config, TOKENIZER, SOURCE, seed)


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def body(found: Workload, row: int) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(render_body(found.plan, row, SOURCE))
    return parsed


def texts(found: Workload, row: int) -> list[str]:
    return [m["content"] for m in body(found, row)["messages"]]


TRACE = [
    {"timestamp": 0, "input_length": 20, "output_length": 5, "hash_ids": [1, 2, 3]},
    {"timestamp": 1000, "input_length": 24, "output_length": 6, "hash_ids": [1, 2, 4]},
    {"timestamp": 3000, "input_length": 9, "output_length": 7, "hash_ids": [1, 5]},
]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("single_turn.jsonl", "single_turn"),
        ("multi_turn.jsonl", "multi_turn"),
        ("pools", "random_pool"),
        ("sharegpt.json", "sharegpt"),
        ("raw_payload.jsonl", "raw_payload"),
        ("inputs.json", "inputs_json"),
        ("questions.csv", "hf"),
        ("agents.jsonl", "dag_jsonl"),
        ("exgentic.jsonl", "exgentic"),
        ("../traces/baseten_trace.parquet", "baseten_trace"),
    ],
)
def test_format_is_told_from_the_first_record(name: str, kind: str) -> None:
    assert workload(DATA / name).kind == kind


def test_trace_is_told_from_its_fields(file: Path) -> None:
    found = workload(lines(file, *TRACE), input={"isl_block_size": 8})
    assert (found.kind, found.is_timestamped, found.sampling) == ("mooncake_trace", True, "sequential")


def test_unknown_format_lists_what_there_is(file: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot recognise the format .* has the fields `foo`") as caught:
        workload(lines(file, {"foo": 1}))
    assert all(f"`{n}`" in str(caught.value.hint) for n in registry.names("datasets"))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no file"):
        workload(tmp_path / "no.jsonl")


def test_trace_is_replayed_with_its_lengths_and_equal_prefixes(file: Path) -> None:
    built = workload(lines(file, *TRACE), input={"isl_block_size": 8, "replay_speedup": 2})
    plan = built.plan
    assert plan.columns["at_ns"].tolist() == [0, 500_000_000, 1_500_000_000]
    prompts = [texts(built, row)[0] for row in range(3)]
    assert TOKENIZER.count(prompts).tolist() == [20, 24, 9] == plan.columns["isl"].tolist()
    assert [body(built, row)["max_completion_tokens"] for row in range(3)] == [5, 6, 7]
    words = [p.split() for p in prompts]
    assert words[0][:16] == words[1][:16]
    assert words[0][16:20] != words[1][16:20]
    assert words[0][:8] == words[2][:8]


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_columns_and_objects_give_the_same_plan(file: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast way of a trace of lengths, and the general one."""
    records = [
        {
            "timestamp": number * 7,
            "input_length": 5 + number,
            "hash_ids": list(range(1 + (4 + number) // 8)),
            **({"output_length": number} if number % 3 else {}),
        }
        for number in range(30)
    ]
    path = lines(file, *records)

    def made() -> Workload:
        models = {"model_names": ("m", "n"), "endpoint_type": endpoint}
        config = Config.model_validate({"endpoint": models, "input": {"input_file": path, "isl_block_size": 8}})
        return build_workload(config, TOKENIZER, SOURCE, 1)

    fast = made()
    monkeypatch.setattr(Replay, "is_synthetic", False)
    slow = made()
    assert [render_body(fast.plan, i, SOURCE) for i in range(30)] == [
        render_body(slow.plan, i, SOURCE) for i in range(30)
    ]
    for name in fast.plan.columns:
        if name != "seg_a":
            assert np.array_equal(fast.plan.columns[name], slow.plan.columns[name]), name
            assert fast.plan.columns[name].dtype == slow.plan.columns[name].dtype, name
    assert fast.plan.session_ids == slow.plan.session_ids


def test_osl_is_the_files_then_the_users_then_the_recorded_answers(file: Path) -> None:
    path = lines(file, {"prompt": "a b", "answer": "one two three"}, {"prompt": "c", "answer": "x", "n": 9})
    options = {"answer_field": "answer", "output_length_field": "n"}
    path = lines(file, {"prompt": "a b", "answer": "one two three", "n": None}, {"prompt": "c", "answer": "x", "n": 9})
    given: dict[str, Any] = {"custom_dataset_type": "hf", "dataset_options": options}
    assert workload(path, input=given).plan.columns["osl"].tolist() == [3, 9]
    assert workload(path, input=given, prompt={"osl_mean": 50}).plan.columns["osl"].tolist() == [50, 9]
    plain = {**given, "dataset_options": {}}
    assert workload(path, input=plain).plan.columns["osl"].tolist() == [UNKNOWN] * 2


def test_sharegpt_leaves_out_what_is_too_short_or_too_long(file: Path) -> None:
    def pair(prompt: int, answer: int) -> dict[str, object]:
        return {"conversations": [{"from": "human", "value": " a" * prompt}, {"from": "gpt", "value": " b" * answer}]}

    path = lines(file, pair(5, 5), pair(3, 5), pair(5, 3), pair(1025, 5), pair(1000, 1049), pair(1024, 1024))
    found = workload(path)
    assert found.plan.columns["isl"].tolist() == [5, 1024]
    assert found.plan.columns["osl"].tolist() == [5, 1024]
    assert [(n.kind, n.data["count"]) for n in found.notes] == [("format_guessed", 6), ("out_of_limits", 4)]
    assert "1 with a prompt over 1,024 tokens (max_prompt_tokens)" in found.notes[1].text


def test_context_limit_is_one_for_all_datasets(file: Path) -> None:
    path = lines(file, {"text": "a b c", "output_length": 3}, {"text": "a b c", "output_length": 4})
    found = workload(path, input={"max_context_length": 6})
    assert found.plan.num_turns == 1
    assert [n.kind for n in found.notes] == ["format_guessed", "out_of_limits"]


def test_options_of_a_format_are_passed_on_and_wrong_ones_named(file: Path) -> None:
    path = lines(file, {"text": "a"}, {"text": "b"})
    given = {"custom_dataset_type": "single-turn", "dataset_options": {"limit": 1}}
    assert workload(path, input=given).plan.num_turns == 1
    with pytest.raises(ConfigError, match="`single_turn` has no option `limt`") as caught:
        workload(path, input={"dataset_options": {"limt": 1}})
    assert caught.value.problems[0].hint == "did you mean `limit`?"
    with pytest.raises(ConfigError, match="`limit`: "):
        workload(path, input={"dataset_options": {"limit": 0}})


def test_number_of_entries_takes_the_first_ones(file: Path) -> None:
    path = lines(file, *[{"text": str(i)} for i in range(5)])
    assert workload(path, input={"num_dataset_entries": 3}).plan.num_turns == 3
    assert workload(path, input={"num_dataset_entries": 30, "custom_dataset_type": "random_pool"}).plan.num_turns == 30


def test_think_times_and_timestamps_are_scaled(file: Path) -> None:
    path = lines(file, {"turns": [{"text": "a"}, {"text": "b", "delay": 1000}, {"text": "c", "delay": 100}]})

    def delays(**sections: Any) -> list[int]:
        found: list[int] = workload(path, **sections).plan.columns["delay_ns"].tolist()
        return [d // 1_000_000 for d in found]

    assert delays() == [0, 1000, 100]
    assert delays(conversation={"turn_delay_ratio": 0.5}) == [0, 500, 50]
    assert delays(conversation={"turn_delay_cap_seconds": 0.2}) == [0, 200, 100]
    assert delays(input={"ignore_trace_delays": True}) == [0, 0, 0]


def test_prompt_options_go_in_front_of_a_datasets_texts(file: Path) -> None:
    path = lines(file, {"turns": [{"text": "hello"}, {"text": "again"}]}, {"turns": [{"text": "other"}]})
    built = workload(
        path, prompt={"system_prompt": "Be kind.", "cache_bust": "first_turn_prefix", "user_context_prompt_length": 4}
    )
    system, context, first = texts(built, 0)
    assert system == "Be kind."
    assert TOKENIZER.count([context]).tolist() == [4]
    assert first.endswith("\n\nhello")
    assert len(first.split()) == 9
    assert texts(built, 1)[:3] == [system, context, first]
    assert texts(built, 2)[2].split()[:8] != first.split()[:8]
    assert built.plan.columns["isl"][0] == TOKENIZER.count(texts(built, 0)).sum()


def test_trace_with_a_system_prompt_has_it_on_top_of_its_length(file: Path) -> None:
    found = workload(lines(file, *TRACE), input={"isl_block_size": 8}, prompt={"shared_system_prompt_length": 10})
    assert found.plan.columns["isl"].tolist() == [30, 34, 19]
    assert TOKENIZER.count(texts(found, 0)).tolist() == [10, 20]


def test_fingerprint_has_the_files_digest_not_its_name(file: Path, tmp_path: Path) -> None:
    a = workload(lines(file, {"text": "a"})).fingerprint
    b = workload(lines(tmp_path / "copy.jsonl", {"text": "a"})).fingerprint
    c = workload(lines(file, {"text": "b"})).fingerprint
    assert a == b
    assert {k for k in a if a[k] != c[k]} == {"data", "plan"}


def test_notes_of_the_data_are_the_workloads(file: Path) -> None:
    file.write_text('{"text": "a"}\n{\n', encoding="utf-8")
    found = workload(file, input={"skip_invalid": True, "custom_dataset_type": "single_turn"})
    assert [n.kind for n in found.notes] == ["invalid_lines"]


def test_public_dataset_names_are_aiperfs_and_any_other_is_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def keep(options: Any, rng: object) -> Any:
        asked.append(options.model_dump(exclude_none=True))
        return iter(())

    keep.__module__ = "aiperf.datasets.formats.hf"
    monkeypatch.setattr("aiperf.datasets.formats.hf.load", keep)
    for name, more in (("spec-al-gsm8k", {}), ("org/data", {"hf_subset": "s", "hf_split": "test"})):
        with pytest.raises(DatasetError, match="left to send"):
            workload(None, input={"public_dataset": name, **more})
    assert asked[0]["dataset"] == "openai/gsm8k"
    assert (asked[0]["subset"], asked[0]["split"], asked[0]["prompt_field"]) == ("main", "test", "question")
    assert (asked[1]["dataset"], asked[1]["subset"], asked[1]["split"]) == ("org/data", "s", "test")


def test_tokenizer_that_does_not_add_up_gets_written_out_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPERF_CACHE_DIR", str(tmp_path))
    config = Config.model_validate(
        {"endpoint": {"model_names": ("m",)}, "prompt": {"isl_mean": 40}, "load": {"request_count": 3}}
    )
    tokenizer = GluingTokenizer()
    found = build_workload(config, tokenizer, EncodedText(tokenizer), 1)
    assert found.vocabulary is None
    assert set(found.plan.columns["seg_kind"].tolist()) == {0}
    prompts = [json.loads(render_body(found.plan, i, SOURCE))["messages"][0]["content"] for i in range(3)]
    assert tokenizer.count(prompts).tolist() == [40] * 3


def test_chunks_do_not_change_what_comes_out(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(
        file,
        *[
            {"conversations": [{"from": "human", "value": f"a b c d {i}"}, {"from": "gpt", "value": "a b c d"}]}
            for i in range(10)
        ],
    )
    whole = workload(path).plan.digest()
    monkeypatch.setattr(source_module, "_CHUNK", 3)
    assert workload(path).plan.digest() == whole


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a b c"}]


def test_bodies_without_a_type_are_completed_where_they_lack_something(file: Path) -> None:
    """Lines of `messages` alone were sent without model and stream, in silence."""
    path = lines(
        file,
        {"messages": MESSAGES, "temperature": 0},
        {"messages": MESSAGES, "model": "other", "stream": False, "max_tokens": 9},
    )
    endpoint = {"model_names": ("m",), "streaming": True, "extra_inputs": {"top_p": 0.5, "temperature": 1}}
    built = workload(path, endpoint=endpoint, prompt={"osl_mean": 8})
    assert body(built, 0) == {
        "messages": MESSAGES,
        "temperature": 0,
        "model": "m",
        "stream": True,
        "max_completion_tokens": 8,
        "top_p": 0.5,
        "stream_options": {"include_usage": True},
    }
    assert body(built, 1) == {
        "messages": MESSAGES,
        "model": "other",
        "stream": False,
        "max_tokens": 9,
        "top_p": 0.5,
        "temperature": 1,
    }
    assert built.plan.models == ("m", "other")
    notes = {n.kind: n for n in built.notes}
    assert notes["bodies_filled"].data["fields"] == {
        "model": 1,
        "stream": 1,
        "max_completion_tokens": 1,
        "top_p": 2,
        "stream_options": 1,
        "temperature": 1,
    }
    assert "raw_payload" in notes["bodies_filled"].text
    assert notes["format_guessed"].data == {"format": "raw_payload", "count": 2}


def test_bodies_for_a_raw_endpoint_are_never_completed(file: Path) -> None:
    found = workload(lines(file, {"messages": MESSAGES}), endpoint={"endpoint_type": "raw", "model_names": ("m",)})
    assert found.kind == "raw_payload"
    assert body(found, 0) == {"messages": MESSAGES}


def test_bodies_called_ready_are_sent_as_they_stand_and_options_without_effect_named(file: Path) -> None:
    path = lines(file, {"messages": MESSAGES}, {"messages": MESSAGES, "model": "x", "stream": True})
    sections: dict[str, dict[str, object]] = {
        "endpoint": {"model_names": ["m"], "streaming": True, "extra_inputs": ["top_p:0.5"]},
        "input": {"input_file": str(path), "custom_dataset_type": "raw_payload"},
        "prompt": {"system_prompt": "S", "osl_mean": 4},
    }
    config = config_from({f"{s}.{n}": v for s, values in sections.items() for n, v in values.items()}, check=False)
    built = build_workload(config, TOKENIZER, SOURCE, 1)
    assert [body(built, row) for row in range(2)] == [
        {"messages": MESSAGES},
        {"messages": MESSAGES, "model": "x", "stream": True},
    ]
    said = [n.text for n in built.notes if n.kind == "option_without_effect"]
    assert any("name no model" in t and "1 of 2" in t for t in said)
    assert any("do not ask for a stream" in t and "1 of 2" in t for t in said)
    assert any(all(flag in t for flag in ("--system-prompt", "--osl", "--extra-inputs")) for t in said)
    assert not any(n.kind in {"format_guessed", "bodies_filled"} for n in built.notes)


@pytest.mark.parametrize(
    ("name", "records", "options", "reasons"),
    [
        (
            "sharegpt",
            [{"conversations": [{"from": "human", "value": "a b c d e"}, {"from": "gpt", "value": "a b c d"}]}] * 3,
            {"max_prompt_tokens": 1},
            ["3 of 3 sessions left out: 3 with a prompt over 1 tokens (max_prompt_tokens)"],
        ),
        (
            "sharegpt",
            [{"conversations": []}, {"conversations": [{"from": "human", "value": None}]}],
            {},
            ["without a question and an answer, left out: 1", "1 record left out because it could not be read"],
        ),
        (
            "single_turn",
            [{"text": "a b"}, {"text": 5}],
            {"min_tokens": 9},
            ["1 of 1 sessions left out", "1 record left out"],
        ),
        ("multi_turn", [{"turns": []}], {}, ["1 record left out"]),
        ("raw_payload", [[1]], {}, ["1 record left out"]),
        ("dag_jsonl", [{"session_id": "a"}], {}, ["1 record left out"]),
        ("hf", [{"prompt": None, "text": "x"}], {"prompt_field": "prompt"}, ["1 record left out"]),
    ],
)
def test_nothing_left_tells_how_much_went_for_which_reason(
    file: Path, name: str, records: list[object], options: dict[str, Any], reasons: list[str]
) -> None:
    path = lines(file, *records, *([[1]] if name == "raw_payload" else []))
    given = {"custom_dataset_type": name, "skip_invalid": True, "dataset_options": options}
    with pytest.raises(DatasetError, match="left to send") as caught:
        workload(path, input=given)
    if name == "raw_payload":
        reasons = ["2 records left out"]
    for reason in reasons:
        assert reason in str(caught.value)


def test_fields_nobody_reads_are_listed_once_with_their_count(file: Path, tmp_path: Path) -> None:
    path = lines(file, {"text": "a", "label": 1, "src": "x"}, {"text": "b", "label": 2})
    (note,) = [n for n in workload(path).notes if n.kind == "unused_fields"]
    assert note.data["fields"] == {"label": 2, "src": 1}
    assert "`label` (2), `src` (1)" in note.text
    nested = lines(tmp_path / "turns.jsonl", {"turns": [{"text": "a", "lang": "en"}], "topic": 1})
    (note,) = [n for n in workload(nested).notes if n.kind == "unused_fields"]
    assert note.data["fields"] == {"topic": 1, "turns.lang": 1}
    trace = lines(tmp_path / "trace.jsonl", *[{**line, "priority": 1} for line in TRACE])
    (note,) = [n for n in workload(trace, input={"isl_block_size": 8}).notes if n.kind == "unused_fields"]
    assert note.data["fields"] == {"priority": 3}


def test_what_a_column_was_taken_for_is_said(file: Path) -> None:
    path = lines(file, {"question": "a b", "answer": "c", "source": "x"})
    found = workload(path)
    (note,) = [n for n in found.notes if n.kind == "column_guessed"]
    assert "taken from `question`; not used: `answer`, `source`" in note.text
    assert "prompt_field=NAME" in note.text
    assert texts(found, 0) == ["a b"]

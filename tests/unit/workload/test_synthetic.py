"""Synthetic load from the configuration: lengths, uniqueness, conversations, prefixes, seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from tests.unit.workload.words_tokenizer import WordsTokenizer
from tests.unit.workload.workload_reference import ReferenceVocabulary

from aiperf.config.model import Config
from aiperf.endpoints import BodyOptions, load_endpoint
from aiperf.workload import Workload, build_workload, seed_of
from aiperf.workload.inputs import render_body
from aiperf.workload.lengths import NormalLengths
from aiperf.workload.plan import PlanOptions
from aiperf.workload.segments import UNKNOWN, SegmentKind
from aiperf.workload.synthetic import MAX_TURNS, SyntheticOptions, build_synthetic_plan

TOKENIZER = WordsTokenizer()
_WORDS = [bytes([97 + i // 26, 97 + i % 26]) for i in range(600)]
SOURCE = ReferenceVocabulary(_WORDS, [1] * 600, list(range(600)), list(range(600)))


def workload(seed: int = 1, *, endpoint: str = "chat", models: tuple[str, ...] = ("m",), **sections: Any) -> Workload:
    config = Config.model_validate({"endpoint": {"model_names": models, "endpoint_type": endpoint}, **sections})
    return build_workload(config, TOKENIZER, SOURCE, seed)


def body(found: Workload, row: int) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(render_body(found.plan, row, SOURCE))
    return parsed


def texts(found: Workload, row: int) -> list[str]:
    return [m["content"] for m in body(found, row)["messages"]]


def test_each_request_has_its_own_prompt_of_the_length_asked_for() -> None:
    built = workload(prompt={"isl_mean": 40, "osl_mean": 9}, load={"request_count": 50})
    prompts = [texts(built, i)[0] for i in range(50)]
    assert TOKENIZER.count(prompts).tolist() == [40] * 50
    assert len({" ".join(p.split()[:5]) for p in prompts}) == 50
    assert built.plan.columns["isl"].tolist() == [40] * 50
    assert {body(built, i)["max_completion_tokens"] for i in range(50)} == {9}
    assert (built.kind, built.sampling, built.is_timestamped, built.notes) == ("synthetic", "sequential", False, ())


def test_osl_is_not_sent_unless_asked_for() -> None:
    found = workload(prompt={"isl_mean": 4}, load={"request_count": 2})
    assert "max_completion_tokens" not in body(found, 0)
    assert found.plan.columns["osl"].tolist() == [UNKNOWN] * 2


def test_drawn_lengths_are_those_of_the_bodies() -> None:
    built = workload(
        prompt={"isl_mean": 30, "isl_stddev": 10, "osl_mean": 20, "osl_stddev": 5}, load={"request_count": 200}
    )
    isl, osl = built.plan.columns["isl"], built.plan.columns["osl"]
    assert len(set(isl.tolist())) > 20
    for row in range(0, 200, 17):
        assert TOKENIZER.count(texts(built, row)).tolist() == [isl[row]]
        assert body(built, row)["max_completion_tokens"] == osl[row]


def test_same_seed_same_bytes_other_seed_other_bytes() -> None:
    def made(seed: int) -> str:
        section = {"turn_mean": 3, "turn_stddev": 1, "turn_delay_mean": 100, "turn_delay_stddev": 10}
        return workload(seed, prompt={"isl_stddev": 50}, load={"request_count": 30}, conversation=section).plan.digest()

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert seed_of(Config.model_validate({"input": {"random_seed": 5}})) == 5
    assert seed_of(Config()) != seed_of(Config())


def test_prompts_are_fresh_at_each_repetition_unless_entries_are_given() -> None:
    def kinds(**sections: Any) -> set[int]:
        found = workload(load={"request_count": 20}, **sections)
        return set(found.plan.columns["seg_kind"].tolist()) - {SegmentKind.LITERAL}

    assert kinds() == {SegmentKind.FRESH}
    assert kinds(input={"num_dataset_entries": 5}) == {SegmentKind.FIXED}
    entries = workload(load={"request_count": 20}, input={"num_dataset_entries": 5})
    assert (entries.plan.num_turns, entries.sampling) == (5, "shuffle")


def test_entries_are_reused_by_the_turns_of_conversations() -> None:
    built = workload(
        load={"request_count": 12},
        input={"num_dataset_entries": 4},
        conversation={"turn_mean": 3},
        prompt={"isl_mean": 6},
    )
    assert built.plan.num_turns == 12
    last = [texts(built, row)[-1] for row in range(12)]
    assert len(set(last)) == 4


def test_plan_is_bounded_and_open_ended_runs_have_one_too() -> None:
    assert workload(load={"request_count": 10_000_000}).plan.num_turns == MAX_TURNS
    assert workload(load={"benchmark_duration": 60}).plan.num_turns == 16_384
    assert workload(load={"concurrency": 30}).plan.num_turns == 60


def test_conversations_resend_history_with_live_replies() -> None:
    built = workload(
        prompt={"isl_mean": 7},
        conversation={"turn_mean": 3, "num_sessions": 4, "turn_delay_mean": 200, "turn_delay_ratio": 0.5},
    )
    assert built.plan.num_sessions == 4
    assert built.plan.columns["session"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert built.plan.columns["delay_ns"].tolist() == [0, 100_000_000, 100_000_000] * 4
    first, second, third = (texts(built, row) for row in (3, 4, 5))
    assert second == [*first, "<response to turn 0>", second[2]]
    assert third == [*second, "<response to turn 1>", third[4]]
    assert built.plan.columns["isl"].tolist() == [7, 14, 21] * 4


def test_turns_follow_their_law() -> None:
    found = workload(conversation={"turn_mean": 5, "turn_stddev": 2, "num_sessions": 3000}, prompt={"isl_mean": 1})
    turns = np.bincount(found.plan.columns["session"].astype(np.int64))
    assert turns.min() >= 1
    assert turns.mean() == pytest.approx(5.5, abs=0.15)
    assert turns.std() == pytest.approx(2, abs=0.15)


def test_shared_system_prompt_is_one_and_contexts_are_each_sessions_own() -> None:
    built = workload(
        prompt={"isl_mean": 5, "shared_system_prompt_length": 8, "user_context_prompt_length": 6},
        load={"request_count": 10},
    )
    all_texts = [texts(built, row) for row in range(10)]
    assert [m["role"] for m in body(built, 0)["messages"]] == ["system", "user", "user"]
    assert len({t[0] for t in all_texts}) == 1
    assert len({t[1] for t in all_texts}) == 10
    assert TOKENIZER.count(all_texts[0]).tolist() == [8, 6, 5]
    assert set(built.plan.columns["isl"].tolist()) == {19}
    kinds = built.plan.columns["seg_kind"]
    assert (kinds == SegmentKind.FIXED).sum() == 10


def test_prefixes_come_from_a_pool_and_add_to_the_length() -> None:
    built = workload(
        prompt={"isl_mean": 5, "prefix_prompt_pool_size": 3, "prefix_prompt_length": 10}, load={"request_count": 60}
    )
    starts = {" ".join(texts(built, row)[0].split()[:10]) for row in range(60)}
    assert len(starts) == 3
    assert TOKENIZER.count(texts(built, 0)).tolist() == [15]
    assert set(built.plan.columns["isl"].tolist()) == {15}


def test_system_prompt_is_sent_verbatim_and_counted() -> None:
    found = workload(prompt={"isl_mean": 5, "system_prompt": 'Be "kind".\n'}, load={"request_count": 3})
    assert texts(found, 0)[0] == 'Be "kind".\n'
    assert found.plan.columns["isl"][0] == 5 + TOKENIZER.count(['Be "kind".\n'])[0]


@pytest.mark.parametrize("target", ["system_prefix", "system_suffix", "first_turn_prefix", "first_turn_suffix"])
def test_cache_bust_is_each_sessions_own_and_stays_in_its_history(target: str) -> None:
    built = workload(
        prompt={"isl_mean": 5, "shared_system_prompt_length": 20, "cache_bust": target},
        conversation={"turn_mean": 2, "num_sessions": 6},
    )
    where = 0 if target.startswith("system") else 1
    marked = [texts(built, row)[where] for row in range(0, 12, 2)]
    words = [t.split()[:8] if target.endswith("prefix") else t.split()[-8:] for t in marked]
    assert len({tuple(w) for w in words}) == 6
    assert texts(built, 1)[:2] == texts(built, 0)
    assert TOKENIZER.count(texts(built, 0)).sum() == built.plan.columns["isl"][0] == 33


def test_models_are_assigned_by_session() -> None:
    found = workload(models=("m", "n"), conversation={"turn_mean": 2, "num_sessions": 3}, prompt={"isl_mean": 3})
    assert found.plan.columns["model"].tolist() == [0, 0, 1, 1, 0, 0]
    assert [body(found, row)["model"] for row in range(6)] == ["m", "m", "n", "n", "m", "m"]


def test_batches_are_texts_of_the_same_length() -> None:
    found = workload(endpoint="embeddings", prompt={"isl_mean": 6, "batch_size_text": 4}, load={"request_count": 3})
    inputs = body(found, 0)["input"]
    assert len(set(inputs)) == 4
    assert TOKENIZER.count(inputs).tolist() == [6] * 4
    assert found.plan.columns["isl"].tolist() == [24] * 3


def test_rankings_get_a_query_and_passages() -> None:
    built = workload(endpoint="nim_rankings", prompt={"isl_mean": 6, "batch_size_text": 3}, load={"request_count": 3})
    made = body(built, 1)
    texts_ = [made["query"]["text"], *(p["text"] for p in made["passages"])]
    assert len(set(texts_)) == 4
    assert TOKENIZER.count(texts_).tolist() == [6] * 4
    assert built.plan.columns["isl"].tolist() == [24] * 3


def test_completions_take_the_conversation_as_one_text() -> None:
    built = workload(
        endpoint="completions",
        prompt={"isl_mean": 5, "shared_system_prompt_length": 4},
        conversation={"turn_mean": 2, "num_sessions": 1},
    )
    first, second = body(built, 0)["prompt"], body(built, 1)["prompt"]
    assert TOKENIZER.count([first]).tolist() == [9]
    assert second.startswith(first + " <response to turn 0> ")


def test_chat_template_is_part_of_the_length_if_wanted() -> None:
    found = workload(prompt={"isl_mean": 20, "apply_chat_template": True}, load={"request_count": 2})
    assert TOKENIZER.count(texts(found, 0)).tolist() == [16]
    assert found.plan.columns["isl"].tolist() == [20, 20]


def test_chat_template_of_later_turns_is_in_their_length_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tokens per message and four for the answer's start: turn 2 adds two messages, so six more."""

    def whole(_: WordsTokenizer, messages: Sequence[Mapping[str, str]]) -> int:
        return 4 + 3 * len(messages) + int(TOKENIZER.count([m["content"] for m in messages]).sum())

    monkeypatch.setattr(WordsTokenizer, "apply_chat_template", whole)
    built = workload(
        prompt={"isl_mean": 20, "apply_chat_template": True, "shared_system_prompt_length": 5},
        conversation={"turn_mean": 3, "num_sessions": 1},
    )
    first, second, third = (texts(built, row) for row in range(3))
    assert TOKENIZER.count([first[1], second[3], third[5]]).tolist() == [20 - 4 - 3 - 3, 20 - 6, 20 - 6]
    assert built.plan.columns["isl"].tolist() == [25, 45, 65]


def test_ignore_eos_follows_the_server_only_on_auto() -> None:
    def sent(setting: str, *, known: bool | None) -> object:
        endpoint = {"model_names": ("m",), "ignore_eos": setting, "force_min_tokens": True}
        config = Config.model_validate({"endpoint": endpoint, "prompt": {"osl_mean": 5}, "load": {"request_count": 1}})
        made = build_workload(config, TOKENIZER, SOURCE, 1, ignore_eos=known)
        found = body(made, 0)
        assert found["min_tokens"] == 5
        added = [n.kind for n in made.notes if n.kind == "ignore_eos_added"]
        assert added == (["ignore_eos_added"] if found.get("ignore_eos") and setting == "auto" else [])
        return found.get("ignore_eos")

    assert sent("auto", known=True) is True
    assert sent("auto", known=False) is None
    assert sent("auto", known=None) is None
    assert sent("on", known=False) is True
    assert sent("off", known=True) is None


def test_without_an_output_length_the_end_of_the_text_counts() -> None:
    endpoint = {"model_names": ("m",), "ignore_eos": "on", "force_min_tokens": True}
    config = Config.model_validate({"endpoint": endpoint, "load": {"request_count": 1}})
    made = build_workload(config, TOKENIZER, SOURCE, 1, ignore_eos=True)
    assert not {"ignore_eos", "min_tokens"} & set(body(made, 0))
    ineffective = [n.text.split("`")[1] for n in made.notes if n.kind == "no_output_length"]
    assert ineffective == ["--ignore-eos on", "--force-min-tokens"]
    assert [n.kind for n in made.notes].count("open_ended") == 1


def test_fingerprint_names_what_differs() -> None:
    first = workload(1, load={"request_count": 5}).fingerprint
    b = workload(2, load={"request_count": 5}).fingerprint
    c = workload(1, load={"request_count": 5}, prompt={"isl_mean": 10}).fingerprint
    assert first == workload(1, load={"request_count": 5}).fingerprint
    assert {k for k in first if first[k] != b[k]} == {"seed", "plan"}
    assert {k for k in first if first[k] != c[k]} == {"options", "plan"}


def test_large_plans_take_no_loop_over_requests() -> None:
    """65,536 rows: the shape is rendered once, the rest are columns."""
    calls = 0
    chat = load_endpoint("chat")

    class Counting(type(chat)):  # type: ignore[misc]
        def body(self, *args: object) -> dict[str, object]:
            nonlocal calls
            calls += 1
            return super().body(*args)  # type: ignore[no-any-return]

    options = SyntheticOptions(lengths=NormalLengths(1000, 100, 500, 50), turns=MAX_TURNS)
    plan = build_synthetic_plan(
        options,
        Counting(),
        PlanOptions(models=("m",), body=BodyOptions(model="", streaming=True)),
        np.random.default_rng(1),
    )
    assert (plan.num_turns, calls) == (MAX_TURNS, 1)

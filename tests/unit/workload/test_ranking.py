"""Synthetic rankings: how many passages, how long they and the query are, and that no two are alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from tests.unit.workload.words_tokenizer import WordsTokenizer
from tests.unit.workload.workload_reference import ReferenceVocabulary

from aiperf.config.resolve import config_from
from aiperf.workload import Workload, build_workload
from aiperf.workload.inputs import render_body

TOKENIZER = WordsTokenizer()
_WORDS = [bytes([97 + i // 26, 97 + i % 26]) for i in range(600)]
SOURCE = ReferenceVocabulary(_WORDS, [1] * 600, list(range(600)), list(range(600)))


def workload(**flags: object) -> Workload:
    asked: Mapping[str, object] = {"model": "m", "endpoint_type": "cohere_rankings", "request_count": 40, **flags}
    return build_workload(config_from(asked), TOKENIZER, SOURCE, 1)


def body(found: Workload, row: int) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(render_body(found.plan, row, SOURCE))
    return parsed


def lengths(found: Workload) -> list[tuple[int, list[int]]]:
    """Tokens of the query and of each passage, by request."""
    bodies = [body(found, row) for row in range(found.plan.num_turns)]
    return [(int(TOKENIZER.count([b["query"]])[0]), TOKENIZER.count(b["documents"]).tolist()) for b in bodies]


def test_without_options_they_are_as_aiperfs() -> None:
    found = workload()
    assert lengths(found) == [(32, [128] * 10)] * 40
    assert found.plan.columns["isl"].tolist() == [32 + 1280] * 40
    texts = [t for row in range(40) for t in (body(found, row)["query"], *body(found, row)["documents"])]
    assert len({" ".join(t.split()[:5]) for t in texts}) == 40 * 11


def test_what_is_drawn_is_what_is_sent() -> None:
    built = workload(
        rankings_passages_mean=6,
        rankings_passages_stddev=3,
        rankings_passages_prompt_token_mean=40,
        rankings_passages_prompt_token_stddev=10,
        rankings_query_prompt_token_mean=12,
        rankings_query_prompt_token_stddev=4,
        request_count=200,
    )
    got = lengths(built)
    assert built.plan.columns["isl"].tolist() == [query + sum(passages) for query, passages in got]
    counts = np.array([len(passages) for _, passages in got])
    assert len(set(counts.tolist())) > 4
    assert 5 < counts.mean() < 7.6
    tokens = np.array([n for _, passages in got for n in passages])
    assert 38 < tokens.mean() < 43
    assert 8 < tokens.std() < 12
    assert 10 < np.mean([query for query, _ in got]) < 14


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"isl": 20, "batch_size_text": 3}, (20, [20] * 3)),
        ({"isl": 20, "rankings_query_prompt_token_mean": 5}, (5, [20] * 10)),
        ({"batch_size_text": 2}, (32, [128] * 2)),
    ],
)
def test_general_options_hold_where_there_is_no_own_one(
    flags: dict[str, object], expected: tuple[int, list[int]]
) -> None:
    assert lengths(workload(**flags))[0] == expected


def test_entries_are_reused_and_models_take_turns() -> None:
    found = workload(num_dataset_entries=4, model="a,b", rankings_passages_stddev=2)
    assert found.sampling == "shuffle"
    assert len({body(found, row)["query"] for row in range(found.plan.num_turns)}) == 4
    assert [body(found, row)["model"] for row in range(4)] == ["a", "b", "a", "b"]

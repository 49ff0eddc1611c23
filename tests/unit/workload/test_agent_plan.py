"""Bodies of recorded agent sessions: lengths, shared bytes, marks, whatever the endpoint."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.unit.traces.weka_sessions import FORK, SUBAGENTS, SYSTEM, request, session, write_sessions

from aiperf._core import Vocabulary
from aiperf.endpoints import BodyOptions, load_endpoint
from aiperf.traces.agents import AgentTable, Layout, lay_out
from aiperf.workload.agents import build_agent_plan
from aiperf.workload.choose_tokenizer import load_tokenizer
from aiperf.workload.live_history import history_note, live_links
from aiperf.workload.plan import PlanOptions
from aiperf.workload.tokenizers import ServerAddress, TokenizerOptions
from aiperf.workload.vocabulary import text_source

MARK = b"[rid:0123456789ab]\\n\\n"


@pytest.fixture(scope="module")
def words() -> tuple[Any, Vocabulary]:
    tokenizer, _ = load_tokenizer(TokenizerOptions(name="builtin", model="m"), ServerAddress("http://x", "m"))
    source, _ = text_source(tokenizer, "prose")
    assert isinstance(source, Vocabulary)
    return tokenizer, source


def bodies(table: AgentTable, words: Vocabulary, endpoint: str = "chat", models: tuple[str, ...] = ("m",)) -> list[Any]:
    options = PlanOptions(models=models, body=BodyOptions(model="", streaming=True, ignore_eos=True))
    plan = build_agent_plan(table, load_endpoint(endpoint), options).to_core()
    return [json.loads(plan.body(row, words, MARK)) for row in range(table.num_rows)]


def table(tmp_path: Path, *sessions: dict[str, Any]) -> AgentTable:
    return lay_out(write_sessions(tmp_path / "t.jsonl", sessions), Layout(mark="first_user"))


def test_bodies_have_the_recorded_messages_and_token_counts(tmp_path: Path, words: tuple[Any, Vocabulary]) -> None:
    tokenizer, source = words
    for body, isl in zip(bodies(found := table(tmp_path, SYSTEM, FORK), source), found.isl.tolist(), strict=True):
        texts = [m["content"] for m in body["messages"]]
        first_user = next(i for i, m in enumerate(body["messages"]) if m["role"] == "user")
        assert [MARK[:6].decode() in t for t in texts] == [i == first_user for i in range(len(texts))]
        plain = [t.replace("[rid:0123456789ab]\n\n", "") for t in texts]
        assert sum(tokenizer.count(plain)) == isl
    assert list(body) == ["messages", "model", "stream", "max_completion_tokens", "ignore_eos", "stream_options"]


def test_equal_blocks_are_equal_bytes_in_a_session_and_nowhere_else(
    tmp_path: Path, words: tuple[Any, Vocabulary]
) -> None:
    found = table(tmp_path, SUBAGENTS, {**SUBAGENTS, "id": "other"})
    made = bodies(found, words[1])
    main, child, other = (made[found.first_rows()[s]]["messages"][0]["content"] for s in (0, 1, 3))
    assert main.startswith(child[:500])
    assert main[:60] != other[:60]
    assert child[20:60] not in other
    alone = bodies(table(tmp_path, {**SUBAGENTS, "id": "other"}), words[1])
    assert alone == made[len(alone) :]


@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_any_endpoint_with_conversations_can_replay(
    tmp_path: Path, words: tuple[Any, Vocabulary], endpoint: str
) -> None:
    found = table(tmp_path, SYSTEM)
    two = bodies(found, words[1], endpoint, ("a", "b"))
    assert {b["model"] for b in two} == {"a"}
    text = [json.dumps(b) for b in two]
    same = next(i for i, (a, b) in enumerate(zip(text[1], text[2], strict=False)) if a != b)
    assert same > 0.6 * len(text[1])


def test_a_live_history_without_responses_is_the_recorded_one(tmp_path: Path, words: tuple[Any, Vocabulary]) -> None:
    path = write_sessions(tmp_path / "t.jsonl", [SYSTEM, FORK, SUBAGENTS])
    recorded, live = (lay_out(path, Layout(mark="first_user", live=live)) for live in (False, True))
    assert bodies(live, words[1]) == bodies(recorded, words[1])


def test_links_say_which_responses_a_prompt_holds_and_what_they_stand_in_place_of(tmp_path: Path) -> None:
    # Turn 1 holds the response to turn 0 (70 tokens in two blocks); turn 2 keeps one of these blocks, turn 3 all of turn 2.
    turns = [(256, 4, 70), (640, 10, 200), (384, 5, 40)]
    asked = [request(9 * k, tokens, out, range(1, 1 + ids)) for k, (tokens, ids, out) in enumerate(turns)]
    asked.append(request(40, 704, 5, [*range(1, 6), *range(30, 36)]))
    agents = lay_out(write_sessions(tmp_path / "t.jsonl", [session("s", asked)]), Layout(live=True))
    options = PlanOptions(models=("m",), body=BodyOptions(model="", streaming=True))
    links = live_links(build_agent_plan(agents, load_endpoint("chat"), options))
    assert links is not None
    by_row = [
        list(zip(links.rows[a:b].tolist(), links.room[a:b].tolist(), strict=True)) for a, b in pairwise(links.offsets)
    ]
    assert by_row == [[], [(0, 70)], [(0, 64)], [(0, 64), (2, 40)]]
    note = history_note(agents)
    assert note.data == {"count": 2, "longer": 0, "tokens": 0}

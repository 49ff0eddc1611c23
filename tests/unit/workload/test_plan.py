"""A plan's bodies are what the endpoint says, part by part; its columns say what is planned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workload.words_tokenizer import WordsTokenizer
from tests.unit.workload.workload_reference import ReferenceVocabulary

from aiperf.endpoints import BodyOptions, load_endpoint
from aiperf.errors import DatasetError
from aiperf.session import Message, Part, Pause, Reply, Session, Stamp, Synthetic, Turn
from aiperf.workload.inputs import inputs_json, render_body, with_text
from aiperf.workload.plan import PlanOptions, PlanTables, build_plan
from aiperf.workload.segments import LEADING_SPACE, UNKNOWN, SegmentKind

SOURCE = ReferenceVocabulary([b"a", b"be", b"sea", b"deed"], [1, 1, 1, 1], [0, 2, 3, 1], [0, 1, 2])
COUNT = WordsTokenizer().count


def options(**more: object) -> PlanOptions:
    fields: dict[str, object] = {"models": ("m",), "body": BodyOptions(model="", streaming=True), **more}
    return PlanOptions(**fields)  # type: ignore[arg-type]


def user(*parts: Part) -> Message:
    return Message(role="user", parts=parts)


def plan_of(*sessions: Session, endpoint: str = "chat", **more: object) -> PlanTables:
    return build_plan(sessions, load_endpoint(endpoint), options(**more), COUNT)


def body(plan: PlanTables, row: int = 0) -> dict[str, object]:
    found: dict[str, object] = json.loads(render_body(plan, row, SOURCE))
    return found


def contents(plan: PlanTables, row: int = 0) -> list[object]:
    messages = body(plan, row)["messages"]
    assert isinstance(messages, list)
    return [m["content"] for m in messages]


def test_chat_body_has_its_fields_in_aiperfs_order() -> None:
    plan = plan_of(Session("a", (Turn(messages=(user("hi"),), osl=7),)))
    expected = (
        b'{"messages":[{"role":"user","content":"hi"}],"model":"m","stream":true,"max_completion_tokens":7,'
        b'"stream_options":{"include_usage":true}}'
    )
    assert render_body(plan, 0, SOURCE) == expected


@given(
    texts=st.lists(st.text(max_size=20), min_size=1, max_size=4),
    system=st.text(max_size=10),
    osl=st.none() | st.integers(1, 10_000),
)
@settings(max_examples=150, deadline=None)
def test_any_text_survives_the_way_into_json(texts: list[str], system: str, osl: int | None) -> None:
    """Quotes, control characters, other scripts: what the server parses is what was given."""
    turn = Turn(messages=tuple(user(t) for t in texts), osl=osl)
    plan = plan_of(Session("a", (turn,), (system,) if system else ()))
    assert contents(plan) == [*([system] if system else []), *texts]
    assert body(plan).get("max_completion_tokens") == osl


def test_synthetic_parts_are_joined_by_a_space_and_seams_to_literals_stay_clean() -> None:
    parts = ("Read:", Synthetic(1, 3), Synthetic(2, 2, unique=False), "\n", Synthetic(3, 1), Stamp())
    plan = plan_of(Session("a", (Turn(messages=(user(*parts),)),)))
    text = SOURCE.text
    expected = b"Read:" + text(1, 3, True) + text(2, 2, True) + b"\n" + text(3, 1) + b"0" * 16
    assert contents(plan) == [expected.decode()]
    kinds = plan.columns["seg_kind"].tolist()
    assert kinds == [0, 0, SegmentKind.FRESH, SegmentKind.FIXED, 0, SegmentKind.FRESH, SegmentKind.STAMP, 0]
    flags = [int(b) & LEADING_SPACE for b in plan.columns["seg_b"]]
    assert [bool(f) for f in flags] == [False, False, True, True, False, False, False, False]


def test_conversation_has_history_with_live_replies() -> None:
    session = Session("c", tuple(Turn(messages=(user(f"q{k}"),), delay_ns=k) for k in range(3)), ("Be kind.",))
    plan = plan_of(Session("other", (Turn(messages=(user("x"),)),)), session)
    expected = ["Be kind.", "q0", "<response to turn 0>", "q1", "<response to turn 1>", "q2"]
    assert contents(plan, 3) == expected
    at = slice(int(plan.columns["seg_offsets"][3]), int(plan.columns["seg_offsets"][4]))
    replies = plan.columns["seg_a"][at][plan.columns["seg_kind"][at] == SegmentKind.REPLY]
    assert replies.tolist() == [1, 2], "rows of the plan, not turns"
    offsets, rows = plan.reply_rows()
    assert [rows[a:b].tolist() for a, b in pairwise(offsets)] == [[], [], [1], [1, 2]]
    assert plan.columns["session"].tolist() == [0, 1, 1, 1]
    assert plan.columns["delay_ns"].tolist() == [0, 0, 1, 2]


def test_isl_is_planned_text_with_history_and_without_live_replies() -> None:
    session = Session(
        "c",
        (Turn(messages=(user("one two"),)), Turn(messages=(user(Synthetic(1, 5)),)), Turn(messages=(user("six"),))),
        ("be",),
    )
    assert plan_of(session).columns["isl"].tolist() == [3, 8, 9]


def test_given_isl_is_kept_and_later_turns_add_to_it() -> None:
    session = Session("c", (Turn(messages=(user(Synthetic(1, 5)),), isl=5), Turn(messages=(user("six"),))))
    assert plan_of(session).columns["isl"].tolist() == [5, 6]
    assert plan_of(Session("c", session.turns, ("be kind",))).columns["isl"].tolist() == [7, 8]


def test_isl_is_unknown_without_a_tokenizer() -> None:
    plan = build_plan([Session("a", (Turn(messages=(user("x"),)),))], load_endpoint("chat"), options())
    assert plan.columns["isl"].tolist() == [UNKNOWN]


def test_template_tokens_are_those_of_all_messages_in_the_body() -> None:
    """Three tokens for each message and five for the start of the answer; live answers have their marks too."""

    def around(roles: tuple[str, ...]) -> int:
        return 3 * len(roles) + 5

    session = Session(
        "c", (Turn(messages=(user("one two"),)), Turn(messages=(user("three"),), isl=1), Turn(messages=(user("four"),)))
    )
    assert plan_of(session, template_tokens=around).columns["isl"].tolist() == [2 + 8, 3 + 14, 4 + 20]
    ready = Turn(payload={"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "one"}]})
    assert plan_of(Session("p", (ready,)), template_tokens=around).columns["isl"].tolist() == [2 + 11]


def test_fresh_turn_has_no_history() -> None:
    session = Session(
        "c", (Turn(messages=(user("a"),)), Turn(messages=(user("b c"),), fresh=True), Turn(messages=(user("d"),)))
    )
    plan = plan_of(session)
    assert contents(plan, 1) == ["b c"]
    assert contents(plan, 2) == ["b c", "<response to turn 1>", "d"]
    assert plan.columns["isl"].tolist() == [1, 2, 3]


def test_payload_is_sent_as_it_is() -> None:
    payload = {"model": "x", "messages": [{"role": "user", "content": 'say "hi"'}], "n": 2, "stop": None}
    plan = plan_of(Session("a", (Turn(payload=payload, osl=5),)))
    assert body(plan) == payload
    assert plan.columns["isl"].tolist() == COUNT(['say "hi"']).tolist()


def test_payload_may_hold_recipes() -> None:
    plan = plan_of(Session("a", (Turn(payload={"prompt": (Synthetic(1, 4), "!")}),)))
    assert body(plan) == {"prompt": SOURCE.text(1, 4).decode() + "!"}


def test_fork_and_join_wait_for_rows_of_other_sessions() -> None:
    main = Session("main", (Turn(messages=(user("a"),)), Turn(messages=(user("b"),), after=(("sub", 0),))))
    sub = Session(
        "sub", (Turn(messages=(user("s"), Message(role="assistant", parts=(Reply(0, "main"),))), after=(("main", 0),)),)
    )
    plan = plan_of(main, sub)
    assert plan.columns["after_offsets"].tolist() == [0, 0, 1, 2]
    assert plan.columns["after"].tolist() == [2, 0]
    replies = plan.columns["seg_a"][plan.columns["seg_kind"] == SegmentKind.REPLY]
    assert replies.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (Turn(messages=(user("x"),), after=(("no", 0),)), "there is no such session"),
        (Turn(messages=(user("x"),), after=(("a", 4),)), "it has 1 turns"),
        (Turn(messages=(user(Reply(0, "no")),)), "a response names turn 0 of session `no`"),
    ],
)
def test_reference_to_nothing_is_an_error(turn: Turn, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        plan_of(Session("a", (turn,)))


def test_empty_workload_and_equal_ids_are_errors() -> None:
    with pytest.raises(DatasetError, match="empty"):
        plan_of()
    with pytest.raises(DatasetError, match="two sessions have the id `a`"):
        plan_of(*[Session("a", (Turn(messages=(user("x"),)),))] * 2)


def test_models_go_round_and_a_turns_own_is_added() -> None:
    sessions = [Session(str(i), (Turn(messages=(user("x"),), model="z" if i == 3 else None),)) for i in range(4)]
    plan = plan_of(*sessions, models=("m", "n"))
    assert plan.models == ("m", "n", "z")
    assert plan.columns["model"].tolist() == [0, 1, 0, 2]
    assert [body(plan, i)["model"] for i in range(4)] == ["m", "n", "m", "z"]


def test_random_models_are_seeded() -> None:
    sessions = [Session(str(i), (Turn(messages=(user("x"),)),)) for i in range(50)]
    first = plan_of(*sessions, models=("m", "n"), model_strategy="random", seed=3)
    again = plan_of(*sessions, models=("m", "n"), model_strategy="random", seed=3)
    assert first.digest() == again.digest()
    assert set(first.columns["model"].tolist()) == {0, 1}


def test_equal_literals_are_stored_once() -> None:
    sessions = [Session(str(i), (Turn(messages=(user("same"),), osl=5),)) for i in range(100)]
    assert len(plan_of(*sessions).literals) == 3


def test_endpoint_is_called_once_per_shape() -> None:
    calls: list[Turn] = []
    chat = load_endpoint("chat")

    class Counting(type(chat)):  # type: ignore[misc]
        def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
            calls.append(turn)
            return super().body(turn, history, options)  # type: ignore[no-any-return]

    sessions = [
        Session(str(i), tuple(Turn(messages=(user(f"q{i}"),), osl=i + 1) for _ in range(1 + i % 3))) for i in range(300)
    ]
    build_plan(sessions, Counting(), options())
    assert len(calls) == 3


def test_digest_is_of_bytes_and_times() -> None:
    def made(text: str = "x", at: int = 0) -> str:
        return plan_of(Session("a", (Turn(messages=(user(text),), at_ns=at),))).digest()

    assert made() == made()
    assert len({made(), made("y"), made(at=1)}) == 3


def test_media_do_not_count_as_tokens_and_are_stored_once() -> None:
    url = "data:image/png;base64," + "A" * 1000
    sessions = [
        Session(str(i), (Turn(messages=(Message(role="user", parts=("look",), images=(url,)),)),)) for i in range(5)
    ]
    plan = plan_of(*sessions)
    assert plan.columns["isl"].tolist() == [1] * 5
    assert sum(len(x) for x in plan.literals) < 2000
    assert contents(plan) == [[{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]]


def test_columns_have_the_contracts_types() -> None:
    columns = plan_of(Session("a", (Turn(messages=(user("x"),), after=()),))).columns
    found = {name: str(c.dtype) for name, c in columns.items()}
    assert found == {
        "session": "uint32",
        "at_ns": "int64",
        "delay_ns": "int64",
        "isl": "uint32",
        "osl": "uint32",
        "model": "uint16",
        "path": "uint16",
        "seg_offsets": "uint32",
        "seg_kind": "uint8",
        "seg_a": "uint64",
        "seg_b": "uint32",
    }


def test_inputs_json_holds_every_body() -> None:
    sessions = [
        Session(f"s{i}", (Turn(messages=(user(Synthetic(i, 9)),)), Turn(messages=(user("b"),)))) for i in range(3)
    ]
    plan = plan_of(*sessions)
    document = json.loads(b"".join(inputs_json(plan, SOURCE)))
    assert [d["session_id"] for d in document["data"]] == ["s0", "s1", "s2"]
    assert document["data"][1]["payloads"] == [body(plan, 2), body(plan, 3)]
    assert set(document) == {"data"}


def test_turns_that_send_nothing_have_no_body_and_are_no_requests() -> None:
    wait = Turn(silent=Pause(0.5, 1, 9), delay_ns=5)
    one = Session("one", (Turn(messages=(user("hi"),), after=(("main", 0),)),), parent="main")
    plan = plan_of(Session("main", (wait, replace(wait, after=(("one", 0),)))), one)
    assert plan.request_rows.tolist() == [2]
    assert [plan.columns[f"silent{name}"].tolist() for name in ("", "_sigma", "_min_ns", "_max_ns")] == [
        [0, 1],
        [0.5, 0.5],
        [1, 1],
        [9, 9],
    ]
    assert plan.columns["delay_ns"].tolist() == [5, 5, 0]
    assert np.diff(plan.columns["seg_offsets"]).tolist()[:2] == [0, 0]
    document = json.loads(b"".join(inputs_json(plan, SOURCE)))
    assert [s["session_id"] for s in document["data"]] == ["one"]
    short = json.loads(b"".join(inputs_json(plan, SOURCE, limit_bytes=1)))
    assert [s["session_id"] for s in short["recipe"]] == ["one"]
    with pytest.raises(DatasetError, match="no request to send"):
        plan_of(Session("main", (wait,)))


def test_inputs_json_beyond_the_limit_is_the_recipe() -> None:
    """Lesson 18: files grow with what is asked for."""
    sessions = [Session(f"s{i}", (Turn(messages=(user(Synthetic(i, 9)),), osl=4),)) for i in range(20)]
    plan = plan_of(*sessions)
    document = json.loads(b"".join(inputs_json(plan, SOURCE, limit_bytes=700)))
    whole, left = len(document["data"]), document["recipe"]
    assert 0 < whole < 20
    assert whole + len(left) == 20
    assert left[0] == {"session_id": f"s{whole}", "turns": [{"texts": [[whole, 9]], "isl": 9, "osl": 4}]}
    assert str(len(left)) in document["note"]


def test_written_out_plan_has_the_same_bodies() -> None:
    sessions = [Session(f"s{i}", (Turn(messages=(user(Synthetic(i % 2, 9), Synthetic(5, 3)),)),)) for i in range(4)]
    plan = plan_of(*sessions)
    written = with_text(plan, SOURCE)
    assert set(written.columns["seg_kind"].tolist()) == {0}
    assert [render_body(plan, i, SOURCE) for i in range(4)] == [render_body(written, i, SOURCE) for i in range(4)]


def test_engine_takes_the_plan() -> None:
    sessions = [
        Session("a", (Turn(messages=(user(Synthetic(1, 3)),)), Turn(messages=(user("x"),), after=(("b", 0),)))),
        Session("b", (Turn(messages=(user("y"),)),)),
    ]
    assert plan_of(*sessions).to_core() is not None


def test_seeds_of_64_bits_stay_whole() -> None:
    seed = 2**64 - 3
    plan = plan_of(Session("a", (Turn(messages=(user(Synthetic(seed, 3)),)),)))
    assert seed in plan.columns["seg_a"].tolist()
    assert np.array_equal(plan.columns["seg_kind"] == SegmentKind.FRESH, plan.columns["seg_a"] == seed)

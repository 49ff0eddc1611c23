"""`trace hash`: one's own logs and transcripts as a trace without text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiperf._core import BlockHasher
from aiperf.cli import main
from aiperf.errors import DatasetError
from aiperf.traces import NO_TIME, UNKNOWN, TraceTable
from aiperf.traces.reading.detect import read_trace
from aiperf.traces.tools.hash import Hasher, HashOptions, hash_prompts
from aiperf.traces.tools.hashed_lines import write_hashed

MS = 1_000_000
DATA = Path(__file__).parents[2] / "data" / "traces"


def letters(text: str) -> list[int]:
    return list(text.encode())


def write(path: Path, lines: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def hashed(path: Path, lines: Sequence[dict[str, Any]], **options: Any) -> TraceTable:
    return hash_prompts(write(path, lines), letters, Hasher.create(4, "a salt for tests"), HashOptions(**options))


def says(role: str, content: str, **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


AGENT: dict[str, Any] = {
    "session_id": "anna",
    "timestamp": 5000,
    "tools": [{"name": "look"}],
    "messages": [
        says("system", "be kind"),
        says("user", "where?"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "function": {"name": "look", "arguments": '{"a":1}'}}],
        },
        says("tool", "found", tool_call_id="c", delay_ms=420),
        says("assistant", "there"),
        says("user", "thanks", delay_ms=1500),
        says("assistant", "bye"),
    ],
}
TOOLS = '[{"name":"look"}]'


def test_a_transcript_is_a_request_for_each_of_its_responses(tmp_path: Path) -> None:
    """By hand: what stands before each response is its prompt, what it says its output, what others took the think time."""
    table = hashed(tmp_path / "x.jsonl", [AGENT])
    first = len(TOOLS + "be kind" + "where?")
    second = first + len('look{"a":1}' + "found")
    third = second + len("there" + "thanks")
    assert table.input_length.tolist() == [first, second, third]
    assert table.output_length.tolist() == [len('look{"a":1}'), len("there"), len("bye")]
    assert table.delay_ns.tolist() == [0, 420 * MS, 1500 * MS]
    assert table.at_ns.tolist() == [5000 * MS, NO_TIME, NO_TIME]
    assert table.session.tolist() == [0, 0, 0]
    assert table.whole.all()
    offsets = table.hash_offsets.tolist()
    ids = [table.hash_ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert ids[2][: first // 4] == ids[1][: first // 4] == ids[0][: first // 4]
    assert ids[2][: second // 4] == ids[1][: second // 4]
    assert [note.kind for note in table.notes] == ["rows_taken_for"]


def test_times_of_messages_are_those_of_the_requests(tmp_path: Path) -> None:
    talk = [
        says("user", "one", timestamp=1000),
        says("assistant", "two", timestamp=3500),
        says("user", "three", timestamp=9500),
        says("assistant", "four", timestamp=9900),
    ]
    table = hashed(tmp_path / "x.jsonl", [{"messages": talk}])
    assert table.at_ns.tolist() == [1000 * MS, 9500 * MS]
    assert table.delay_ns.tolist() == [0, 6000 * MS]


def test_two_responses_in_a_row_are_one_request(tmp_path: Path) -> None:
    talk = [
        says("assistant", "hi"),
        says("user", "a"),
        says("assistant", "b"),
        says("assistant", "c"),
        says("user", "d"),
        says("assistant", "e"),
    ]
    table = hashed(tmp_path / "x.jsonl", [{"messages": talk}])
    assert table.input_length.tolist() == [3, 6]


def test_what_a_line_is_can_be_chosen(tmp_path: Path) -> None:
    lines = [
        {"session_id": "s", "messages": [says("user", "ab")], "response": "cd"},
        {"session_id": "s", "messages": [says("user", "ef")], "response": "gh"},
    ]
    whole = hashed(tmp_path / "x.jsonl", lines)
    assert whole.input_length.tolist() == [2, 2]
    assert [note.kind for note in whole.notes] == ["prompts_do_not_grow"]
    added = hashed(tmp_path / "x.jsonl", lines, rows="additions")
    assert added.input_length.tolist() == [2, 6]
    assert added.hash_ids[-2:].tolist() == Hasher.create(4, "a salt for tests").blocks(letters("abcdef"))
    assert hashed(tmp_path / "x.jsonl", [AGENT], rows="prompts").num_rows == 1


def test_pictures_tell_prompts_apart_and_are_counted(tmp_path: Path) -> None:
    def line(url: str) -> dict[str, Any]:
        picture = {"type": "image_url", "image_url": {"url": url}}
        return {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "abcde"}, picture, {"type": "text", "text": "fghij"}],
                }
            ]
        }

    table = hashed(tmp_path / "x.jsonl", [line("one"), line("two"), line("one")])
    one, two, again = table.hash_ids.reshape(3, -1).tolist()
    assert one == again
    assert one[0] == two[0]
    assert not set(one[1:]) & set(two[1:])
    assert [note.text for note in table.notes] == [
        "requests with images, sound or files, whose tokens are not counted: 3"
    ]


@pytest.mark.parametrize("rows", ["auto", "transcripts"])
def test_a_conversation_without_a_question_is_named(tmp_path: Path, rows: str) -> None:
    with pytest.raises(DatasetError, match="line 1: field `messages`: expected a conversation with a response"):
        hashed(tmp_path / "x.jsonl", [{"messages": [says("assistant", "hi")]}], rows=rows)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    table = hashed(
        tmp_path / "x.jsonl", [AGENT, {"messages": [says("user", "one"), says("assistant", "")]}, {"prompt": "two"}]
    )
    with (tmp_path / "shared.jsonl").open("w", encoding="utf-8") as out:
        write_hashed(table, out)
    again = read_trace(tmp_path / "shared.jsonl")[2]
    assert (again.format, again.block_size) == ("hashed_trace", 4)
    for column in (
        "at_ns",
        "delay_ns",
        "input_length",
        "output_length",
        "hash_offsets",
        "hash_ids",
        "session",
        "whole",
    ):
        assert getattr(again, column).tolist() == getattr(table, column).tolist(), column
    assert table.output_length.tolist()[-2:] == [0, UNKNOWN]


def test_nothing_of_a_transcript_survives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a log may hold: a secret in each field of a transcript, and none in any file that is written."""
    words = [f"secret{number}" for number in range(14)]
    secrets = iter(words)
    talk = [
        says("system", next(secrets), name=next(secrets)),
        {
            "role": "user",
            "content": [
                {"type": "text", "text": next(secrets)},
                {"type": "image_url", "image_url": {"url": next(secrets)}},
            ],
        },
        {
            "role": "assistant",
            "content": next(secrets),
            "reasoning_content": next(secrets),
            "tool_calls": [{"id": next(secrets), "function": {"name": next(secrets), "arguments": next(secrets)}}],
        },
        says("tool", next(secrets), tool_call_id=next(secrets)),
        says("assistant", next(secrets)),
    ]
    log = write(tmp_path / "log.jsonl", [{"session_id": next(secrets), "model": next(secrets), "messages": talk}])
    assert next(secrets, None) is None
    out = tmp_path / "out"
    out.mkdir()
    for name in ("shared.jsonl", "shared.jsonl.gz"):
        assert (
            main(["trace", "hash", str(log), "--tokenizer", "builtin", "--block-size", "4", "-o", str(out / name)]) == 0
        )
    from aiperf._core import read_bytes

    written = b"".join(read_bytes(path) for path in out.iterdir()) + capsys.readouterr().err.encode()
    assert b"hash_ids" in written
    assert b"secret" not in written


def test_a_trace_of_two_block_sizes_is_refused(tmp_path: Path) -> None:
    line = {"input_length": 8, "hash_ids": [1, 2], "block_size": 4}
    path = write(tmp_path / "x.jsonl", [line, line | {"block_size": 8}])
    with pytest.raises(DatasetError, match="line 2: field `block_size`: expected the 4 of the first line, found `8`"):
        read_trace(path)


@pytest.mark.parametrize(("follow_times", "delays"), [(False, [0, 0, 300 * MS, 0]), (True, [0, 0, 0, 0])])
def test_on_a_schedule_turns_are_due_at_their_times(follow_times: bool, delays: list[int]) -> None:
    """A server that hiccups once would shift all that follows in the conversation, if think times were added to its responses."""
    table = read_trace(DATA / "hashed_trace.jsonl", follow_times=follow_times)[2]
    assert table.delay_ns.tolist() == delays


def test_names_and_ids_need_the_salt() -> None:
    one, other = BlockHasher(b"one", 4), BlockHasher(b"other", 4)
    tokens = np.arange(8, dtype=np.uint32)
    assert one.name(b"anna") == BlockHasher(b"one", 9).name(b"anna") != other.name(b"anna")
    assert not set(one.blocks(tokens).tolist()) & set(other.blocks(tokens).tolist())
    with pytest.raises(ValueError, match="at least one token"):
        BlockHasher(b"one", 0)
    with pytest.raises(ValueError, match="16 bytes"):
        one.blocks(tokens, [(0, b"short")])

"""Each trace format: a golden file of what it reads and makes, and a malformed one with every complaint."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests.unit.traces.trace_tables import DATA, native, read, table_json, write_lines

from aiperf import registry
from aiperf.errors import ConfigError, DatasetError
from aiperf.session import Message, Synthetic
from aiperf.traces import trace_module
from aiperf.traces.reading.detect import detect, read_trace
from aiperf.traces.replay import prepare
from aiperf.traces.tools.validate import validate_trace

Golden = Callable[[str, str], None]

FILES = {
    "mooncake_trace": ("mooncake_mixed.jsonl", "mooncake_trace_bad.jsonl"),
    "bailian_trace": ("bailian_trace.jsonl", "bailian_trace_bad.jsonl"),
    "burst_gpt_trace": ("burst_gpt_trace.csv", "burst_gpt_trace_bad.csv"),
    "azure": ("azure.csv", "azure_bad.csv"),
    "generic": ("generic.jsonl", "generic_bad.jsonl"),
    "baseten_trace": ("baseten_trace.parquet", "baseten_trace_bad.parquet"),
    "hashed_trace": ("hashed_trace.jsonl", "hashed_trace_bad.jsonl"),
    "weka_trace": ("weka_trace.jsonl", "weka_trace_bad.jsonl"),
    "agentic_mooncake": ("agentic_mooncake.jsonl", "agentic_mooncake_bad.jsonl"),
    "dynamo_request_trace": ("dynamo_request_trace.jsonl", "dynamo_request_trace_bad.jsonl"),
}
NATIVE = {"baseten_trace", "weka_trace", "agentic_mooncake", "dynamo_request_trace"}
FORMATS = [pytest.param(n, marks=native if n in NATIVE else ()) for n in FILES]


def test_every_format_has_a_golden_and_a_malformed_file() -> None:
    assert set(registry.names("traces")) == set(FILES)


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_file_reads_as_its_golden_file_says(name: str, golden: Golden) -> None:
    file, _ = FILES[name]
    module, options, table = read_trace(DATA / file)
    assert table.format == name
    sessions = list(module.load(options, np.random.default_rng(7)))
    golden(f"traces/{name}.json", table_json(table, sessions))


@pytest.mark.parametrize("name", FORMATS)
def test_a_malformed_file_names_line_field_and_what_was_found(name: str, golden: Golden) -> None:
    _, file = FILES[name]
    with pytest.raises(DatasetError) as caught:
        read(file, name)
    first = str(caught.value).replace(str(DATA), "data")
    every = "\n".join(validate_trace(DATA / file, name).problems).replace(str(DATA), "data")
    golden(f"traces/{name}.bad.txt", f"{first}\n\nall of them:\n{every}\n")


def test_skipped_lines_are_counted_and_listed() -> None:
    table = read("mooncake_trace_bad.jsonl", skip_invalid=True)
    (note,) = table.notes
    assert (note.kind, note.data["count"]) == ("invalid_lines", 8)
    assert [bad["line"] for bad in cast(list[dict[str, int]], note.data["lines"])] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert table.line.tolist() == [1, 10]


def test_a_plain_and_a_gzipped_file_read_alike(tmp_path: Path) -> None:
    plain = read("mooncake_trace.jsonl")
    packed = tmp_path / "trace.jsonl.gz"
    packed.write_bytes(gzip.compress((DATA / "mooncake_trace.jsonl").read_bytes()))
    other = read_trace(packed)[2]
    assert (other.hash_ids == plain.hash_ids).all()
    assert other.format == "mooncake_trace"


@native
@pytest.mark.parametrize("name", ["generic.csv", "three_turns.jsonl"])
def test_zstandard_is_read_by_the_native_core(name: str) -> None:
    assert read(f"{name}.zst").hash_ids.tolist() == read(name).hash_ids.tolist()


@native
def test_damaged_zstandard_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes((DATA / "three_turns.jsonl.zst").read_bytes()[:-40])
    with pytest.raises(DatasetError, match="is not Zstandard data, or truncated"):
        read_trace(path)


@pytest.mark.parametrize("name", ["azure.csv", "generic.csv"])
def test_csv_may_be_gzipped(name: str, tmp_path: Path) -> None:
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress((DATA / name).read_bytes()))
    assert read_trace(packed)[2].at_ns.tolist() == read(name).at_ns.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (
            b'{"timestamp": 0, "input_length": 5, "output_length": 1}\n{"timestamp": 3, "input_le',
            "is truncated: its last line, 2,",
        ),
        (b"timestamp,input\n0,5\n", "expected a JSON object"),
    ],
)
def test_an_empty_or_truncated_file_fails(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_trace(path)


def test_a_truncated_gzip_file_fails(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl.gz"
    path.write_bytes(gzip.compress((DATA / "mooncake_trace.jsonl").read_bytes())[:-500])
    with pytest.raises(DatasetError, match="its compressed data end too early"):
        read_trace(path)


def test_a_missing_file_and_a_folder_fail(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no file"):
        read_trace(tmp_path / "nothing.jsonl")
    with pytest.raises(DatasetError, match="in this folder"):
        read_trace(tmp_path)


def test_a_truncated_csv_row_fails(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n2023-11-16 18:1")
    with pytest.raises(DatasetError, match="is truncated"):
        read_trace(path)


def test_a_csv_file_without_a_needed_column_names_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,374\n")
    with pytest.raises(DatasetError, match="has no column `GeneratedTokens`"):
        read_trace(path, "azure")


def test_an_unknown_format_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no trace is named `mooncake`") as caught:
        read("mooncake_trace.jsonl", "mooncake")
    assert caught.value.hint == "did you mean `mooncake_trace`?"


def test_a_file_of_no_known_fields_asks_for_the_format(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [{"colour": "red"}])
    with pytest.raises(DatasetError, match="cannot recognise the format"):
        detect(path)


def test_timestamps_out_of_order_are_counted(tmp_path: Path) -> None:
    lines = [{"timestamp": t, "input_length": 10, "output_length": 1} for t in (0, 50, 20, 60, 10)]
    (note,) = read_trace(write_lines(tmp_path / "x.jsonl", lines))[2].notes
    assert (note.kind, note.data["count"]) == ("sorted", 2)


def test_hash_ids_that_contradict_lengths_are_counted(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]},
        {"timestamp": 1, "input_length": 700, "output_length": 1, "hash_ids": [1, 2]},
        {"timestamp": 2, "input_length": 1100, "output_length": 1, "hash_ids": [1, 3]},
        {"timestamp": 3, "input_length": 100, "output_length": 1, "hash_ids": [1, 3]},
        {"timestamp": 4, "input_length": 1100, "output_length": 1, "hash_ids": [4, 5, 6]},
        {"timestamp": 5, "input_length": 1536, "output_length": 1, "hash_ids": [4, 5, 6]},
    ]
    notes = {n.kind: n.data["count"] for n in read_trace(write_lines(tmp_path / "x.jsonl", lines))[2].notes}
    # Id 2: partial at 88 and at 188 tokens; id 6: partial at 76 tokens and full.
    assert notes == {"hash_id_sizes": 2, "hash_ids_too_few": 1, "hash_ids_too_many": 1}


def test_the_real_excerpt_has_no_contradiction() -> None:
    assert read("mooncake_trace.jsonl").notes == ()


def test_ids_of_64_bits_keep_their_bits(tmp_path: Path) -> None:
    line = {"timestamp": 0, "input_length": 1024, "output_length": 1, "hash_ids": [2**64 - 1, 7]}
    table = read_trace(write_lines(tmp_path / "x.jsonl", [line]))[2]
    assert table.hash_ids.view(np.uint64).tolist() == [2**64 - 1, 7]


def test_a_session_that_repeats_its_prompt_is_whole_and_one_that_does_not_adds(tmp_path: Path) -> None:
    """Replayed as additions, prompts that contain their history would contain it twice."""
    lines = [
        {"session_id": "w", "timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]},
        {"session_id": "w", "timestamp": 9, "input_length": 1200, "output_length": 1, "hash_ids": [1, 3, 4]},
        {"session_id": "d", "timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 5]},
        {"session_id": "d", "delay": 9, "input_length": 300, "output_length": 1, "hash_ids": [6]},
    ]
    path = write_lines(tmp_path / "x.jsonl", lines)
    module, options, table = read_trace(path)
    assert table.whole.tolist() == [True, True, False, False]
    sessions = {s.id: [t.fresh for t in s.turns] for s in module.load(options, np.random.default_rng(0))}
    assert sessions == {"w": [True, True], "d": [False, False]}


def test_lines_of_text_messages_and_payload_keep_them() -> None:
    module, options, _ = read_trace(DATA / "mooncake_mixed.jsonl")
    by_id = {s.id: s for s in module.load(options, np.random.default_rng(0))}
    chat = by_id["chat"].turns
    assert [t.messages[0].parts for t in chat] == [("What is a prefix cache?",), ("And how large is it?",)]
    assert [(t.at_ns, t.delay_ns) for t in chat] == [(0, 0), (None, 1_500_000_000)]
    image = by_id["line-3"].turns[0]
    assert image.messages == (
        Message(role="system", parts=("Be brief.",)),
        Message(role="user", parts=("Look",), images=("https://example.org/cat.png",)),
    )
    assert image.tools == ({"type": "function", "function": {"name": "zoom"}},)
    assert image.at_ns == 250_500_000
    assert by_id["line-4"].turns[0].payload == {"prompt": "Once", "max_tokens": 5, "temperature": 0}
    lengths = by_id["line-5"].turns[0]
    assert [p.tokens for p in lengths.messages[0].parts if isinstance(p, Synthetic)] == [512, 512, 6]
    assert lengths.extra == {"top_p": 0.5}
    tool_call, answer = by_id["line-6"].turns[0].messages
    assert tool_call.extra == {"content": None, "tool_calls": [{"id": "1"}]}
    assert (answer.parts, answer.extra) == (("42",), {"tool_call_id": "1"})
    audio = by_id["line-7"].turns[0]
    assert json.dumps(audio.extra["messages"]).startswith('[{"role": "user", "content": [{"type": "input_audio"')


def test_a_bailian_conversation_is_linked_by_parents() -> None:
    table = read("bailian_trace.jsonl")
    assert table.session.tolist() == [0, 1, 0, 2, 0]
    assert table.block_size == 16
    assert table.whole.all()
    assert [(n.kind, n.data["count"]) for n in table.notes] == [("no_parent", 1)]


def test_burst_gpt_rows_of_a_session_are_turns_unless_asked_otherwise() -> None:
    assert read("burst_gpt_trace.csv").session.tolist() == [0, 1, 0, 2]
    assert read("burst_gpt_trace.csv", use_sessions=False).session.tolist() == [0, 1, 2, 3]
    assert read("burst_gpt_trace.csv", model="GPT-4").input_length.tolist() == [1087]


@native
def test_baseten_turns_are_due_at_their_time_or_as_long_after_the_answer() -> None:
    """Open loop: recorded times. Closed loop: 4 s − (0 s + 1.5 s that the first request took)."""
    timed, closed = read("baseten_trace.parquet"), read("baseten_trace.parquet", open_loop=False)
    assert (timed.delay_ns == 0).all()
    assert closed.at_ns.tolist() == [*timed.at_ns[:2].tolist(), -1, timed.at_ns[3]]
    assert closed.delay_ns.tolist() == [0, 0, 2_500_000_000, 0]


@native
def test_baseten_rows_may_all_be_sessions_of_their_own() -> None:
    sessions, strict = read("baseten_trace.parquet"), read("baseten_trace.parquet", strict=True)
    assert sessions.num_sessions < sessions.num_rows
    assert strict.num_sessions == strict.num_rows
    assert strict.at_ns.tolist() == sessions.at_ns.tolist()


@native
def test_baseten_bodies_may_go_without_hints() -> None:
    module, options, _ = read_trace(DATA / "baseten_trace.parquet", omit_kv_hints=True, force_min_tokens=False)
    assert all(not t.extra for s in module.load(options, np.random.default_rng(0)) for t in s.turns)


def test_azure_times_keep_their_100_ns() -> None:
    at = read("azure.csv").at_ns
    assert (at - at[0]).tolist() == [0, 4_314_579_000, 4_542_377_000, 4_710_427_000]


def test_generic_hashes_of_text_and_numbers_tell_equal_prefixes() -> None:
    text, numbers = read("generic.jsonl"), read("generic.csv")
    assert numbers.hash_ids.tolist() == [11, 12, 13, 11, 12, 14, 15]
    ids = text.hash_ids
    assert (ids[:2] == ids[3:5]).all()
    assert len(set(ids.tolist())) == 5
    assert (text.at_ns - text.at_ns[0]).tolist() == [0, 1_250_000_000, 2_500_000_000]
    assert (numbers.at_ns == text.at_ns - text.at_ns[0]).all()


@pytest.mark.parametrize(("unit", "scale"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
def test_generic_times_have_a_unit(unit: str, scale: int) -> None:
    assert read("generic.csv", time_unit=unit).at_ns.tolist() == [0, 1250 * scale, 2500 * scale]


def test_generic_fields_go_by_any_name(tmp_path: Path) -> None:
    line = {"when": 5, "len": 100, "out": 7, "h": [3], "who": 9}
    table = read_trace(
        write_lines(tmp_path / "x.jsonl", [line]),
        "generic",
        time_field="when",
        input_field="len",
        output_field="out",
        hash_field="h",
        session_field="who",
    )[2]
    assert (table.at_ns[0], table.input_length[0], table.output_length[0], table.hash_ids.tolist()) == (
        5_000_000,
        100,
        7,
        [3],
    )
    assert table.session_names == {0: "9"}


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="sppedup"):
        trace_module("azure").Options(path=Path("x"), sppedup=2)  # type: ignore[call-arg]


def test_loading_twice_gives_equal_sessions() -> None:
    """Hash ids give the same text on every machine; the rest follows the seed."""
    module, options, table = read_trace(DATA / "mooncake_trace.jsonl")
    first = list(module.load(options, np.random.default_rng(3)))
    assert first == list(prepare(table, options, np.random.default_rng(3)).sessions())


def test_a_broken_line_shows_its_damage(tmp_path: Path) -> None:
    """The first 60 characters of a long line say nothing of what is wrong further on."""
    good = '{"timestamp": 0, "input_length": 900, "output_length": 610}'
    bad = '{"timestamp": 13000, "input_length": 900000, "output_length":2748 610}'
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([*[good] * 12, bad, *[good] * 7]) + "\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"line 13: .* at column 67 .*\"output_length\":2748 610}`") as caught:
        read_trace(path)
    assert "--skip-invalid" in str(caught.value.hint)
    table = read_trace(path, skip_invalid=True)[2]
    assert (table.num_rows, [n.data["count"] for n in table.notes if n.kind == "invalid_lines"]) == (19, [1])


def test_negative_hash_ids_are_noted_and_refused_next_to_the_same_bits(tmp_path: Path) -> None:
    lines = [{"timestamp": 0, "input_length": 1024, "output_length": 1, "hash_ids": [-1, 7]}]
    (note,) = read_trace(write_lines(tmp_path / "x.jsonl", lines))[2].notes
    assert (note.kind, note.data["count"]) == ("negative_hash_ids", 1)
    lines.append({"timestamp": 1, "input_length": 1024, "output_length": 1, "hash_ids": [2**64 - 1, 7]})
    with pytest.raises(DatasetError, match=r"hash ids below 0 \(1\) and of 2⁶³ or more \(1\)"):
        read_trace(write_lines(tmp_path / "x.jsonl", lines))


def test_a_json_list_is_a_trace_too(tmp_path: Path) -> None:
    lines = [{"timestamp": t, "input_length": 10, "output_length": 1} for t in (0, 5)]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(lines), encoding="utf-8-sig")
    assert read_trace(path)[2].at_ns.tolist() == [0, 5_000_000]


@pytest.mark.parametrize("time", ["9" * 30, "1e300", 10**30, 1e300, -1, "²"])
def test_times_beyond_the_clock_are_refused(time: object, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [{"timestamp": time, "input_length": 10, "output_length": 1}])
    with pytest.raises(DatasetError, match="field `timestamp`: expected milliseconds ≥ 0"):
        read_trace(path)

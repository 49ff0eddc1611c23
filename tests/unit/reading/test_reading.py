"""The reader of the user's files: whatever the bytes, records or an error that names file, line and column."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.workload.words_tokenizer import WordsTokenizer
from tests.unit.workload.workload_reference import ReferenceVocabulary

from aiperf import registry
from aiperf.config.model import Config
from aiperf.errors import AIPerfError, DatasetError
from aiperf.reading.detect import first_fields
from aiperf.reading.problems import BadField, quote
from aiperf.reading.records import iter_csv, iter_json, read_json
from aiperf.traces.reading.detect import read_trace
from aiperf.workload import build_workload

RECORDS = [{"text": "Grüße, 世界 🌍", "n": 1}, {"text": "zwei", "n": 2.5}, {"text": "drei\n", "n": None}]
JSONL = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
SHAPES = {
    "lines": JSONL,
    "lines without the last end": JSONL.rstrip("\n"),
    "lines of Windows": JSONL.replace("\n", "\r\n"),
    "lines with blank ones": "\n \n" + JSONL.replace("\n", "\n\n"),
    "list": json.dumps(RECORDS, ensure_ascii=False),
    "list over lines": "\n" + json.dumps(RECORDS, ensure_ascii=False, indent=2) + "\n",
}


def plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize("pack", [plain, gzip.compress])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_in_every_encoding_gives_the_same_records(
    shape: str, encoding: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A byte order mark, UTF-16 from a Windows shell, a JSON list: no way of writing a file changes what is in it."""
    path = tmp_path / "data"
    path.write_bytes(pack(SHAPES[shape].encode(encoding)))
    assert [record for _, record in iter_json(path)] == RECORDS


def test_numbers_count_lines_in_json_lines_and_items_in_lists(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": 2}\n', encoding="utf-8")
    assert [n for n, _ in iter_json(path)] == [2, 4]
    path.write_text('[\n{"a": 1},\n\n{"a": 2}]\n', encoding="utf-8")
    assert [n for n, _ in iter_json(path)] == [1, 2]


BAD_LINES = [
    (
        '{"timestamp": 13000, "input_length": 900, "output_length":2748 610}',
        r'column 64 \(expecting \',\' delimiter\): `.*"output_length":2748 610}`',
    ),
    ('{"a": "b" "c"}', r"column 11"),
    ('{"a": NaN}', "`NaN`, which JSON does not have"),
    ('{"a": -Infinity}', "`-Infinity`, which JSON does not have"),
    ('{"a": 1e400}', "the number `1e400`, too large"),
    ('{"a": "\\ud800"}', "unpaired surrogate"),
    ("[1, 2]", r"expected a JSON object, found `\[1, 2\]`"),
    ("7", "expected a JSON object, found `7`"),
    ("null", "expected a JSON object, found null"),
    ("text", "expected a JSON object, found `text`"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a": ' + "9" * 5000 + "}", "limit"),
]


@pytest.mark.parametrize(("line", "said"), BAD_LINES)
def test_a_broken_line_costs_itself_and_shows_its_damage(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f'{{"n": 1}}\n{line}\n{{"n": 3}}\n', encoding="utf-8")
    (_, first), (number, bad), (_, last) = iter_json(path)
    assert (first, number, last) == ({"n": 1}, 2, {"n": 3})
    assert isinstance(bad, BadField)
    assert re.search(said, str(bad))


def test_bytes_that_are_not_utf8_are_named_with_their_column(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes('{"a": 1}\n{"text": "é"}\n'.encode("latin-1"))
    _, (_, bad) = iter_json(path)
    assert str(bad).startswith("expected UTF-8 text, found byte 0xe9 at column 11")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1},\n {"b": 2 3}]', r"item 2 of its JSON list is damaged at line 2, column 10"),
        ('[{"a": 1},\n {"b": 2}', "truncated: it ends in the middle of item 2"),
        ('[{"a": 1}]\n{"b": 2}\n', r"damaged at line 2, column 1 \(extra data\)"),
        ('[{"a": 1},]', "item 2 of its JSON list is damaged"),
    ],
)
def test_a_damaged_list_names_item_line_and_column(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(text, encoding="utf-8")
    if text.startswith('[{"a": 1}]\n'):
        # A list and more lines are JSON Lines, of which the list is a broken one.
        assert [isinstance(r, BadField) for _, r in iter_json(path)] == [True, False]
        return
    with pytest.raises(DatasetError, match=said):
        list(iter_json(path))


def test_a_value_json_does_not_have_costs_its_item_only(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('[{"a": 1}, {"a": NaN}, {"a": 3}]', encoding="utf-8")
    assert [isinstance(r, BadField) for _, r in iter_json(path)] == [False, True, False]


def test_a_file_cut_in_a_line_is_truncated_and_one_cut_between_lines_is_not(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": 1}\n{"a": "tw', encoding="utf-8")
    _, (_, bad) = iter_json(path)
    assert isinstance(bad, BadField)
    assert bad.truncated
    path.write_text('{"a": 1}\n{"a": 2}', encoding="utf-8")
    assert len(list(iter_json(path))) == 2


def test_documents_over_lines_give_their_fields(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps({"data": [{"session_id": "a", "payloads": []}]}, indent=2), encoding="utf-8-sig")
    assert {"data", "data.payloads"} <= first_fields(path)
    path.write_text('{"a": 1,\n "b": }', encoding="utf-8")
    with pytest.raises(DatasetError, match="damaged at line 2, column 7"):
        read_json(path)


def test_csv_of_any_encoding_with_long_and_quoted_fields(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    long = "x" * 300_000
    for encoding in ENCODINGS:
        path.write_bytes(f'prompt,n\n"a, ""b""\nc",1\n{long},2\n3\n'.encode(encoding))
        header, first, second, third = iter_csv(path)
        assert header == (1, {"prompt": "prompt", "n": "n"})
        assert first == (2, {"prompt": 'a, "b"\nc', "n": "1"})
        assert second == (4, {"prompt": long, "n": "2"})
        assert str(third[1]) == "expected 2 values, found 1"


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("a,b,a\n1,2,3\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="names the column `a` twice"):
        list(iter_csv(path))


def test_the_locale_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(JSONL, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from aiperf.reading.records import iter_json;"
        "print([ascii(r) for _, r in iter_json(Path(sys.argv[1]))])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", code, str(path)],
            env={"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for locale in ("C", "C.UTF-8", "tr_TR.ISO-8859-9")
    }
    assert said == {f"{[ascii(r) for r in RECORDS]}\n"}


@given(st.text() | st.binary() | st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists))
def test_any_value_can_be_quoted(value: object) -> None:
    text = quote(value)
    assert len(text) <= 62
    text.encode("utf-8")


# --- fuzz: bytes → rows or a clear error ---

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=12)
    | st.sampled_from(
        ["a b c", "user", "system", "assistant", "human", "gpt", "1e400", "2024-01-01", "http://x/y", "9" * 30]
    )
)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3), max_leaves=8
)
NAMES = (
    "text",
    "texts",
    "image",
    "audio",
    "timestamp",
    "delay",
    "role",
    "session_id",
    "output_length",
    "model",
    "extra",
    "turns",
    "messages",
    "conversations",
    "from",
    "value",
    "content",
    "id",
    "prompt",
    "question",
    "input",
    "payload",
    "input_length",
    "hash_ids",
    "text_input",
    "tools",
    "chat_id",
    "parent_chat_id",
    "prompt_tokens",
    "completion_tokens",
    "time",
    "data",
    "payloads",
    "max_tokens",
    "forks",
    "spawns",
    "children",
    "join_at",
    "stream",
    "temperature",
)
RECORD: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(NAMES), st.deferred(lambda: VALUES | RECORD | st.lists(RECORD, max_size=3)), max_size=6
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of records, well formed or damaged, in some encoding, perhaps compressed."""
    records = draw(st.lists(RECORD, max_size=4))
    dumped = [json.dumps(r, ensure_ascii=draw(st.booleans())) for r in records]
    text = draw(st.sampled_from(["\n".join(dumped) + "\n", f"[{','.join(dumped)}]", "\n".join(dumped)]))
    data = text.encode(draw(st.sampled_from(ENCODINGS)), "surrogatepass")
    match draw(st.sampled_from(["as it is", "cut", "spliced", "bytes", "gzip", "cut gzip"])):
        case "cut":
            data = data[: draw(st.integers(0, len(data)))]
        case "spliced":
            at = draw(st.integers(0, len(data)))
            data = data[:at] + draw(st.binary(max_size=6)) + data[at:]
        case "bytes":
            data = draw(st.binary(max_size=60))
        case "gzip":
            data = gzip.compress(data)
        case "cut gzip":
            data = gzip.compress(data)
            data = data[: draw(st.integers(0, len(data)))]
    return data


FORMATS = [*registry.names("datasets"), *(n for n in registry.names("traces") if n != "baseten_trace"), None]
WORDS = [bytes([97 + i // 26, 97 + i % 26]) for i in range(600)]
SOURCE = ReferenceVocabulary(WORDS, [1] * 600, list(range(600)), list(range(600)))
FUZZ = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def a_workload(path: Path, name: str | None, *, skip: bool) -> None:
    given: dict[str, Any] = {"input_file": path, "custom_dataset_type": name, "skip_invalid": skip}
    config = Config.model_validate({"endpoint": {"model_names": ("m",), "streaming": True}, "input": given})
    build_workload(config, WordsTokenizer(), SOURCE, 1)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("data", [b"[]", b" [ ]\n", b"\n\n", b"\xef\xbb\xbf[]", b"null"])
def test_a_file_without_a_record_is_refused_by_every_format(name: str | None, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(data)
    with pytest.raises(AIPerfError):
        a_workload(path, name, skip=False)


@FUZZ
@given(
    data=files(), name=st.sampled_from(FORMATS), suffix=st.sampled_from([".jsonl", ".json", ".csv"]), skip=st.booleans()
)
def test_any_bytes_give_requests_or_a_clear_error(
    data: bytes, name: str | None, suffix: str, *, skip: bool, tmp_path: Path
) -> None:
    """Never an internal error, whatever the format the file is taken for."""
    path = tmp_path / f"data{suffix}"
    path.write_bytes(data)
    try:
        a_workload(path, name, skip=skip)
    except AIPerfError as error:
        error.message.encode("utf-8")


@FUZZ
@given(data=files() | st.binary(max_size=40))
def test_readers_give_records_or_dataset_errors(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    readers: tuple[Callable[[Path], Iterator[tuple[int, Any]]], ...] = (iter_json, iter_csv)
    for reader in readers:
        try:
            numbers = [n for n, _ in reader(path)]
        except DatasetError:
            continue
        assert numbers == sorted(numbers)


@FUZZ
@given(data=files())
def test_traces_read_or_say_why_not(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(data)
    try:
        table = read_trace(path, skip_invalid=True)[2]
    except DatasetError:
        return
    assert np.all(table.at_ns >= -1)

"""AIPerf's names of public datasets: a miniature of each one's layout gives the requests that are meant."""

from __future__ import annotations

import base64
import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiperf.config.resolve import config_from
from aiperf.datasets.formats import hf, speed_bench
from aiperf.errors import ConfigError, DatasetError
from aiperf.workload.source import open_data

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
IMAGE = f"data:image/png;base64,{PNG}"


def sound(seconds: float) -> dict[str, object]:
    return {"array": [0.0] * int(8000 * seconds), "sampling_rate": 8000, "path": "a.flac"}


CHAT = [
    {"role": "user", "content": "what?"},
    {"role": "assistant", "content": "that"},
    {"role": "user", "content": "so?"},
]
SPEECH = {"audio": sound(0.5), "text": "A WORD"}
ROWS: dict[str, dict[str, Any]] = {
    "aimo": {"problem": "1+1?", "solution": "2", "messages": []},
    "aimo_aime": {"id": 0, "problem": "1+1?", "solution": "2", "answer": "2"},
    "aimo_numina_cot": {"source": "s", "problem": "1+1?", "solution": "2", "messages": []},
    "aimo_numina_1_5": {"problem": "1+1?", "solution": "2", "answer": "2"},
    "mmstar": {"index": 0, "question": "what?", "image": IMAGE, "answer": "A"},
    "mmvu": {"id": "v", "video": "https://h/a.mp4", "question": "what?", "choices": {"A": "x", "B": "y", "C": ""}},
    "instruct_coder": {"instruction": "do", "input": "a", "output": "b"},
    "blazedit_5k": {"code": "x = {1}", "change_request": "rename x"},
    "blazedit_10k": {"code": "x = {1}", "change_request": "rename x"},
    "spec_al_gsm8k": {"question": "1+1?", "answer": "2"},
    "spec_al_math500": {"problem": "1+1?", "solution": "2"},
    "spec_al_humaneval": {"task_id": "H/0", "prompt": "def f():", "canonical_solution": ""},
    "spec_al_mbpp": {"task_id": 1, "text": "write f", "code": ""},
    "spec_al_mtbench": {"prompt_id": 1, "category": "c", "prompt": ["one", "two"], "reference": []},
    "llava_onevision": {
        "id": "a",
        "image": IMAGE,
        "conversations": [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "that"}],
    },
    "vision_arena": {"images": [IMAGE], "conversation": [CHAT]},
    "librispeech": SPEECH,
    "voxpopuli": SPEECH,
    "gigaspeech": SPEECH,
    "ami": SPEECH,
    "spgispeech": SPEECH,
}
EDIT = (
    "Given a code file, please apply the change requests and generate the new file.\n\nOriginal file:\n```python\nx = {1}\n```\n\n"
    'Change request:\nrename x\n\nPlease generate the new code file in the "New file" section below.'
)
TEXTS: dict[str, list[str]] = {
    "mmstar": ["what?"],
    "mmvu": ["what? A.x B.y"],
    "instruct_coder": ["do"],
    "blazedit_5k": [EDIT],
    "blazedit_10k": [EDIT],
    "spec_al_humaneval": ["def f():"],
    "spec_al_mbpp": ["write f"],
    "spec_al_mtbench": ["one", "two"],
    "llava_onevision": ["what?"],
    "vision_arena": ["what?"],
    **{key: ["Transcribe this audio."] for key in ("librispeech", "voxpopuli", "gigaspeech", "ami", "spgispeech")},
}


def sessions(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *rows: object, **flags: object) -> list[Any]:
    """Of `--public-dataset name`, whose files are these rows."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked: list[tuple[object, ...]] = []

    def files(*of: object) -> list[Path]:
        asked.append(of)
        return [file]

    monkeypatch.setattr("aiperf.datasets.hub.parquet_files", files)
    config = config_from({"model": "m", "public_dataset": name, **flags})
    found = list(open_data(config, np.random.default_rng(1)).sessions())
    known = hf.KNOWN[name.replace("-", "_")]
    assert asked == [(known["dataset"], known.get("subset"), known.get("split", "train"))]
    return found


def test_every_name_has_a_miniature_here() -> None:
    assert set(ROWS) == set(hf.KNOWN)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_name_gives_the_requests_that_are_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (session,) = sessions(monkeypatch, tmp_path, name, ROWS[name])
    texts = ["".join(str(p) for p in turn.messages[0].parts) for turn in session.turns]
    assert texts == TEXTS.get(name, ["1+1?"])
    first = session.turns[0].messages[0]
    assert first.images == ((IMAGE,) if name in {"mmstar", "llava_onevision", "vision_arena"} else ())
    assert first.videos == (("https://h/a.mp4",) if name == "mmvu" else ())
    assert len(first.audios) == (hf.KNOWN[name].get("audio_field") == "audio")
    if first.audios:
        with wave.open(io.BytesIO(base64.b64decode(first.audios[0].partition(",")[2]))) as file:
            assert (file.getnframes(), file.getframerate()) == (4000, 8000)


def test_a_dash_is_an_underscore_and_long_audio_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = {"audio": sound(30.5), "text": "LONG"}
    assert len(sessions(monkeypatch, tmp_path, "librispeech", SPEECH, long, skip_invalid=True)) == 1
    assert len(sessions(monkeypatch, tmp_path, "spec-al-gsm8k", ROWS["spec_al_gsm8k"])) == 1


@pytest.mark.parametrize("name", sorted(hf.ELSEWHERE))
def test_a_name_that_is_no_table_on_the_hub_says_what_to_do(name: str) -> None:
    with pytest.raises(DatasetError, match="cannot be downloaded") as caught:
        open_data(config_from({"model": "m", "public_dataset": name}), np.random.default_rng(1))
    assert "--input-file" in str(caught.value.hint)


QUESTIONS = [
    {"question_id": "a" * 32, "category": "coding", "messages": [{"role": "user", "content": "x"}]},
    {
        "question_id": "b" * 32,
        "category": "math",
        "messages": [{"role": "user", "content": "1"}, {"role": "user", "content": "2"}],
    },
]


@pytest.mark.parametrize(
    ("kind", "turns"), [("speed_bench_qualitative", [1, 2]), ("speed_bench_math", [2]), ("speed-bench-coding", [1])]
)
def test_speed_bench_by_category(tmp_path: Path, kind: str, turns: list[int]) -> None:
    file = tmp_path / "qualitative.jsonl"
    file.write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS), encoding="utf-8")
    config = config_from({"model": "m", "input_file": file, "custom_dataset_type": kind})
    found = open_data(config, np.random.default_rng(1))
    assert found.kind == "speed_bench"
    assert [len(s.turns) for s in found.sessions()] == turns
    with pytest.raises(DatasetError, match="no row of the category `stem`"):
        list(speed_bench.load(speed_bench.Options(path=file, category="stem"), np.random.default_rng(1)))


def test_placeholders_of_speed_bench_are_no_prompts(tmp_path: Path) -> None:
    text = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH"
    row = {"question_id": "c" * 32, "category": "qa", "messages": [{"role": "user", "content": text}]}
    (tmp_path / "q.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DatasetError, match="placeholder"):
        list(speed_bench.load(speed_bench.Options(path=tmp_path / "q.jsonl"), np.random.default_rng(1)))


@pytest.mark.parametrize(
    ("name", "subset", "texts"),
    [
        ("speed_bench_coding", "qualitative", ["one", "two"]),
        ("speed-bench-qualitative", "qualitative", ["one", "two", "three"]),
        ("speed_bench_throughput_2k_mixed", "throughput_2k", ["five"]),
    ],
)
def test_speed_bench_by_aiperfs_public_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, subset: str, texts: list[str]
) -> None:
    rows = [
        {
            "question_id": "a",
            "category": "coding",
            "messages": [{"role": "user", "content": t} for t in ("one", "two")],
        },
        {"question_id": "b", "category": "math", "messages": [{"role": "user", "content": "three"}]},
        {"question_id": "c", "category": "mixed", "messages": [{"role": "user", "content": "five"}]},
    ]
    path = tmp_path / "rows.jsonl"
    kept = rows[2:] if subset.startswith("throughput") else rows[:2]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    asked: list[tuple[str, str | None, str]] = []

    def files(repository: str, part: str | None, split: str) -> list[Path]:
        asked.append((repository, part, split))
        return [path]

    monkeypatch.setattr("aiperf.datasets.hub.parquet_files", files)
    config = config_from({"model": "m", "public_dataset": name})
    sessions = list(open_data(config, np.random.default_rng(1)).sessions())
    assert [str(m.parts[0]) for s in sessions for t in s.turns for m in t.messages] == texts
    assert asked == [("nvidia/SPEED-Bench", subset, "test")]


def test_a_part_that_speed_bench_has_not_is_said() -> None:
    config = config_from({"model": "m", "public_dataset": "speed_bench_codign"})
    with pytest.raises(ConfigError, match="SPEED-Bench has no part `speed_bench_codign`") as raised:
        open_data(config, np.random.default_rng(1))
    assert raised.value.problems[0].hint == "did you mean `speed_bench_coding`?"

"""Damaged files of recorded agents: an error that names the place, or every request that the file has. Nothing else."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiperf.datasets import DatasetOptions, dataset_module
from aiperf.errors import DatasetError
from aiperf.traces import trace_module
from aiperf.traces.agents import AgentTable, Layout

DATA = Path(__file__).parents[2] / "data"
ODD: tuple[object, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        1e308,
        10**19,
        -(10**19),
        4_294_967_295,
        "",
        "x",
        "\x00",
        "é",
        "-1",
        "assistant",
        "user",
    ),
    *(
        [],
        [None],
        [[]],
        [0, -1],
        {},
        {"a": None},
        {"role": "user"},
        [{"role": "tool"}],
        [{"role": 1, "content": {}}],
        [4_294_967_295, 0],
    ),
    *(
        "\\ud800",
        "{}",
        "[]",
        "null",
        '{"messages": [{"role": "user", "content": "\\ud800"}]}',
        "[" * 20_000,
        "NaN",
        "2026-99-99T00:00:00Z",
    ),
)
Path_ = tuple[str | int, ...]


def places(value: object, at: Path_ = ()) -> Iterator[Path_]:
    """Every place in a document."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*at, key))


def spoil(value: Any, rng: random.Random) -> Any:
    """One value replaced, left out, or given twice."""
    at = rng.choice(list(places(value)))
    if not at:
        return rng.choice(ODD)
    out = copy.deepcopy(value)
    inside = out
    for key in at[:-1]:
        inside = inside[key]
    match rng.randrange(4):
        case 0 if isinstance(inside, dict):
            del inside[at[-1]]
        case 1 if isinstance(inside, dict):
            inside[f"{at[-1]}2"] = inside[at[-1]]
        case 2 if isinstance(inside, list):
            inside.append(rng.choice(ODD))
        case _:
            inside[at[-1]] = rng.choice(ODD)
    return out


def damage(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, left out, cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(out))
        match rng.randrange(3):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                del out[at : at + rng.randint(1, 9)]
            case _:
                del out[max(at, 1) :]
    return bytes(out)


def spoilt(path: Path, rng: random.Random) -> bytes:
    data = path.read_bytes()
    if rng.random() < 0.3:
        return damage(data, rng)
    lines: list[Any] = [json.loads(line) for line in data.splitlines() if line.strip()]
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(lines))
        lines[at] = spoil(lines[at], rng)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def agents_of(name: str) -> Callable[[Path, bool], int]:
    module: Any = trace_module(name)

    def read(path: Path, skip: bool) -> int:
        table: AgentTable | None = module.read_agents(path, Layout(share_parent=True), skip_invalid=skip)
        if table is None:
            return int(module.read(path, module.Options(path=path, skip_invalid=skip)).num_requests)
        assert len(table.isl) == table.num_rows
        assert (table.isl > 0).all()
        assert (table.delay_ns >= 0).all()
        return table.num_rows

    return read


def turns_of(name: str) -> Callable[[Path, bool], int]:
    module = dataset_module(name)

    def read(path: Path, skip: bool) -> int:
        options: DatasetOptions = module.Options(path=path, skip_invalid=skip)
        sessions = list(module.load(options, np.random.default_rng(0)))
        for session in sessions:
            for turn in session.turns:
                text = json.dumps(
                    [[p for p in m.parts if isinstance(p, str)] for m in turn.messages], ensure_ascii=False
                )
                text += json.dumps([turn.tools, turn.extra], ensure_ascii=False, allow_nan=False, default=dict)
                text.encode()
        return sum(len(s.turns) for s in sessions)

    return read


READERS: dict[str, tuple[Path, Callable[[Path, bool], int]]] = {
    "weka_trace": (DATA / "traces" / "weka_trace.jsonl", agents_of("weka_trace")),
    "agentic_mooncake": (DATA / "traces" / "agentic_mooncake.jsonl", agents_of("agentic_mooncake")),
    "dynamo_request_trace": (DATA / "traces" / "dynamo_request_trace.jsonl", agents_of("dynamo_request_trace")),
    "chat_transcript": (DATA / "datasets" / "chat_transcript.jsonl", turns_of("chat_transcript")),
    "sagemaker_data_capture": (DATA / "datasets" / "sagemaker_data_capture.jsonl", turns_of("sagemaker_data_capture")),
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_an_error_that_names_the_place_or_is_read(tmp_path: Path, name: str) -> None:
    source, read = READERS[name]
    rng = random.Random(name)
    errors: list[str] = []
    path = tmp_path / f"{name}.jsonl"
    for _ in range(150):
        path.write_bytes(spoilt(source, rng))
        for skip in (False, True):
            try:
                read(path, skip)
            except DatasetError as error:
                errors.append(str(error))
    assert len(errors) > 50
    assert [e for e in errors if str(path) not in e] == []


def test_every_reader_takes_the_files_it_is_tried_with() -> None:
    assert all(read(path, False) > 0 for path, read in READERS.values())

"""Our files against AIPerf 0.13.0's, as `make compat` recorded them: the same tree, keys, columns and counts, but for the list of what is meant to differ."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from tests.compat.commands import COMMANDS, Command, serving
from tests.compat.differences import FILE, compare, load_differences
from tests.compat.measure import RECORDED, recorded
from tests.compat.shapes import Shape, shape_of

from aiperf.cli import main

BY_NAME = {c.name: c for c in COMMANDS}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_a_command_leaves_the_files_of_aiperf(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, theirs = recorded(command.name)
    with serving(command, tmp_path) as place:
        codes = [main(words) for words in (place.profile(command), *(place.words(line) for line in command.then))]
        ours = shape_of(place.artifacts)
    told = capsys.readouterr().err
    assert command.code_differs or max(codes) == code, told
    found = compare(command, theirs, ours, load_differences())
    assert not found, "\n".join(found)


def test_every_command_is_recorded_and_none_besides() -> None:
    assert {p.stem for p in RECORDED.glob("*.json")} == BY_NAME.keys()


def test_no_difference_is_listed_that_there_is_not() -> None:
    """A place that AIPerf does not have any more, or a command that is gone, leaves the list."""
    shapes: dict[str, Shape] = {name: recorded(name)[1] for name in BY_NAME}
    for difference in load_differences():
        assert set(difference.commands) <= BY_NAME.keys(), difference.commands
        if difference.kind != "more":
            for pattern in difference.where:
                one = type(difference)(
                    where=(pattern,), kind=difference.kind, reason=difference.reason, commands=difference.commands
                )
                assert any(
                    one.allows(name, difference.kind, place) for name, shape in shapes.items() for place in shape
                ), pattern


def test_each_behaviour_names_the_test_that_holds_it() -> None:
    root = Path(__file__).parents[2]
    for entry in tomllib.loads(FILE.read_text(encoding="utf-8"))["behaviour"]:
        file, _, name = entry["test"].partition("::")
        assert f"def {name}(" in (root / file).read_text(encoding="utf-8"), entry["test"]


def test_a_missing_key_and_another_value_are_found() -> None:
    theirs = {"a.json": "file", "a.json: x": "number", "a.json: y": "str = b", "gone.csv": "file", "gone.csv: z": "row"}
    ours = {"a.json": "file", "a.json: y": "str = c", "own.json": "file"}
    assert compare(BY_NAME["plain"], theirs, ours, ()) == [
        "missing: a.json: x: number",
        "other: a.json: y: str = b → str = c",
        "missing: gone.csv: file",
        "more: own.json",
    ]


def test_a_metric_may_have_more_statistics_but_no_fewer_and_no_other_count() -> None:
    theirs = {"a.json: x": "metric tokens: avg=6 min", "a.csv: [M] header": "M,avg"}
    plain = BY_NAME["plain"]
    assert not compare(
        plain, theirs, {"a.json: x": "metric tokens: avg=6 count=2 min=1", "a.csv: [M] header": "M,min,avg"}, ()
    )
    for found in ("metric tokens: avg=5 min", "metric ms: avg=6 min", "metric tokens: avg=6"):
        assert compare(plain, theirs, {**theirs, "a.json: x": found}, ()) == [
            f"other: a.json: x: metric tokens: avg=6 min → {found}"
        ]


def test_counts_are_compared_and_times_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"request_count": {"unit": "requests", "avg": 6.0}, "request_latency": {"unit": "ms", "avg": 1.5, "count": 6}, "x": []}',
        encoding="utf-8",
    )
    (tmp_path / "b.csv").write_text("Metric,avg\nA (ms),1\n\nMetric,Value\nB,2\n", encoding="utf-8")
    assert shape_of(tmp_path) == {
        "a.json": "file",
        "a.json: request_count": "metric requests: avg=6",
        "a.json: request_latency": "metric ms: avg count=6",
        "a.json: x[]": "empty",
        "b.csv": "file",
        "b.csv: [Metric,avg] header": "Metric,avg",
        "b.csv: [Metric,avg] A (ms)": "row",
        "b.csv: [Metric,Value] header": "Metric,Value",
        "b.csv: [Metric,Value] B": "row",
    }

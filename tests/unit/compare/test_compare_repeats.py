"""Folders of repeats on either side: `aiperf compare before after` after `--num-profile-runs 3`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.plots.plot_runs import write_run

from aiperf.cli import main
from aiperf.compare.comparison import compare_sides
from aiperf.run.data import figure
from aiperf.run.imported import load_sides

WITHIN = "intervals come from within each run"


def repeats(folder: Path, seed: int, *, layout: str = "run") -> Path:
    for i in range(3):
        write_run(folder / "profile_runs" / f"{layout}_{i + 1:04d}", count=80, seed=seed + i)
    return folder


@pytest.mark.parametrize("layout", ["run", "trial"])
def test_a_folder_of_repeats_is_one_side_under_its_own_name(tmp_path: Path, layout: str) -> None:
    before, after = repeats(tmp_path / "before", 1, layout=layout), repeats(tmp_path / "after", 11, layout=layout)
    sides = load_sides([before, after])
    assert [len(side) for side in sides] == [3, 3]
    assert [{r.name for r in side} for side in sides] == [{"before"}, {"after"}]
    comparison = compare_sides(sides)
    (pair,) = comparison.pairs
    assert (comparison.baseline, pair.name) == ("before", "after")
    latency = next(d for d in pair.differences if (d.tag, d.stat) == ("request_latency", "avg"))
    values = [figure(r, "request_latency") for r in sides[0]]
    assert latency.a == pytest.approx(sum(v for v in values if v is not None) / 3)
    assert not [n for n in comparison.notes if WITHIN in n]


def test_one_run_against_repeats_still_says_what_it_cannot_show(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", count=80, seed=5)
    sides = load_sides([one, repeats(tmp_path / "many", 11)])
    assert [len(side) for side in sides] == [1, 3]
    assert [n for n in compare_sides(sides).notes if WITHIN in n]


def test_sides_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    sides = load_sides([repeats(tmp_path / "old" / "r", 1), repeats(tmp_path / "new" / "r", 11)])
    assert [side[0].name for side in sides] == ["old/r", "new/r"]


def test_the_command_takes_folders_of_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = repeats(tmp_path / "before", 1), repeats(tmp_path / "after", 11)
    assert main(["compare", str(before), str(after), "--fail-on", "request_latency:avg +500%"]) == 0
    out = capsys.readouterr().out
    assert "after" in out
    assert WITHIN not in out
    assert "run_0001" not in out

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.server import ROOT

from benchmarks import bench, versus


def test_row_shows_ratio_spread_and_a_busy_server() -> None:
    row = bench._row(
        "plain", "requests/s", [90.0, 110, 100], "≥ 0.4 ×", lambda a, b: a >= 0.4 * b, [200.0, 100, 300], [0.95]
    )
    assert row.cells() == ["plain (requests/s)", "100", "90–110", "200", "0.50 ×", "≥ 0.4 ×", "yes", "95% !"]


def test_row_without_yardstick_or_server_shows_dashes() -> None:
    row = bench._row("wall", "s", [1.5], "≤ 1", bench.at_most(1))
    assert row.cells() == ["wall (s)", "1.5", "1.5–1.5", "–", "–", "≤ 1", "NO", "–"]


def test_times_is_above_one_where_ours_is_better() -> None:
    fast = versus.Measured(name="requests", unit="requests/s", peer=350, ours=35_000, more_is_better=True)
    small = versus.Measured(name="error", unit="ms", peer=30, ours=0.1, more_is_better=False)
    assert (fast.times, round(small.times)) == (100, 300)


def test_table_marks_rows_in_which_the_server_was_the_limit() -> None:
    rows = [
        versus.Measured(
            name="chunks", unit="chunks/s", peer=23_171, ours=1_500_000, more_is_better=True, is_server_busy=True
        )
    ]
    text = versus.render(rows, repeats=5)
    assert "| chunks, chunks/s | 23,171 | 1,500,000 ¹ | 65 |" in text.replace("64.7", "65")
    assert "¹ The simulated server" in text


def test_readme_is_updated_between_its_markers(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{versus.START}\nold\n{versus.END}\nafter\n", encoding="utf-8")
    for table in ("one", "two"):
        versus.update_readme(table, path)
        assert path.read_text(encoding="utf-8") == f"before\n{versus.START}\n{table}\n{versus.END}\nafter\n"


def test_readme_without_markers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="has not exactly one"):
        versus.update_readme("table", path)


def test_readme_of_this_project_has_the_markers() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count(versus.START) == text.count(versus.END) == 1

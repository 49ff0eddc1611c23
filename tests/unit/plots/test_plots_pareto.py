"""The front: its points are means over repeats, its bars their intervals, its axes any two figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.plots.plot_runs import plot_run, write_run

from aiperf.cli import main
from aiperf.plots import PlotRun, Spec
from aiperf.plots.charts.pareto import draw, draw_front
from aiperf.sweeps.page import draw_points, point_runs
from aiperf.sweeps.points import load_runs
from aiperf.sweeps.table import SweepTable, build_table

USER, TOTAL = ("output_token_throughput_per_user", "avg"), ("output_token_throughput", "avg")


def layers(spec: Spec | None, mark: str) -> list[Mapping[str, object]]:
    assert spec is not None
    parts = spec["layer"] if "layer" in spec else spec["vconcat"]
    assert isinstance(parts, list)
    return [p for p in parts if p["mark"] == mark or (isinstance(p["mark"], dict) and p["mark"]["type"] == mark)]


def rows(layer: Mapping[str, object]) -> list[dict[str, object]]:
    data = layer["data"]
    assert isinstance(data, dict)
    values = data["values"]
    assert isinstance(values, list)
    return values


def runs(**more: object) -> list[PlotRun]:
    return [replace(plot_run(100, c, load=float(c)), num_gpus=2, **more) for c in (5, 20)]  # type: ignore[arg-type]


def test_bars_are_the_intervals_divided_by_the_gpus_where_the_figure_is() -> None:
    known = {USER: (40.0, 44.0), TOTAL: (200.0, 240.0)}
    spec = draw(runs(intervals=known, repeats=3))
    across, along = layers(spec, "rule")
    assert rows(across) == rows(along)
    for row in rows(across):
        assert (row["x1"], row["x2"], row["y1"], row["y2"]) == (40, 44, 100, 120)
    assert "means over 3 runs" in str(spec)
    assert "95% intervals over the runs" in str(spec)


def test_without_intervals_there_are_no_bars_and_none_is_claimed() -> None:
    spec = draw(runs())
    assert layers(spec, "rule") == []
    assert "interval" not in str(spec)


def test_smaller_is_better_for_a_latency() -> None:
    """Of two loads the lower has the better latency, the higher the better throughput: both are on the Pareto front."""
    spec = draw_front(runs(), "request_latency:p95", "request_throughput")
    (points,) = layers(spec, "point")
    assert [r["on"] for r in rows(points)] == ["on the Pareto front", "on the Pareto front"]
    assert "p95" in str(spec)
    assert draw_front(runs(), "no_such_figure", "request_throughput") is None


@pytest.fixture
def repeated(tmp_path: Path) -> SweepTable:
    """Two loads, three runs each."""
    folders = [
        write_run(tmp_path / f"c{c}-{i}", count=60 + 60 * i, concurrency=c, seed=10 * c + i)
        for c in (5, 20)
        for i in range(3)
    ]
    return build_table(load_runs(folders, num_gpus=1))


def test_a_point_with_repeats_is_their_mean_with_the_interval_over_them(repeated: SweepTable) -> None:
    drawn = point_runs(repeated)
    assert len(drawn) == 2
    for run, point in zip(drawn, repeated.points, strict=True):
        assert run.repeats == 3
        one_by_one = [r.figures["output_token_throughput"]["avg"] for r in point.runs]
        assert len(set(one_by_one)) == 3
        assert run.stat(*TOTAL) == pytest.approx(sum(one_by_one) / 3)
        low, high = run.intervals[TOTAL]
        assert low < sum(one_by_one) / 3 < high
    (_, along) = layers(draw_points(repeated, drawn)["pareto"], "rule")
    assert len(rows(along)) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["request_latency"], "needs two figures"),
        (["request_latencies", "request_throughput"], "did you mean `request_latency`?"),
    ],
)
def test_figures_of_the_front_are_checked(
    names: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(write_run(tmp_path / f"c{c}", concurrency=c)) for c in (5, 20)]
    assert main(["plot", *folders, "--pareto", *names]) == 2
    assert message in capsys.readouterr().err


def test_the_command_draws_the_front_of_two_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(write_run(tmp_path / f"c{c}", concurrency=c)) for c in (5, 20)]
    words = [
        "--pareto",
        "request_latency:p95",
        "request_throughput",
        "--format",
        "html",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(["plot", *folders, *words]) == 0
    assert "`request_throughput` against `request_latency:p95`" in capsys.readouterr().out
    assert "Request Latency (ms), p95" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

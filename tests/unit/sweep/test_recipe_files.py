"""What recipes write of their points, in AIPerf's keys; figures by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.sweep.test_sweep_table import point

from aiperf.config.resolve import config_from
from aiperf.sweeps.points import RunPoint
from aiperf.sweeps.recipe_files import finish_recipe


def at(values: Mapping[str, float], **metrics: float) -> RunPoint:
    """A point with these values and means."""
    return replace(point(1, 1, 1, 1), values=values, figures={tag: {"avg": v, "p99": v} for tag, v in metrics.items()})


def written(folder: Path, name: str, points: list[RunPoint], **flags: object) -> dict[str, object]:
    config = config_from(
        {"model": "m", "url": "http://127.0.0.1:1", "streaming": True, "tokenizer": "builtin", **flags}
    )
    finish_recipe(config, points, folder)
    made: dict[str, object] = json.loads((folder / "sweep_aggregate" / name).read_text(encoding="utf-8"))
    return made


def curve(folder: Path, ttfts: list[float]) -> dict[str, object]:
    points = [at({"prompt.isl_mean": 100.0 * (i + 1)}, time_to_first_token=v) for i, v in enumerate(ttfts)]
    return written(folder, "prefill_curve.json", points, search_recipe="prefill-ttft-curve")


def test_a_line_through_the_points(tmp_path: Path) -> None:
    made = curve(tmp_path, [25, 45, 65])
    assert (made["fit_form"], made["below_floor"]) == ("linear", False)
    assert made["coefficients"] == pytest.approx([0.2, 5])
    assert made["r_squared"] == pytest.approx(1)
    assert made["raw_points"] == [{"isl": 100 * n, "ttft_ms": v} for n, v in ((1, 25), (2, 45), (3, 65))]


def test_a_parabola_where_no_line_explains_the_points(tmp_path: Path) -> None:
    made = curve(tmp_path, [10, 0, 10])
    assert (made["fit_form"], made["below_floor"]) == ("quadratic", False)
    assert made["coefficients"] == pytest.approx([0.001, -0.4, 40])


def test_points_that_no_curve_explains_are_marked(tmp_path: Path) -> None:
    made = curve(tmp_path, [10, 0, 10, 0, 10, 0])
    assert made["below_floor"] is True


def test_one_point_is_no_curve(tmp_path: Path) -> None:
    made = curve(tmp_path, [10])
    assert (made["coefficients"], made["below_floor"]) == ([], True)
    assert made["error_reason"] == "a curve needs two points with a TTFT, not 1"


def test_a_surface_leaves_out_what_was_not_measured(tmp_path: Path) -> None:
    points = [
        at({"load.concurrency": c, "prompt.osl_mean": o}, inter_token_latency=c + o)
        for c, o in ((1.0, 8.0), (2.0, 8.0), (2.0, 16.0))
    ]
    made = written(tmp_path, "decode_itl_surface.json", points, search_recipe="decode-itl-curve")
    assert made["surface"] == {"concurrency_axis": [1, 2], "osl_axis": [8, 16], "itl_grid": [[9, None], [10, 18]]}
    assert made["surface_fit_failed"] is False
    assert len(made["raw_points"]) == 3  # type: ignore[arg-type]


def test_a_knee_is_the_first_point_beyond_the_threshold(tmp_path: Path) -> None:
    points = [
        at({"load.concurrency": c}, request_latency=v) for c, v in ((1.0, 10), (4.0, 12), (8.0, 12.1), (16.0, 40))
    ]
    made = written(tmp_path, "degradation_knee.json", points, search_recipe="concurrency-ramp")
    assert (made["baseline_concurrency"], made["baseline_p99"]) == (1, 10)
    assert (made["knee_concurrency"], made["knee_p99"]) == (8, 12.1)
    assert (made["threshold_pct"], made["swept_param"]) == (0.2, "phases.profiling.concurrency")


@pytest.mark.parametrize(
    ("ttfts", "passing", "failing", "monotone"),
    [
        ([10, 20, 90], 2, 4, True),
        ([10, 90, 20], 4, 2, False),
        ([10, 20, 30], 4, None, True),
        ([90, 90, 90], None, 1, True),
    ],
)
def test_limits_are_taken_as_measured(
    tmp_path: Path, ttfts: list[float], passing: int | None, failing: int | None, monotone: bool
) -> None:
    points = [at({"load.concurrency": float(c)}, time_to_first_token=v) for c, v in zip((1, 2, 4), ttfts, strict=True)]
    made = written(
        tmp_path,
        "sla_breach.json",
        points,
        search_recipe="max-concurrency-under-sla",
        search_style="grid",
        slo=("time_to_first_token:avg < 50",),
    )
    assert (made["max_passing_concurrency"], made["first_failing_concurrency"]) == (passing, failing)
    assert made["monotonicity_check"] is monotone
    breach = made["first_failing_breach"]
    assert (breach is None) == (failing is None)
    assert breach is None or breach["observed"] == 90  # type: ignore[index]

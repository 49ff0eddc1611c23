"""The table, its roles and files, on the demo's five points and on cases worked out by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiperf.config.sections.sweep import Axis
from aiperf.run.data import RunData
from aiperf.run.readers.aiperf_export import load as load_aiperf
from aiperf.sweeps.aggregate_files import (
    AggregateFacts,
    render_aggregate_csv,
    render_aggregate_json,
    render_collated_json,
)
from aiperf.sweeps.pareto import pareto_front
from aiperf.sweeps.points import RunPoint, load_runs, point_of
from aiperf.sweeps.roles import assign_roles
from aiperf.sweeps.space import build_points, directory_name, order_points, seed_of_run
from aiperf.sweeps.study_files import SweepFacts, render_sweep_csv, render_sweep_json, render_table_csv
from aiperf.sweeps.table import SweepTable, build_screen, build_table, report_table, winner_lines
from aiperf.terminal import Console

DEMO = (
    (10, 3045, 364.69, 250),
    (50, 12890, 326.10, 270),
    (100, 22521, 285.03, 347),
    (200, 35999, 238.67, 420),
    (500, 29836, 128.85, 1129),
)
"""AIPerf's 0.3.0 demo: concurrency, total TPS, TPS/user, mean TTFT (ms)."""


def point(concurrency: float, tps: float, user: float | None, ttft: float, **more: object) -> RunPoint:
    figures = {
        "output_token_throughput": {"avg": float(tps)},
        "time_to_first_token": {"avg": float(ttft), "p99": 3.0 * ttft},
        "request_throughput": {"avg": tps / 500},
    }
    if user is not None:
        figures["output_token_throughput_per_user"] = {"avg": user}
    requests = np.arange(1000.0)
    run = RunData(
        path=Path(f"pareto-c{concurrency:g}"),
        tool="aiperf 0.1",
        series={"time_to_first_token": np.linspace(0.5 * ttft, 1.5 * ttft, 1000)},
        start_s=requests,
        end_s=requests + 1,
        ok=np.ones(1000, dtype=bool),
        num_ok=1000,
        num_failed=0,
        num_cancelled=0,
        figures=figures,
        units={},
        options={},
    )
    bare = RunPoint(
        label=f"concurrency {concurrency:g}",
        values={"load.concurrency": concurrency},
        runs=(run,),
        figures=figures,
        num_gpus=8,
    )
    return replace(bare, **more)  # type: ignore[arg-type]


@pytest.fixture
def demo() -> SweepTable:
    return build_table([replace(point(*row), gpu_cost_per_hour=4.0) for row in DEMO])


def test_roles_are_those_of_the_demo(demo: SweepTable) -> None:
    roles = ["best experience", "rising", "balanced", "peak", "over-saturated"]
    assert [r.role for r in demo.rows] == roles
    assert dict(demo.roles.winners) == {"experience": 0, "balanced": 2, "cost": 3}
    assert demo.roles.collapse is not None
    assert demo.roles.collapse[0] == 4
    assert "17% below the peak at concurrency 200" in demo.roles.collapse[1]
    assert "2.7× as long" in demo.roles.collapse[1]


def test_throughput_is_divided_by_the_gpus_that_are_there(demo: SweepTable) -> None:
    """The demo's own table divides by 2 on 8 GPUs."""
    assert demo.rows[3].tps_per_gpu == 35999 / 8


def test_figures_against_the_lowest_load_and_the_step_before(demo: SweepTable) -> None:
    row = demo.rows[1]
    assert row.tps_ratio == pytest.approx(12890 / 3045)
    assert row.user_change == pytest.approx(326.10 / 364.69 - 1)
    assert row.scaling == pytest.approx(12890 / 3045 / 5)
    assert demo.rows[0].scaling is None


def test_costs_follow_from_price_gpus_and_throughput(demo: SweepTable) -> None:
    """8 GPUs at 4 per hour: 32 / (35999 · 3600) · 10⁶ = 0.2469 per million tokens."""
    row = demo.rows[3]
    assert row.cost == pytest.approx(0.2469, abs=1e-4)
    assert row.good_cost is None
    assert row.requests_per_gpu_hour == pytest.approx(35999 / 500 * 3600 / 8)


def test_front_leaves_out_the_collapsed_point(demo: SweepTable) -> None:
    assert demo.pareto.on_front == (3, 2, 1, 0)


def test_limit_on_ttft_moves_the_cheapest_point_to_one_that_keeps_it() -> None:
    table = build_table([point(*row) for row in DEMO], ttft_limit_ms=400)
    assert [round(r.within or 0, 2) for r in table.rows] == [1.0, 0.98, 0.65, 0.45, 0.0]
    assert dict(table.roles.winners) == {"experience": 0, "balanced": 1, "cost": 1}


def test_limit_that_nobody_keeps_is_said() -> None:
    table = build_table([point(*row) for row in DEMO], ttft_limit_ms=10)
    assert table.roles.limited


def test_flat_throughput_is_saturated_not_over_saturated() -> None:
    roles = assign_roles([point(1, 100, 100, 10), point(2, 195, 98, 10), point(4, 198, 97, 60), point(8, 197, 96, 200)])
    assert roles.roles == ("best experience", "peak", "saturated", "saturated")
    assert roles.collapse is None


def test_a_single_point_wins_nothing() -> None:
    table = build_table([point(1, 100, 100, 10)])
    assert table.roles.roles == ("single",)
    assert (table.roles.winners, winner_lines(table)) == ((), [])
    shown = report_table(table)
    assert shown.columns[-1] != "Role"
    assert "vs lowest" not in shown.columns
    assert "◆" not in str(shown.rows) + shown.note


def test_the_only_point_that_did_not_fail_wins_nothing_but_the_limit_holds() -> None:
    failed = replace(point(1, 1, 1, 1), figures={})
    table = build_table([failed, point(2, 100, 100, 10)], ttft_limit_ms=1)
    assert table.roles.roles == ("failed", "single")
    assert winner_lines(table) == ["No point keeps TTFT within 1 ms for 95% of its requests"]
    assert [row[-1] for row in report_table(table).rows] == ["no result", ""]


def test_points_that_all_failed_have_no_winner() -> None:
    table = build_table([replace(point(c, 1, 1, 1), figures={}) for c in (1, 2)], ttft_limit_ms=1)
    assert (table.roles.roles, winner_lines(table)) == (("failed", "failed"), [])


def test_points_without_a_stream_have_throughput_only() -> None:
    roles = assign_roles([point(1, 100, None, 10), point(2, 180, None, 10)])
    assert roles.roles == ("best experience", "peak")


def test_failed_point_has_no_role_to_win() -> None:
    roles = assign_roles([replace(point(1, 1, 1, 1), figures={}), point(2, 100, 100, 10)])
    assert roles.roles == ("failed", "single")


def test_front_says_where_the_intervals_overlap() -> None:
    a = point(1, 100, 100, 10, intervals={("output_token_throughput", "avg"): (90.0, 110.0)})
    b = point(2, 105, 101, 10)
    front = pareto_front([a, b])
    assert front.on_front == (1,)
    assert front.sure == (False, True), "b is better in one figure whatever a really is"


def test_screen_has_a_row_per_point(demo: SweepTable) -> None:
    out = io.StringIO()
    Console(out, width=160, color=False).print(*build_screen(demo))
    text = out.getvalue()
    for piece in (
        "35,999",
        "4,500",
        "238.67",
        "peak ★",
        "over-saturated",
        "Collapse: at concurrency 500",
        "Lowest cost: concurrency 200",
    ):
        assert piece in text


def test_json_has_the_keys_of_aiperf_and_the_table(demo: SweepTable) -> None:
    data = json.loads(render_sweep_json(demo))
    assert list(data)[:8] == [
        "aggregation_type",
        "num_profile_runs",
        "num_successful_runs",
        "failed_runs",
        "metadata",
        "per_combination_metrics",
        "best_configurations",
        "pareto_optimal",
    ]
    assert data["metadata"]["sweep_parameters"] == [{"name": "concurrency", "values": [10, 50, 100, 200, 500]}]
    assert data["pareto_optimal"][0] == {"concurrency": 200}
    assert data["sweep_table"]["winners"] == {
        "experience": "concurrency 10",
        "balanced": "concurrency 100",
        "cost": "concurrency 200",
    }
    assert [r["role"] for r in data["sweep_table"]["rows"]][3] == "peak"


def test_csv_of_the_table_reads_back(demo: SweepTable) -> None:
    rows = list(csv.DictReader(io.StringIO(render_table_csv(demo))))
    assert [r["concurrency"] for r in rows] == ["10", "50", "100", "200", "500"]
    assert float(rows[3]["output_token_throughput_per_gpu"]) == 35999 / 8
    assert rows[0]["scaling_efficiency"] == ""


SAMPLE = Path(__file__).parents[1] / "compare" / "samples" / "aiperf-0.13"


def test_runs_of_aiperf_made_one_by_one_become_points(tmp_path: Path) -> None:
    """`aiperf plot artifacts/pareto-c*`: the load is read from the folder's name where the file does not have it."""
    for concurrency in (50, 10):
        folder = tmp_path / f"pareto-c{concurrency}"
        folder.mkdir()
        for name in ("profile_export_aiperf.json", "profile_export.jsonl"):
            (folder / name).write_bytes((SAMPLE / name).read_bytes())
    points = load_runs(sorted(tmp_path.iterdir(), reverse=True), num_gpus=8)
    assert [p.values for p in points] == [{"load.concurrency": 10.0}, {"load.concurrency": 50.0}]
    assert points[0].tps_per_gpu == pytest.approx(1193.1508 / 8, rel=1e-3)


def test_repeats_have_intervals_over_the_runs() -> None:
    """Three runs of 90, 100 and 110: mean 100, s = 10, t(2) = 4.303, so ± 24.8."""
    run = load_aiperf(SAMPLE)
    runs = [replace(run, figures={"output_token_throughput": {"avg": v}}) for v in (90.0, 100.0, 110.0)]
    found = point_of(runs, {"load.concurrency": 10})
    assert found.tps == 100
    low, high = found.intervals["output_token_throughput", "avg"]
    assert (high - low) / 2 == pytest.approx(24.84, rel=0.1)  # t_quantile is approximate for 2 degrees of freedom
    data = json.loads(render_aggregate_json(runs, AggregateFacts(version="0")))
    stats = data["metrics"]["output_token_throughput_avg"]
    assert stats["mean"] == 100
    assert stats["std"] == pytest.approx(10)
    assert stats["cv"] == pytest.approx(0.1)
    assert data["metadata"]["num_successful_runs"] == 3
    table = render_aggregate_csv(runs, AggregateFacts(version="0", cooldown_s=2))
    assert table.startswith("metric,mean,std,min,max,cv,se,ci_low,ci_high,t_critical,unit\n"), "read as a table"
    assert "\n\nAggregation Type,confidence\n" in table
    assert table.endswith("Cooldown Seconds,2\n")


def test_a_single_run_has_no_spread() -> None:
    """Its mean is there under AIPerf's names, of the aggregate and of the sweep; deviation and interval are null, not 0."""
    run = load_aiperf(SAMPLE)
    data = json.loads(render_aggregate_json([run], AggregateFacts(version="0")))
    stats = data["metrics"]["request_throughput_avg"]
    assert stats["mean"] == stats["min"] == stats["max"] == run.figures["request_throughput"]["avg"]
    assert {stats[name] for name in ("std", "cv", "se", "ci_low", "ci_high", "t_critical")} == {None}
    assert data["metadata"]["single_run"] is True
    table = build_table([point_of([run], {"load.concurrency": c}) for c in (1, 2)])
    content = json.loads(render_sweep_json(table, facts=SweepFacts(mode="independent")))
    own = content["per_combination_metrics"][0]["metrics"]
    assert own["request_throughput"]["mean"] == stats["mean"]
    assert own["request_latency"]["p99"] == run.figures["request_latency"]["p99"]
    assert own["request_latency"]["std"] is None
    assert own["request_latency_p99"]["mean"] == own["request_latency"]["p99"]
    assert (content["metadata"]["sweep_mode"], content["metadata"]["num_trials_per_value"]) == ("independent", 1)
    head = render_sweep_csv(table).splitlines()[0].split(",")
    assert {"request_throughput_mean", "request_throughput_avg_mean"} <= set(head)


def test_values_of_runs_are_pooled() -> None:
    """`profile_export_aiperf_collated.json`: percentiles over all requests of all runs."""
    run = load_aiperf(SAMPLE)
    runs = [
        replace(run, origin=None, series={"request_latency": np.array(v)}) for v in ([1.0, 2.0, np.nan], [3.0, 10.0])
    ]
    found = json.loads(render_collated_json(runs, AggregateFacts(version="0")))
    pooled = found["metrics"]["request_latency"]["combined"]
    assert (pooled["count"], pooled["mean"], pooled["p50"]) == (4, 4.0, 2.5)
    assert [r["count"] for r in found["metrics"]["request_latency"]["per_run"]] == [2, 2]


def test_sweep_csv_has_the_sections_of_aiperf() -> None:
    run = load_aiperf(SAMPLE)
    table = build_table([point_of([run], {"load.concurrency": c}) for c in (1, 2)])
    text = render_sweep_csv(table)
    assert text.splitlines()[0].startswith("concurrency,")
    assert "request_throughput_avg_mean" in text.splitlines()[0]
    for section in ("Best Configurations", "Pareto Optimal Points", "Metadata"):
        assert f"\n{section}\n" in text


AXES = (
    Axis(field="load.concurrency", flag="--concurrency", values=(1, 2)),
    Axis(field="prompt.isl_mean", flag="--isl", values=(10, 20)),
)


def test_grid_has_all_combinations_and_zip_pairs() -> None:
    assert len(build_points(AXES, "grid")) == 4
    assert [dict(p.values) for p in build_points(AXES, "zip")] == [
        {"load.concurrency": 1, "prompt.isl_mean": 10},
        {"load.concurrency": 2, "prompt.isl_mean": 20},
    ]
    assert [dict(p.values) for p in build_points((), "grid")] == [{}]


def test_random_order_is_a_permutation_that_the_seed_decides() -> None:
    points = build_points((Axis(field="load.concurrency", flag="--concurrency", values=tuple(range(1, 20))),), "grid")
    shuffled = order_points(points, "random", 7)
    assert shuffled != points
    assert sorted(p.index for p in shuffled) == [p.index for p in points]
    assert order_points(points, "random", 7) == shuffled
    assert order_points(points, "given", 7) == points


def test_each_run_has_a_seed_of_its_own_unless_told_otherwise() -> None:
    seeds = {
        seed_of_run(1, p, t, same_point=False, same_trial=False)
        for p in ("concurrency_1", "concurrency_2")
        for t in range(3)
    }
    assert len(seeds) == 6
    assert seed_of_run(1, "concurrency_1", 0, same_point=True, same_trial=True) == 1
    assert seed_of_run(1, "a", 2, same_point=False, same_trial=True) == seed_of_run(
        1, "a", 0, same_point=False, same_trial=True
    )


def test_folders_are_named_as_aiperf_names_them() -> None:
    assert directory_name({"load.concurrency": 10}) == "concurrency_10"
    assert directory_name({"load.request_rate": 2.5, "prompt.isl_mean": 100.0}) == "mean_100__rate_2.5"
    both = {"load.concurrency": 2, "prompt.isl_mean": 100.0}
    assert directory_name(both, "prefill-ttft-curve") == "isl_100__concurrency_2"

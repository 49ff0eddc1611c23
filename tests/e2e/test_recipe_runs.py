"""Recipes against the simulated server: their sweeps run, and their files hold what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.e2e.runs import Sim

from aiperf.config.resolve import config_from
from aiperf.observer import Observer, Once
from aiperf.sweeps.study import Study, sweep


def study(sim: Sim, observer: Observer | None = None, **flags: object) -> Study:
    asked: dict[str, object] = {
        "model": "qwen3-0.6b",
        "url": sim.url,
        "streaming": True,
        "tokenizer": "builtin",
        "isl": 10,
        "osl": 3,
        "request_count": 6,
        "artifact_dir": sim.dir / "study",
        "probe": False,
        "no_server_metrics": True,
        "calibrate": False,
        "report": False,
        **flags,
    }
    return sweep(config_from({k: v for k, v in asked.items() if v is not None}), observer=observer)


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def content(found: Study, name: str) -> dict[str, object]:
    text = (found.dir / "sweep_aggregate" / name).read_text(encoding="utf-8")
    made: dict[str, object] = json.loads(text)
    return made


def test_a_ramp_finds_where_latency_rises_and_tiers_their_best_point(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=10)
    ramp = study(
        sim,
        search_recipe="concurrency-ramp",
        concurrency_max=8,
        concurrency_steps=2,
        request_count=16,
        degradation_stat="p50",
        search_sla_tier=("loose:request_latency:p95:lt:60000", "tight:request_latency:p95:lt:0.001"),
    )
    made = content(ramp, "degradation_knee.json")
    points = made["all_points"]
    assert isinstance(points, list)
    assert [p["concurrency"] for p in points] == [1, 8]
    assert (made["baseline_concurrency"], made["baseline_p50"]) == (1, points[0]["p50"])
    is_knee = points[1]["p50"] > points[0]["p50"] * 1.2
    assert (made["knee_concurrency"], made["knee_p50"]) == ((8, points[1]["p50"]) if is_knee else (None, None))
    plots = {p.name for p in (ramp.dir / "plots").iterdir()}
    assert {"summary.txt", "aiperf_plot.log", "latency_by_load.png", "latency_by_load.svg"} <= plots
    assert not list(ramp.dir.glob("concurrency_*/plots"))
    told = "\n".join(str(line) for line in ramp.screen)
    assert "Tier loose (" in told
    assert "Tier tight (request_latency:p95 < 0.001): no point" in told


def test_a_pareto_sweep_marks_what_no_other_cell_beats(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=3, itl_ms=1)
    found = study(sim, search_recipe="pareto-sweep", isl_osl_pairs=("8/3,20/6",), concurrency="1,2", isl=None, osl=None)
    assert not (found.dir / "plots").exists()
    cells = content(found, "pareto_sweep.json")["cells"]
    assert isinstance(cells, list)
    assert [(c["isl"], c["osl"], c["concurrency"]) for c in cells] == [(8, 3, 1), (8, 3, 2), (20, 6, 1), (20, 6, 2)]
    best = [c for c in cells if c["pareto_optimal"]]
    assert min(cells, key=lambda c: (c["x"], -c["y"])) in best
    assert max(cells, key=lambda c: (c["y"], -c["x"])) in best


def test_variants_run_with_their_own_options(serve: Callable[..., Sim]) -> None:
    sim = serve()
    found = study(sim, variant=("a: isl=5, request-count=3", "b: concurrency=2, streaming=false"))
    rows = {
        name: (found.dir / name / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
        for name in ("a", "b")
    }
    assert {name: len(lines) for name, lines in rows.items()} == {"a": 3, "b": 6}
    assert json.loads(rows["a"][0])["metrics"]["input_sequence_length"]["value"] == 5


def test_what_holds_for_all_runs_is_said_once(serve: Callable[..., Sim]) -> None:
    notes = Notes()
    study(serve(), observer=notes, concurrency="1,2", num_profile_runs=2, probe=True)
    assert sum("`ignore_eos: true` is added" in text for text in notes.texts) == 1, notes.texts
    assert len([text for text in notes.texts if " of 4: concurrency" in text]) == 4


def test_what_a_load_showed_is_said_of_each_run() -> None:
    notes = Notes()
    once = Once(notes, is_setup_only=True)
    for _ in range(2):
        once.next_run()
        once.note("of the command")
        once.begin()
        once.note("of the run")
    assert notes.texts == ["of the command", "of the run", "of the run"]

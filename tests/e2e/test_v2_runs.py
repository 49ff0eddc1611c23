"""Runs from AIPerf's YAML: the phases, points and files that it describes, seen from the server and in the run's folder."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.runs import Sim
from tests.unit.traces.weka_sessions import SYSTEM, write_sessions

from aiperf import Run, profile, write
from aiperf.config.model import Config
from aiperf.config.resolve import configure
from aiperf.errors import ConfigError
from aiperf.sweeps.study import Study, sweep


def read(sim: Sim, text: str) -> Config:
    head = f"""
    schemaVersion: "2.0"
    randomSeed: 5
    variables: {{url: "{sim.url}", dir: "{sim.dir / "out"}"}}
    """
    path = sim.dir / "bench.yaml"
    path.write_text(textwrap.dedent(head) + BODY + re.sub(r"(?m)^ {8}", "", text), encoding="utf-8")
    return configure(config_file=path, env={}).replace({"output.report": False, "slo.calibrate": False})


BODY = """
benchmark:
  model: qwen3-0.6b
  endpoint: {url: "{{ url }}/v1/chat/completions", type: chat, streaming: true}
  tokenizer: {name: builtin}
  serverMetrics: false
"""


def run_of(sim: Sim, text: str) -> Run:
    return write(profile(read(sim, text)))


def study_of(sim: Sim, text: str) -> Study:
    return sweep(read(sim, text))


def test_phases_run_one_after_the_other_with_their_own_loads(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5)
    run = run_of(
        sim,
        """
          dataset: {type: synthetic, prompts: {isl: 20, osl: 4}}
          phases:
            - {name: warmup, type: concurrency, concurrency: 2, requests: 3, excludeFromResults: true}
            - {name: calm, type: concurrency, concurrency: 1, requests: 5}
            - {name: rush, type: constant, rate: 100, requests: 20}
          artifacts: {dir: "{{ dir }}"}
        """,
    )
    rows = [json.loads(line)["metadata"] for line in run.files.jsonl.read_text(encoding="utf-8").splitlines()]
    assert Counter((r["phase_name"], r["benchmark_phase"]) for r in rows) == {
        ("warmup", "warmup"): 3,
        ("calm", "profiling"): 5,
        ("rush", "profiling"): 20,
    }
    assert {r["phase_name"]: r.get("profiling_index") for r in rows} == {"warmup": None, "calm": 0, "rush": 1}
    by_phase = {name: [r for r in rows if r["phase_name"] == name] for name in ("warmup", "calm", "rush")}
    assert max(r["request_end_ns"] for r in by_phase["calm"]) <= min(r["request_start_ns"] for r in by_phase["rush"])
    issued = np.sort([r["credit_issued_ns"] for r in by_phase["rush"]])
    assert np.diff(issued).min() >= 9.9e6, "a hundred a second, at equal distances"
    summary = json.loads(run.files.summary.read_text(encoding="utf-8"))
    assert summary["request_count"]["avg"] == 25
    assert [(p["name"], p["kind"], p["type"]) for p in summary["input_config"]["phases"]] == [
        ("warmup", "warmup", "concurrency"),
        ("calm", "profiling", "concurrency"),
        ("rush", "profiling", "constant"),
    ]
    again = Run.open(run.dir)
    assert [p.name for p in again.config.load.phases] == ["warmup", "calm", "rush"]


def test_scenarios_are_points_with_their_names(serve: Callable[..., Sim]) -> None:
    sim = serve()
    study = study_of(
        sim,
        """
          dataset: {type: synthetic, prompts: {isl: 20, osl: 4}}
          phases: [{name: profiling, type: concurrency, concurrency: 2, requests: 4}]
          artifacts: {dir: "{{ dir }}"}
        sweep:
          type: scenarios
          runs:
            - {name: short chat, benchmark: {dataset: {prompts: {isl: 10}}, phases: [{name: profiling, requests: 6}]}}
            - {name: mixed, benchmark: {dataset: {prompts: {isl: {peaks: [{mean: 5}, {mean: 40}]}}}, endpoint: {streaming: false}}}
        """,
    )
    assert study.table is not None
    assert [p.label for p in study.table.points] == ["short chat", "mixed"]
    runs = {name: Run.open(study.dir / name) for name in ("short_chat", "mixed")}
    assert {name: run.columns.num_rows for name, run in runs.items()} == {"short_chat": 6, "mixed": 4}
    assert set(runs["short_chat"].columns.scalar("isl").tolist()) == {10.0}
    assert not runs["mixed"].is_streaming
    assert set(runs["mixed"].columns.scalar("isl").tolist()) <= {5.0, 40.0}
    assert (study.dir / "sweep_aggregate" / "profile_export_aiperf_sweep.json").exists()


def test_a_grid_is_a_sweep_with_repeats(serve: Callable[..., Sim]) -> None:
    sim = serve()
    study = study_of(
        sim,
        """
          dataset: {type: synthetic, prompts: {isl: 20, osl: 4}}
          phases: {type: concurrency, concurrency: 2, requests: 4}
          artifacts: {dir: "{{ dir }}"}
        sweep: {type: grid, parameters: {concurrency: [1, 3]}}
        multiRun: {numRuns: 2}
        """,
    )
    assert sorted(str(p.parent.relative_to(study.dir)) for p in study.dir.rglob("run.json")) == [
        "profile_runs/trial_0001/concurrency_1",
        "profile_runs/trial_0001/concurrency_3",
        "profile_runs/trial_0002/concurrency_1",
        "profile_runs/trial_0002/concurrency_3",
    ]


def test_a_schedule_beside_the_file_is_replayed(serve: Callable[..., Sim]) -> None:
    sim = serve()
    rows = [{"timestamp": 1000 + 40 * i, "input_length": 10, "output_length": 3} for i in range(6)]
    (sim.dir / "trace.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    run = run_of(
        sim,
        """
          dataset: {type: file, path: ./trace.jsonl, format: mooncake_trace}
          phases: {type: fixed_schedule, autoOffset: true}
          artifacts: {dir: "{{ dir }}"}
        """,
    )
    issued = np.sort(run.columns.scalar("scheduled"))
    assert np.diff(issued).tolist() == [40e6] * 5


def test_files_of_the_user_are_filled_in(serve: Callable[..., Sim]) -> None:
    sim = serve()
    run = run_of(
        sim,
        """
          dataset: {type: synthetic, prompts: {isl: 20, osl: 4}}
          phases: {type: concurrency, requests: 2}
          artifacts:
            dir: "{{ dir }}"
            user_files:
              - {path: meta/run.json, content: {Model: "{{ model }}", n: "{{ 2 * 3 }}", keepCase: "{{ dir }}"}}
              - {path: note.txt, content: "at {{ epoch }} in {{ job_name }}\\n"}
        """,
    )
    made = json.loads((run.dir / "meta" / "run.json").read_text(encoding="utf-8"))
    assert made == {"Model": "qwen3-0.6b", "n": 6, "keepCase": str(sim.dir / "out")}
    assert Path(run.dir, "note.txt").read_text(encoding="utf-8").endswith(" in out\n")


def test_several_phases_of_recorded_agents_are_refused(serve: Callable[..., Sim]) -> None:
    """Their requests would be sent as those of any data set: without lanes, joins and think times."""
    sim = serve()
    traces = Path(__file__).parents[1] / "data" / "traces" / "weka_trace.jsonl"
    text = f"""
          dataset: {{type: file, path: {traces}, format: weka_trace}}
          phases:
            - {{name: one, type: concurrency, concurrency: 1, requests: 2}}
            - {{name: two, type: concurrency, concurrency: 2, requests: 2}}
          artifacts: {{dir: "{{{{ dir }}}}"}}
        """
    with pytest.raises(ConfigError, match="phases of their own"):
        run_of(sim, text)
    assert not [row for row in sim.ledger() if row.get("request_id")]


def test_recorded_agents_are_refused_several_measured_phases(serve: Callable[..., Sim]) -> None:
    """Their plays go on from the primers to the end; a second phase would have to cut them."""
    sim = serve()
    write_sessions(sim.dir / "agents.jsonl", [SYSTEM])
    phases = """
          dataset: {type: file, path: agents.jsonl, format: weka_trace}
          phases:
            - {name: calm, type: concurrency, concurrency: 1, duration: 1}
            - {name: rush, type: concurrency, concurrency: 2, duration: 1}
          artifacts: {dir: "{{ dir }}"}
        """
    with pytest.raises(ConfigError, match="phases of their own"):
        run_of(sim, phases)
    assert not sim.ledger()

"""Studies against the simulated server: directories, resuming, repeats, search, A/B."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.sweep.engine_model import Engine, engine_capacity

from aiperf._core import SimServer
from aiperf.config.model import Config
from aiperf.config.resolve import config_from
from aiperf.errors import ExitCode
from aiperf.observer import Observer, Silent, StudyState
from aiperf.sweeps.points import load_runs
from aiperf.sweeps.search import SearchResult
from aiperf.sweeps.study import sweep
from aiperf.sweeps.study_folder import open_study, read_study, write_study
from aiperf.terminal import Console

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[SimServer]:
    """24 requests at once: beyond that they queue."""
    with SimServer(json.dumps({"ttft_ms": 5, "itl_ms": 1, "models": ["m"], "max_running": 24})) as sim:
        yield sim


def options(server: SimServer, folder: Path, **more: object) -> Config:
    plain: dict[str, object] = {
        "model": "m",
        "url": server.url,
        "streaming": True,
        "isl": 20,
        "osl": 10,
        "tokenizer": "builtin",
        "artifact_dir": str(folder),
        "report": False,
        "no_server_metrics": True,
        "no_gpu_telemetry": True,
        "calibrate": False,
    }
    return config_from({**plain, **more})


class Watcher(Silent):
    """Keeps the states of the study."""

    def __init__(self) -> None:
        self.states: list[StudyState] = []

    def study(self, state: StudyState) -> None:
        self.states.append(state)


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def ids(folder: Path) -> dict[str, str]:
    """Run directory → benchmark id, of the runs that are there."""
    return {
        str(p.parent.relative_to(folder)): json.loads(p.read_text(encoding="utf-8")).get("benchmark_id", "")
        for p in sorted(folder.rglob("run.json"))
    }


def test_sweep_makes_a_run_per_point_a_table_and_the_files_of_aiperf(
    server: SimServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = sweep(options(server, tmp_path / "s", concurrency="2,8,32", request_count=96, num_gpus=2))
    assert study.exit_code == ExitCode.OK
    assert sorted(ids(tmp_path / "s")) == ["concurrency_2", "concurrency_32", "concurrency_8"]
    assert study.table is not None
    assert [r.point.values["load.concurrency"] for r in study.table.rows] == [2, 8, 32]
    assert study.table.rows[1].tps is not None
    assert study.table.rows[1].tps_per_gpu == study.table.rows[1].tps / 2
    assert capsys.readouterr() == ("", ""), "the command shows the screen, the library prints nothing"
    out = io.StringIO()
    Console(out, width=160, color=False).print(*study.screen)
    assert "AIPerf | Sweep" in out.getvalue()
    assert "LLM Metrics" not in out.getvalue(), "the tables of single runs are in their directories"
    data = json.loads(
        (tmp_path / "s" / "sweep_aggregate" / "profile_export_aiperf_sweep.json").read_text(encoding="utf-8")
    )
    assert [c["parameters"]["concurrency"] for c in data["per_combination_metrics"]] == [2, 8, 32]
    assert (tmp_path / "s" / "sweep_table.csv").read_text(encoding="utf-8").count("\n") == 4
    seeds = {r.seed for r in read_study(tmp_path / "s").runs}
    assert len(seeds) == 3, "points that share prompts warm each other's prefix cache"
    again = load_runs([tmp_path / "s"])
    assert [p.tps for p in again] == [r.tps for r in study.table.rows]


def test_a_finished_study_is_measured_anew_and_an_interrupted_one_goes_on(server: SimServer, tmp_path: Path) -> None:
    """Reading the old figures of a finished sweep as new ones, exit code 0, is the worst that can happen to a script."""
    folder, told = tmp_path / "s", Told()
    config = options(server, folder, concurrency="2,4", request_count=20)
    sweep(config)
    first = ids(folder)
    sweep(config, observer=told)
    second = ids(folder)
    assert first.keys() == second.keys()
    assert set(first.values()).isdisjoint(second.values())
    assert ids(tmp_path / "s.1") == first, "the old study, whole"
    assert (tmp_path / "s.1" / "sweep_table.csv").exists()
    assert [t for t in told.texts if "s.1" in t] == [
        f"the results that were in `{folder}` are in `{tmp_path / 's.1'}` now"
    ]

    record = read_study(folder)
    assert record.finished
    write_study(folder, replace(record, finished=False))
    sweep(config, observer=told)
    assert ids(folder) == second, "done points are not run again"
    assert any(t.startswith("resuming the study in") for t in told.texts)
    sweep(options(server, folder, concurrency="2,4", request_count=20, resume=True))
    assert ids(folder) == second, "--resume goes on with a finished one, too"

    write_study(folder, replace(read_study(folder), finished=False))
    sweep(options(server, folder, concurrency="2,4", request_count=20, resume=False))
    assert ids(tmp_path / "s.2") == second
    sweep(options(server, folder, concurrency="2,4", request_count=30))
    assert sorted(ids(folder)) == ["concurrency_2", "concurrency_4"]
    assert (tmp_path / "s.3" / "study.json").exists()


def test_sweep_killed_at_point_three_continues_with_point_three(tmp_path: Path) -> None:
    """Killed with -9 while the third point runs, then started again."""
    folder = tmp_path / "s"
    with SimServer(json.dumps({"ttft_ms": 5, "itl_ms": 20, "models": ["m"]})) as sim:
        words = [
            "profile",
            "--model",
            "m",
            "--url",
            sim.url,
            "--streaming",
            "--concurrency",
            "10,20,1,30",
            "--request-count",
            "40",
            "--isl",
            "20",
            "--osl",
            "6",
            "--tokenizer",
            "builtin",
            "--artifact-dir",
            str(folder),
            "--no-report",
            "--no-server-metrics",
            "--no-gpu-telemetry",
            "--no-calibrate",
            "--ui",
            "none",
        ]
        command = [
            sys.executable,
            "-c",
            "import sys; from aiperf.cli import main; sys.exit(main(sys.argv[1:]))",
            *words,
        ]
        first = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        third = folder / "concurrency_1" / "run.json"
        deadline = time.monotonic() + 60
        while not (third.exists() and '"running"' in third.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()
        before = ids(folder)
        assert sorted(before) == ["concurrency_1", "concurrency_10", "concurrency_20"]
        assert [r.status for r in read_study(folder).runs] == ["done", "done", "running"]
        subprocess.run(command, env=os.environ, check=True, stdout=subprocess.DEVNULL)
    after = ids(folder)
    for done in ("concurrency_10", "concurrency_20"):
        assert after[done] == before[done]
    assert after["concurrency_1-incomplete-1"] == before["concurrency_1"], "what was measured before is kept"
    assert after["concurrency_1"] != before["concurrency_1"]
    assert "concurrency_30" in after
    assert all(r.is_done for r in read_study(folder).runs)


@pytest.mark.parametrize(
    ("flags", "seeds"),
    [
        ({}, {42}),
        ({"set_consistent_seed": False}, None),
        ({"random_seed": 5}, {5}),
        ({"random_seed": 42, "vary_seed_per_trial": True}, {1, 2, 3}),
    ],
)
def test_seeds_of_repeats(server: SimServer, tmp_path: Path, flags: dict[str, object], seeds: set[int] | None) -> None:
    """As AIPerf 0.13: 42 for all, or the user's; else each its own, and with --vary-seed-per-trial always the same ones."""
    sweep(options(server, tmp_path / "s", concurrency=4, request_count=4, num_profile_runs=3, **flags))
    found = {r.seed for r in read_study(tmp_path / "s").runs}
    if flags.get("vary_seed_per_trial"):
        texts = [f"42:variation:base:trial:{t}" for t in range(3)]
        seeds = {int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") & (2**63 - 1) for t in texts}
    assert found == seeds if seeds is not None else len(found) == 3


def test_repeats_have_an_aggregate(server: SimServer, tmp_path: Path) -> None:
    watcher = Watcher()
    sweep(options(server, tmp_path / "s", concurrency=4, request_count=40, num_profile_runs=3), observer=watcher)
    assert (watcher.states[-1].done, len(watcher.states[-1].rows)) == (3, 3)
    assert not any(state.front for state in watcher.states), "none of several measurements of one point is better"
    runs = [f"profile_runs/run_{i:04d}" for i in (1, 2, 3)]
    assert sorted(ids(tmp_path / "s")) == runs
    data = json.loads(
        (tmp_path / "s" / "aggregate" / "profile_export_aiperf_aggregate.json").read_text(encoding="utf-8")
    )
    ttft = data["metrics"]["time_to_first_token_avg"]
    assert ttft["ci_low"] < ttft["mean"] < ttft["ci_high"]
    assert data["metadata"]["num_profile_runs"] == 3


def test_repeats_end_when_the_figure_is_sure(server: SimServer, tmp_path: Path) -> None:
    sweep(
        options(
            server,
            tmp_path / "s",
            concurrency=4,
            request_count=40,
            num_profile_runs=6,
            convergence_metric="output_sequence_length",
            convergence_mode="cv",
        )
    )
    assert len(ids(tmp_path / "s")) == 2, "all replies have 10 tokens: two repeats are enough"


def searched(server: SimServer, folder: Path, observer: Observer | None = None, **more: object) -> SearchResult:
    study = sweep(
        options(
            server,
            folder,
            search="max-concurrency",
            slo=("time_to_first_token:p95<400ms",),
            concurrency_min=16,
            concurrency_max=128,
            **more,
        ),
        observer=observer,
    )
    ((_, result),) = study.searches
    history = json.loads((study.dir / "search_history.json").read_text(encoding="utf-8"))
    assert history["result"]["requests"] == sum(i["requests"] for i in history["iterations"]) == result.requests
    return result


@pytest.mark.timeout(240)
def test_search_finds_how_many_places_and_waiting_requests_a_live_server_bears(tmp_path: Path) -> None:
    """24 places, and each request takes 5 + 19 · 10 ms there: one that finds c in flight waits (c / 24 − 1) · 195 ms for its place."""
    with SimServer(json.dumps({"ttft_ms": 5, "itl_ms": 10, "models": ["m"], "max_running": 24})) as sim:
        watcher = Watcher()
        result = searched(sim, tmp_path / "s", watcher, osl=20)
    assert result.status == "found"
    assert result.estimate == pytest.approx(24 * (1 + (400 - 5) / 195), rel=0.05)
    # What a screen shows meanwhile: each run's judgement when it is known, and the highest value that passes.
    assert "Judgement" not in watcher.states[0].columns
    last = watcher.states[-1]
    assert last.front
    judged = {row[0]: row[last.columns.index("Judgement")] for row in last.rows}
    assert "fail" in judged.values()
    passing = [int(name.removeprefix("concurrency ")) for name, judgement in judged.items() if judgement == "pass"]
    assert last.best is not None
    assert last.rows[last.best][0] == f"concurrency {max(passing)}"


@pytest.mark.timeout(240)
def test_search_finds_the_capacity_of_a_live_engine(tmp_path: Path) -> None:
    """Continuous batching in real time; the truth is a scan over the same model on a virtual clock."""
    step = {"base_ms": 10.0, "per_decode_ms": 0.05, "per_prefill_token_ms": 0.01, "jitter": 0.1}
    engine = Engine(slots=24, batched_tokens=2048, step=step, isl=20, isl_sd=0, osl=20, law="normal")
    with SimServer(json.dumps({"engine": json.loads(engine.options(5)), "models": ["m"]})) as sim:
        result = searched(sim, tmp_path / "s", osl=20, osl_stddev=5)
    assert result.status == "found"
    assert result.estimate == pytest.approx(engine_capacity(engine), rel=0.05)


def test_alternating_runs_find_the_slower_of_two_servers(server: SimServer, tmp_path: Path) -> None:
    with SimServer(json.dumps({"ttft_ms": 5, "itl_ms": 1.5, "models": ["m"]})) as slower:
        study = sweep(options(server, tmp_path / "s", concurrency=4, request_count=320, ab=(server.url, slower.url)))
    assert study.comparison is not None
    (pair,) = study.comparison.pairs
    assert pair.relation.kind == "same"
    assert "inter_token_latency" in {d.tag for d in pair.regressions}
    sides = [r.side for r in read_study(tmp_path / "s").runs]
    assert sides[:4] == ["a", "b", "b", "a"], "ABBA: linear drift cancels"


def test_cache_is_emptied_before_each_point(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    posts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(self.path)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    from aiperf.errors import EndpointError

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        config = config_from(
            model="m",
            url=f"http://127.0.0.1:{httpd.server_port}",
            streaming=True,
            isl=20,
            osl=10,
            tokenizer="builtin",
            artifact_dir=str(tmp_path / "s"),
            concurrency="1,2",
            reset_kv_cache=True,
        )
        with pytest.raises(EndpointError, match="failed to reset the prefix cache"):
            sweep(config)
        httpd.shutdown()
    assert posts == ["/reset_prefix_cache"]


def test_study_file_that_cannot_be_read_is_an_error(server: SimServer, tmp_path: Path) -> None:
    from aiperf.errors import ResultError

    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.json").write_text("{}", encoding="utf-8")
    config = options(server, tmp_path / "s", concurrency="1,2")
    with pytest.raises(ResultError, match=r"study\.json"), open_study(config, "sweep"):
        pass

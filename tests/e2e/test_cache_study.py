"""`aiperf cache` against the simulated server in engine mode, whose cache is known; and against broken ones."""

from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import aiperf, started, wait_for
from tests.e2e.runs import MODEL, Sim, simulate

from aiperf.cli.studies import with_defaults
from aiperf.config.resolve import config_from
from aiperf.errors import ConfigError, ExitCode
from aiperf.studies.cache.kind import KIND
from aiperf.studies.cache.options import CacheOptions
from aiperf.studies.study import StudyResult, run_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BLOCKS = 384
STEP = {"base_ms": 1.0, "per_decode_ms": 0.05, "per_prefill_token_ms": 0.1}


@contextmanager
def engine(
    directory: Path, blocks: int = BLOCKS, step: dict[str, float] | None = None, **more: object
) -> Iterator[Sim]:
    settings = {"num_blocks": blocks, "max_num_seqs": 8, "step": step or STEP, **more}
    directory.mkdir(exist_ok=True)
    with simulate(directory, engine=settings) as sim:
        yield sim


def config_of(sim: Sim, **flags: object) -> dict[str, object]:
    return {
        "model": MODEL,
        "url": sim.url,
        "isl": 256,
        "osl": 2,
        "tokenizer": "builtin",
        "random_seed": 3,
        "artifact_dir": sim.dir / "study",
        "report": False,
        **flags,
    }


def measure(sim: Sim, flags: dict[str, object] | None = None, **options: object) -> StudyResult:
    config = with_defaults(KIND, config_from(config_of(sim, **(flags or {}))))
    return run_study(KIND, config, CacheOptions.model_validate({"requests_per_point": 12, **options}))


def rules(result: StudyResult) -> dict[str, str]:
    return {f.rule: f.text for f in result.report.findings}


def value(result: StudyResult, name: str) -> float:
    found = result.report.figures[name].value
    assert found is not None, result.report.figures[name].reason
    return found


def told(sim: Sim) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((sim.dir / "study" / "cache_study.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_the_knee_is_that_of_the_server(seed: int, tmp_path: Path) -> None:
    with engine(tmp_path, blocks=BLOCKS + 100 * seed, step={"base_ms": 0.5}) as sim:
        result = measure(sim, {"random_seed": seed}, parts=("capacity",))
    assert result.exit_code == ExitCode.OK
    assert value(result, "knee_tokens") == pytest.approx(16 * (BLOCKS + 100 * seed), rel=0.05)
    assert "least recently used" in rules(result)["cache_policy"]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_gain_is_that_of_the_server(seed: int, tmp_path: Path) -> None:
    # A prompt takes 410 ms, so that what the machine adds to a request, some ms, is no 5 % of what half of it saves.
    step = STEP | {"per_prefill_token_ms": (per_token_ms := 0.8)}
    with engine(tmp_path, step=step) as sim:
        asked: dict[str, object] = {"random_seed": seed, "isl": 512}
        result = measure(sim, asked, parts=("gain",), shares=(0, 50, 90), requests_per_point=8)
    assert value(result, "cache_efficiency") == pytest.approx(100, rel=0.05)
    assert value(result, "lru_efficiency") == pytest.approx(100, rel=0.05)
    assert value(result, "saved_time_per_hit_token") == pytest.approx(1e3 * per_token_ms, rel=0.05)
    for row in (p for p in result.report.points if p["part"] == "gain"):
        assert row["hit_rate_usage"] == pytest.approx(row["hit_rate_counters"], abs=0.01)


def test_a_cache_that_never_hits_is_named_and_fails_its_assertion(tmp_path: Path) -> None:
    with engine(tmp_path, cache_fault="never_hits") as sim:
        result = measure(sim, {"assert": ["cache_efficiency >= 90%"]}, parts=("gain",), shares=(50, 90))
        written = told(sim)
    assert "The cache never hits" in rules(result)["cache_never_hits"]
    assert result.exit_code == ExitCode.THRESHOLD_MISSED
    assert written["assertions"][0]["actual"] == "0 %"


def test_random_eviction_is_named(tmp_path: Path) -> None:
    with engine(tmp_path, step={"base_ms": 0.5}, cache_fault="evicts_at_random") as sim:
        result = measure(sim, parts=("capacity",))
    assert "evicted at random" in rules(result)["cache_policy"]


@pytest.mark.parametrize("fault", ["leaks_after_cancel", "none"])
def test_blocks_that_cancelled_requests_keep_are_found(fault: str, tmp_path: Path) -> None:
    with engine(tmp_path, step={"base_ms": 0.5}, cache_fault=fault) as sim:
        result = measure(sim, parts=("isolation",))
    assert result.exit_code == ExitCode.OK, "that all requests of one run were cancelled was meant"
    assert value(result, "contamination") > 90
    assert value(result, "hit_rate_after_reset") == 0
    if fault == "none":
        assert "cache_leak" not in rules(result)
        assert value(result, "leaked_share") == 0
    else:
        assert "Blocks leak after cancellation" in rules(result)["cache_leak"]
        assert value(result, "leaked_share") > 5


def test_sessions_keep_to_their_server_and_single_requests_do_not(tmp_path: Path) -> None:
    with engine(tmp_path / "a", step={"base_ms": 0.5}) as one, engine(tmp_path / "b", step={"base_ms": 0.5}) as two:
        result = measure(one, {"url": [one.url, two.url]}, parts=("isolation",))
    assert value(result, "affinity_hit_rate") > value(result, "no_affinity_hit_rate") + 10
    assert "Session affinity matters" in rules(result)["cache_affinity"]


def test_a_server_that_reports_nothing_is_not_guessed_at(tmp_path: Path) -> None:
    settings = {"num_blocks": BLOCKS, "step": {"base_ms": 0.5}}
    with simulate(tmp_path, engine=settings, usage="never") as sim:
        result = measure(sim, {"no_server_metrics": True}, parts=("gain",), shares=(50,))
        written = told(sim)
    figure = written["metrics"]["cache_efficiency"]
    assert figure["value"] is None
    assert "hits cannot be known" in figure["reason"]
    assert "hits cannot be known" in rules(result)["cache_unknown"]
    assert written["metrics"]["ttft_gain"]["value"] is not None
    assert result.exit_code == ExitCode.OK


def test_the_capacity_under_a_slo_grows_with_the_shared_share(tmp_path: Path) -> None:
    step = {"base_ms": 1.0, "per_decode_ms": 0.05, "per_prefill_token_ms": 0.05}
    with engine(tmp_path, blocks=4000, step=step) as sim:
        result = measure(
            sim,
            parts=("gain",),
            shares=(90,),
            slo=("time_to_first_token:p50 < 60ms",),
            slo_concurrency_max=32,
        )
    assert value(result, "slo_capacity_gain") > 1.5


def test_a_trace_is_compared_with_its_own_reuse(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    with trace.open("w", encoding="utf-8") as out:
        for turn in range(4):
            for user in range(3):
                ids = [0, *(1000 * (user + 1) + k for k in range(turn + 1))]
                row = {"session_id": f"u{user}", "input_length": 32 * len(ids), "output_length": 2, "hash_ids": ids}
                out.write(json.dumps(row) + "\n")
    with engine(tmp_path) as sim:
        flags: dict[str, object] = {"input_file": trace, "isl_block_size": 32, "concurrency": 1}
        result = measure(sim, flags)
        written = told(sim)
        rows = {r["request_id"]: r for r in sim.ledger()}
    cached, prompt = (sum(r[k] for r in rows.values()) for k in ("cached_tokens", "prompt_tokens"))
    assert len(rows) == 12
    assert value(result, "trace_hit_rate") == pytest.approx(100 * cached / prompt)
    # By hand: block 0 is new once, each user's blocks once; the last block of a prompt is never served whole.
    blocks = [2, 3, 4, 5]
    seen = 3 * sum(n - 1 for n in blocks) - 1
    assert value(result, "trace_theoretical") == pytest.approx(100 * seen / (3 * sum(blocks)))
    assert value(result, "trace_efficiency") == pytest.approx(100, abs=1)
    assert KIND.cost(with_defaults(KIND, config_from(config_of(sim, **flags))), CacheOptions()).requests == 12
    turns = [p for p in written["points"] if str(p["point"]).startswith("turn")]
    assert [t["requests"] for t in turns] == [3, 3, 3, 3]


def test_an_interrupted_study_reports_what_it_has_and_goes_on(tmp_path: Path) -> None:
    with engine(tmp_path, step={"base_ms": 0.5}) as sim:
        words = command(sim, "--parts", "gain", "--shares", "0,50,90")
        with started(words) as process:
            done = sim.dir / "study" / "gain-50" / "records.parquet"
            wait_for(done.exists, "the second point")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == ExitCode.INTERRUPTED
        first = told(sim)
        assert first["complete"] is False
        assert "hit_rate_max" in first["metrics"]
        sent = len(sim.ledger())
        again = aiperf(*words)
        assert again.returncode == ExitCode.OK, again.stderr
        assert "resuming the study" in again.stderr
        second = told(sim)
        assert second["complete"] is True
        assert {p["shared_percent"] for p in second["points"]} > {None, 0.0}
        # Two further points and a control at most, each with the request that warms the cache.
        assert len(sim.ledger()) - sent <= 3 * 7


def test_the_command_states_its_cost_and_writes_its_files(tmp_path: Path) -> None:
    with engine(tmp_path, step={"base_ms": 0.5}) as sim:
        words = command(sim, "--parts", "gain", "--shares", "50", "--report")
        dry = aiperf(*words, "--dry-run")
        assert sim.ledger() == []
        ended = aiperf(*words, "--assert", "ttft_gain > 0.1")
        requests = len(sim.ledger())
    stated = re.search(r"cost: ([\d,]+) requests in (\d+) runs", dry.stdout)
    assert stated is not None, dry.stdout + dry.stderr
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert int(stated[1].replace(",", "")) == requests - 4, "all but the pilot's"
    assert re.search(r"cost: .*, about \d+ s at the speed of the pilot run", ended.stderr)
    assert "✓ holds" in ended.stdout
    folder = sim.dir / "study"
    rows = list(csv.DictReader((folder / "cache_points.csv").read_text(encoding="utf-8").splitlines()))
    assert [r["point"] for r in rows] == ["control-1", "gain-50", "control-2"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What the prefix cache is worth" in page
    assert 'id="gain_hits"' in page
    assert len(page) < 3_000_000


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--parts", "gains"], "`gains` is no part of the study"),
        (["--shares", "50,120"], "`120` is not a share between 0 and 100 percent"),
        (["--parts", "trace"], "needs `--input-file`"),
        (["--assert", "knee > 5"], "no metric"),
        (["--concurrency", "1,2"], "chooses its own points"),
        (["--isl", "20"], "too short"),
        (["--isl-stddev", "20"], "--isl-stddev: has no effect"),
        (["--request-count", "20"], "--request-count: has no effect"),
    ],
)
def test_what_cannot_be_is_refused_before_any_load(words: list[str], why: str, tmp_path: Path) -> None:
    folder = ["--artifact-dir", str(tmp_path / "study")]
    ended = aiperf("cache", "--model", "m", "--url", "http://127.0.0.1:9", *folder, *words)
    assert ended.returncode == ExitCode.USAGE
    assert why in ended.stderr
    assert not (tmp_path / "study").exists()


def test_an_assertion_of_no_figure_is_refused_from_python(tmp_path: Path) -> None:
    with engine(tmp_path) as sim, pytest.raises(ConfigError, match="has no metric `request_latency`"):
        measure(sim, {"assert": ["request_latency < 5"]})


def command(sim: Sim, *more: str) -> list[str]:
    fixed = ["cache", "--model", MODEL, "--url", sim.url, "--tokenizer", "builtin", "--isl", "256", "--osl", "2"]
    where = [
        "--artifact-dir",
        str(sim.dir / "study"),
        "--ui",
        "none",
        "--random-seed",
        "3",
        "--requests-per-point",
        "6",
    ]
    return [*fixed, *where, "--no-report", *more]


def test_a_level_behind_the_gpu_is_a_second_knee(tmp_path: Path) -> None:
    """Blocks that the GPU evicts go to host memory: they are found, at 1.8 ms each."""
    step = {"base_ms": 1.0, "per_prefill_token_ms": 0.3}
    with engine(tmp_path, blocks=144, step=step, tiers=[{"num_blocks": 216, "block_ms": 1.8}]) as sim:
        result = measure(sim, parts=("capacity",))
    assert value(result, "tiers") == 2
    # The GPU's own part ends with its blocks; all of it with those of both.
    assert value(result, "fast_tier_tokens") == pytest.approx(16 * 144, rel=0.15)
    assert value(result, "knee_tokens") == pytest.approx(16 * (144 + 216), rel=0.1)
    assert "The cache has 2 levels" in rules(result)["cache_tiers"]

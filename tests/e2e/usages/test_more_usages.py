"""Usages that are more than one line and a reader: a script that watches a run, two commands in a row, files of another tool."""

from __future__ import annotations

import inspect
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import arguments, run_dir, started, wait_for
from tests.e2e.runs import MODEL, Sim
from tests.e2e.usages import test_usages
from tests.e2e.usages.bench import BASE, TOKENS, Bench
from tests.e2e.usages.readers import READERS, number, summary

from aiperf.cli import main

LINES = (
    *(f"A{i}" for i in range(1, 15)),
    *(f"B{i}" for i in range(1, 9)),
    *("C1", "C2", "E1", "E3", "E5", "E7", "E9", "E11", "E13", "E15", "E17", "E19", "E21", "F"),
)
"""The usages that were found; each has a test, or is what another one's reader reads."""
READ_WITH = {"B3": "interactivity", "B6": "agentx", "C2": "llm-d", "E21": "agentx"}


def countable(path: Path) -> list[dict[str, Any]]:
    """A8: lines of the measured phase that ended well; what is not a whole line yet is left for the next look."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    rows = [json.loads(line) for line in whole.splitlines()]
    return [
        r["metadata"]
        for r in rows
        if r["metadata"]["benchmark_phase"] == "profiling" and not r.get("error") and not r["metadata"]["was_cancelled"]
    ]


def test_a8_a_script_counts_lines_and_ends_a_run_that_is_stuck(serve: Callable[..., Sim]) -> None:
    """It looks every 50 ms; what hangs gets SIGINT, then SIGTERM: the second one ends it, with its files, long before SIGKILL."""
    sim = serve(ttft_ms=5, faults=[{"kind": "never", "requests": list(range(40, 4000))}])
    path = run_dir(sim) / "profile_export.jsonl"
    with started(arguments(sim, "--concurrency", "4", "--request-count", "2000")) as process:
        wait_for(lambda: sim.stats()["requests"] >= 40, "requests")
        wait_for(lambda: len(countable(path)) >= 30, "lines")
        for row in countable(path):
            assert isinstance(row["request_start_ns"], int)
            assert row["request_start_ns"] <= row["request_end_ns"]
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 130
    assert len(countable(path)) == number(summary(run_dir(sim)), "request_count")


def test_a13_a_line_of_genai_perf(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The name of the tool is all that changes; what its `--` passed on is read as options."""
    line = (
        f"{BASE} {TOKENS} --request-count 4 --profile-export-file my.json --artifact-dir $D --no-report "
        "--export-level raw -- -v -H 'Authorization: Bearer X' -H 'X-Team: blue' --max-threads 256"
    )
    assert main(bench.words(line)) == 0
    assert "`--max-threads` has no meaning here" in capsys.readouterr().err
    assert json.loads((bench.out / "my.json").read_text(encoding="utf-8"))["request_count"]["avg"] == 4
    sent = json.loads((bench.out / "my_raw.jsonl").read_text(encoding="utf-8").splitlines()[0])["request_headers"]
    assert {"authorization", "x-team"} <= {name.lower() for name in sent}


def test_a14_a_block_size_without_hash_ids(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench.sim.dir / "plain.jsonl"
    rows = [{"timestamp": 0, "input_length": 30 + i, "output_length": 5} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    line = f"{BASE} --input-file {path} --custom-dataset-type mooncake_trace --isl-block-size 64 --artifact-dir $D --no-report"
    assert main(bench.words(line)) == 0
    capsys.readouterr()
    assert number(summary(bench.out), "request_count") == 4
    assert number(summary(bench.out), "total_isl") == 30 + 31 + 32 + 33


def test_b5_the_history_of_a_search(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        f"{BASE} {TOKENS} --request-count 4 --search-space phases.profiling.concurrency:1,4:int "
        "--search-metric output_token_throughput --search-max-iterations 2 --search-initial-points 2 --artifact-dir $D --no-report"
    )
    assert main(bench.words(line)) == 0
    capsys.readouterr()
    found = json.loads((bench.out / "search_history.json").read_text(encoding="utf-8"))
    assert 1 <= found["best_trials"][0]["variation_values"]["phases.profiling.concurrency"] <= 4


def test_e19_a_folder_that_another_tool_wrote(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another tool's summary in AIPerf's format, with its own name as the version, is compared with one of ours."""
    assert main(bench.words(f"{BASE} {TOKENS} --request-count 4 --artifact-dir $D --no-report")) == 0
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    stats = {"unit": "ms", "avg": 12.5, "p50": 12.0, "p99": 20.0, "min": 9.0, "max": 21.0, "std": 1.5}
    figures = {
        "schema_version": "1.3",
        "aiperf_version": "goodput/0.1.0",
        "time_to_first_token": stats,
        "request_latency": {**stats, "avg": 40.0},
        "request_throughput": {"unit": "requests/sec", "avg": 25.0},
        "request_count": {"unit": "requests", "avg": 100.0},
        "input_config": {"models": {"items": [{"name": MODEL}]}},
        "was_cancelled": False,
        "error_summary": [],
    }
    (theirs / "profile_export_aiperf.json").write_text(json.dumps(figures), encoding="utf-8")
    capsys.readouterr()
    assert main(["compare", str(theirs), str(bench.out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (compared,) = told["comparisons"]
    ttft = next(row for row in compared["differences"] if (row["tag"], row["stat"]) == ("time_to_first_token", "avg"))
    assert ttft["a"] == 12.5
    assert ttft["b"] > 0


def test_every_line_has_a_test() -> None:
    functions = [
        *(name for name, _ in inspect.getmembers(test_usages, inspect.isfunction)),
        *(name for name in globals() if name.startswith("test_")),
    ]
    named = {m for name in functions for m in re.findall(r"(?<=_)([a-f]\d*)(?=_)", name)}
    covered = {u.name.split()[0] for u in test_usages.USAGES} | {n.upper() for n in named}
    covered |= {line for line, reader in READ_WITH.items() if any(reader in u.readers for u in test_usages.USAGES)}
    assert READERS.keys() == {reader for u in test_usages.USAGES for reader in u.readers}
    assert not set(LINES) - covered

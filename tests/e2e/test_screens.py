"""What happens to stdout and stderr: readers that go away, encodings without the characters, a full disk behind them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from tests.e2e.command import aiperf, arguments, run_dir
from tests.e2e.runs import Sim

ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
SAYS = (
    ("--help",),
    ("profile", "--help"),
    ("compare", "--help"),
    ("capacity", "--help"),
    ("explain", "inter_token_latency"),
    ("completion", "bash"),
    ("profile", "--no-such-option", "–"),
)
FILES = (
    "profile_export_aiperf.json",
    "profile_export_aiperf.csv",
    "profile_export.jsonl",
    "records.parquet",
    "run.json",
)


def piped(words: Sequence[str], tail: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`aiperf … <tail>`; the exit code is aiperf's, whatever the readers do."""
    command = " ".join([sys.executable, "-m", "aiperf", *(f"'{w}'" for w in words), tail, "; exit ${PIPESTATUS[0]}"])
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        env=os.environ | (env or {}),
        check=False,
    )


@cache
def plainly(*words: str) -> subprocess.CompletedProcess[str]:
    return aiperf(*words)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("words", SAYS, ids=" ".join)
def test_a_screen_without_the_characters_shows_others(words: tuple[str, ...], encoding: str) -> None:
    plain, other = plainly(*words), aiperf(*words, env=ENCODINGS[encoding])
    assert other.returncode == plain.returncode
    assert "Traceback" not in other.stderr
    assert "internal" not in other.stderr
    assert other.stdout.count("\n") >= 0.9 * plain.stdout.count("\n")
    assert other.stdout.isascii() or encoding == "latin-1"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_run_is_as_ever_on_such_a_screen(serve: Callable[..., Sim], encoding: str, tmp_path: Path) -> None:
    sim = serve()
    words = [w for w in arguments(sim, "--request-count", "10") if w != "--no-report"]
    done = aiperf(*words, env=ENCODINGS[encoding])
    assert done.returncode == 0, done.stderr
    assert "LLM Metrics" in done.stdout
    for name in (*FILES, "report.html"):
        assert (run_dir(sim) / name).stat().st_size > 0
    run = str(run_dir(sim))
    for again in (("report", run), ("compare", run, run), ("plot", run, "--output", str(tmp_path / "charts"))):
        shown = aiperf(*again, env=ENCODINGS[encoding])
        assert shown.returncode == 0, shown.stderr
        assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("words", [("profile", "--help"), ("compare", "--help"), ("explain",)], ids=" ".join)
@pytest.mark.parametrize("tail", ["| head -1", "2>&1 | head -c 1", "| true", "2>&1 >&- | true", ">&- 2>&-"])
def test_a_reader_that_goes_away_is_no_error(words: tuple[str, ...], tail: str) -> None:
    done = piped(words, tail)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    "tail",
    [
        "2>&1 | head -1",
        "2>&1 | grep -m1 load",
        "2>&1 | true",
        "| true",
        ">&- 2>&-",
        "2>&1 >/dev/full",
        ">/dev/full 2>&1",
    ],
)
def test_a_reader_that_goes_away_never_ends_a_run(serve: Callable[..., Sim], tail: str) -> None:
    sim = serve(ttft_ms=20)
    words = ["plain" if w == "none" else w for w in arguments(sim, "--request-count", "40", "--concurrency", "2")]
    done = piped([*words, "--stats-interval", "0.1"], tail)
    assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (run_dir(sim) / name).stat().st_size > 0
    assert json.loads((run_dir(sim) / "run.json").read_text(encoding="utf-8"))["status"] == "complete"
    assert len(sim.ledger()) == 40


def test_output_that_is_lost_is_an_error_where_it_is_all_there_is() -> None:
    done = piped(("explain", "inter_token_latency"), ">/dev/full")
    assert done.returncode == 1
    assert done.stderr == "error: cannot write to stdout: No space left on device\n"

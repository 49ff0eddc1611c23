"""`--assert` in a shell pipeline: exit codes, JUnit read by a JUnit parser, a summary for a pull request."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import junitparser
import pytest
from tests.e2e.client_process import finish, profile_process
from tests.e2e.runs import MODEL, Sim

from aiperf.errors import ExitCode

pytestmark = pytest.mark.slow
LOAD = ("--concurrency", "4", "--request-count", "40", "--isl", "20", "--osl", "8")
HOLDS = ("time_to_first_token:p95 < 2s", "error_rate < 1%", "good_request_fraction >= 50%")
MISSED = "request_latency:p50 < 1ms"


def asserted(sim: Sim, *conditions: str, more: tuple[str, ...] = ()) -> tuple[int, str]:
    asserts = [word for c in conditions for word in ("--assert", c)]
    goals = ("--goodput", "time_to_first_token:2000")
    with profile_process(sim, *LOAD, *goals, *asserts, *more) as process:
        found = finish(process, sim)
    return found.exit_code, found.stdout


def test_assertions_that_hold_exit_with_0_and_missed_ones_with_3(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=10, itl_ms=2)
    code, text = asserted(sim, *HOLDS)
    assert code == ExitCode.OK
    assert text.count("✓") == 3
    assert "✗" not in text


def test_a_missed_assertion_stops_the_pipeline(serve: Callable[..., Sim], tmp_path: Path) -> None:
    """As in CI: `set -e`, the assertion, then what must not happen."""
    sim = serve(ttft_ms=10, itl_ms=2)
    aiperf = Path(sys.executable).with_name("aiperf")
    words = " ".join(LOAD)
    script = (
        f"set -euo pipefail; {aiperf} profile --model {MODEL} --url {sim.url} --streaming --tokenizer builtin --ui none "
        f"--no-report --artifact-dir {tmp_path}/run {words} --assert '{MISSED}' | cat > {tmp_path}/out.txt; "
        "echo deployed"
    )
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == ExitCode.THRESHOLD_MISSED, ended.stderr
    assert "deployed" not in ended.stdout
    assert "✗ request_latency:p50 < 1ms" in (tmp_path / "out.txt").read_text(encoding="utf-8")


def test_junit_is_read_by_a_junit_parser(serve: Callable[..., Sim], tmp_path: Path) -> None:
    sim = serve(ttft_ms=10, itl_ms=2)
    path = tmp_path / "junit.xml"
    code, _ = asserted(sim, *HOLDS, MISSED, more=("--junit", str(path)))
    assert code == ExitCode.THRESHOLD_MISSED
    xml = junitparser.JUnitXml.fromfile(str(path))
    suite = next(iter(xml))
    assert (suite.tests, suite.failures, suite.errors) == (4, 1, 0)
    cases = list(suite)
    assert [c.name for c in cases if c.result] == [MISSED]
    assert all(isinstance(r, junitparser.Failure) for c in cases for r in c.result)
    # And by what every language has.
    root = ET.parse(path).getroot()
    assert root.tag == "testsuites"
    assert len(root.findall("./testsuite/testcase")) == 4
    assert len(root.findall("./testsuite/testcase/failure")) == 1


def test_the_markdown_summary_names_what_was_missed(serve: Callable[..., Sim], tmp_path: Path) -> None:
    sim = serve(ttft_ms=10, itl_ms=2)
    path = tmp_path / "summary.md"
    asserted(sim, HOLDS[0], MISSED, more=("--markdown", str(path)))
    text = path.read_text(encoding="utf-8")
    assert MISSED in text
    assert "1 of 2 assertions missed" in text
    assert "Measurement quality:" in text


def test_failed_requests_come_before_a_missed_goal(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5, faults=[{"kind": "status", "status": 503}])
    code, text = asserted(sim, "error_rate < 1%")
    assert code == ExitCode.REQUESTS_FAILED
    assert "✗ request_error_rate < 1%: 100.00%" in text


def test_certificate_and_condition_names_are_checked_before_the_load(serve: Callable[..., Sim]) -> None:
    sim = serve()
    code, _ = asserted(sim, "time_to_first_tokn:p99 < 5ms")
    assert code == ExitCode.USAGE
    assert sim.stats()["requests"] == 0

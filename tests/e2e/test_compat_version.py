"""`aiperf_version` is for readers that compare it with AIPerf's; ours stands beside it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.e2e.runs import Sim, summary_of

from aiperf.config.resolve import resolve
from aiperf.version import __version__


@pytest.mark.parametrize(("given", "written"), [(None, "0.13.0"), ("0.13.2", "0.13.2"), ("off", __version__)])
def test_the_version_that_readers_compare(serve: Callable[..., Sim], given: str | None, written: str) -> None:
    run = serve().run(request_count=4, aiperf_compat=given, streaming=False)
    summary = summary_of(run)
    assert summary["aiperf_version"] == written
    assert summary["written_by"] == {"tool": "aiperf", "version": __version__}
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["metadata"] for line in lines]
    assert all(row["request_start_ns"] < row["request_ack_ns"] <= row["request_end_ns"] for row in rows)


def test_the_version_from_the_environment() -> None:
    assert resolve(env={"AIPERF_COMPAT_VERSION": "0.13.0"})[0].output.aiperf_compat == "0.13.0"


def test_the_tables_of_aiperfs_screen(serve: Callable[..., Sim]) -> None:
    """Its rows in its order (a recorded run of 0.13); without the option the main table alone."""
    sim = serve(ttft_ms=3, itl_ms=1)
    screens = [
        (sim.run(request_count=6, osl=4, streaming=True, **given).dir / "profile_export_console.txt").read_text("utf-8")
        for given in ({"aiperf_compat": "0.13"}, {"artifact_dir": sim.dir / "other"})
    ]
    asked, usual = ([line.strip() for line in screen.splitlines()] for screen in screens)
    titles = [f"AIPerf | LLM Metrics{of}" for of in (": Effective", ": Active", ": Usage", "")]
    assert [line for line in asked if line.startswith("AIPerf | ")] == titles
    assert [line for line in usual if line.startswith("AIPerf | ")] == titles[-1:]
    # A narrow column breaks a label in front of its unit.
    rows = [line.split("│")[1].partition(" (")[0].strip() for line in asked if line.startswith("│")]
    for table in (
        ("Effective Concurrency", "Effective Decode Throughput", "Effective Prefill Throughput"),
        ("Active Decode Throughput", "Active Prefill Throughput"),
        ("Usage Prompt Tokens", "Usage Completion Tokens", "Usage Total Tokens"),
    ):
        named = [row for row in rows if row.startswith(table[0].split()[0])]
        assert tuple(named[: len(table)]) == table

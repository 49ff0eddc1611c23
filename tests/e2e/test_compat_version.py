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

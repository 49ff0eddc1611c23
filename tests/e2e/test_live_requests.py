"""`profile_export.jsonl` grows while the load runs: whole lines, soon, and the same file as if it were written at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.command import arguments, run_dir, started, wait_for
from tests.e2e.runs import Sim

from aiperf.run import live_requests
from aiperf.run.live_requests import LiveRequests
from aiperf.run.report import report


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[LiveRequests]:
    """Those that were made; they look often."""
    made: list[LiveRequests] = []
    begin = LiveRequests.__enter__

    def note(self: LiveRequests) -> LiveRequests:
        made.append(self)
        return begin(self)

    monkeypatch.setattr(live_requests, "INTERVAL_S", 0.02)
    monkeypatch.setattr(LiveRequests, "__enter__", note)
    return made


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_lines_come_while_the_load_runs_and_stay_whole_when_it_is_killed(serve: Callable[..., Sim]) -> None:
    """A script waits for N lines, then kills a server; and a run killed itself leaves lines that can be read."""
    sim = serve(ttft_ms=20)
    path = run_dir(sim) / "profile_export.jsonl"
    with started(arguments(sim, "--concurrency", "4", "--benchmark-duration", "60")) as process:
        wait_for(lambda: len(lines_of(path)) >= 30, "lines")
        assert process.poll() is None
        process.kill()
        process.wait()
    records = [json.loads(line) for line in lines_of(path)]
    asked = {row["request_id"] for row in sim.ledger()}
    assert len({r["metadata"]["x_request_id"] for r in records}) == len(records) >= 30
    assert {r["metadata"]["x_request_id"] for r in records} <= asked
    assert all(r["metrics"]["output_sequence_length"]["value"] == 8 for r in records if "error" not in r)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"conversation_num": 1000, "conversation_turn_mean": 3},
        {"request_cancellation_rate": 30, "request_cancellation_delay": 0.002},
        {"export_http_trace": True, "streaming": False},
    ],
    ids=["plain", "conversations", "failures", "http trace"],
)
def test_the_file_is_the_one_that_would_be_written_at_the_end(
    serve: Callable[..., Sim], looks: list[LiveRequests], flags: dict[str, object]
) -> None:
    sim = serve(ttft_ms=5)
    run = sim.run(benchmark_duration=0.8, warmup_request_count=3, **flags)
    before = run.files.jsonl.read_bytes()
    assert [look.problem for look in looks] == [None]
    assert 0 < looks[0].rows <= run.columns.num_rows
    assert before.count(b"\n") == run.columns.num_rows
    run.files.jsonl.unlink()
    report(run.dir)
    assert run.files.jsonl.read_bytes() == before


def test_what_cannot_go_on_is_written_at_the_end(
    serve: Callable[..., Sim], looks: list[LiveRequests], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else wrote into the file meanwhile: it is made anew."""
    sim = serve(ttft_ms=5)

    def also(self: LiveRequests, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with self.path.open("a", encoding="utf-8") as file:
            file.write("not ours\n")

    monkeypatch.setattr(LiveRequests, "__exit__", also)
    run = sim.run(benchmark_duration=0.8)
    assert looks[0].rows > 0
    records = [json.loads(line) for line in lines_of(run.files.jsonl)]
    assert len(records) == run.columns.num_rows


def test_no_lines_before_the_end_cost_the_server_token_counts(
    serve: Callable[..., Sim], looks: list[LiveRequests]
) -> None:
    """`--tokenizer server` asks the measured server: not while it is measured."""
    sim = serve(ttft_ms=5)
    run = sim.run(benchmark_duration=0.8, tokenizer="server", num_dataset_entries=5)
    assert looks[0].rows == 0
    assert len(lines_of(run.files.jsonl)) == run.columns.num_rows

"""Recorded agents from several generators: together they send what one sends, byte for byte, and the results are those of one run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.runs import Sim, simulate, summary_of
from tests.e2e.scale.many import in_process
from tests.unit.traces.weka_sessions import FORK, SUBAGENTS, SYSTEM, write_sessions

from aiperf import write
from aiperf.run import profile as profile_module
from aiperf.run.merge import merge
from aiperf.run.run import Run

pytestmark = pytest.mark.slow

SESSIONS = [{**s, "id": f"{s['id']}-{n}"} for n in range(3) for s in (SYSTEM, SUBAGENTS, FORK)]


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    with simulate(tmp_path_factory.mktemp("sim")) as server:
        yield server


def flags(sim: Sim, **more: object) -> dict[str, object]:
    return {
        "input_file": write_sessions(sim.dir / "traces.jsonl", [dict(s) for s in SESSIONS]),
        "isl": None,
        "osl": None,
        "request_count": None,
        "concurrency": 5,
        "cache_bust": "first_turn_prefix",
        "num_sessions": 12,
        "system_idle_gap_cap_seconds": 0.02,
        "trace_idle_gap_cap_seconds": 0.02,
        **more,
    }


def bodies(sim: Sim, before: int) -> list[tuple[str, int]]:
    return sorted((str(r["body_hash"]), int(r["max_tokens"])) for r in sim.ledger()[before:])


@pytest.mark.parametrize("start", [{}, {"trajectory_start_min_ratio": 0.2, "trajectory_start_max_ratio": 0.8}])
def test_three_generators_send_the_bytes_of_one(sim: Sim, start: dict[str, object], tmp_path: Path) -> None:
    """Marks included: sessions are recycled, and which lane is free first must not show in them. Warm-up too."""
    asked = flags(sim, benchmark_id="b", artifact_dir=tmp_path / "one", **start)
    before = len(sim.ledger())
    one = sim.run(**asked)
    whole = bodies(sim, before)
    before = len(sim.ledger())
    cluster, _ = in_process(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_module, "ready", lambda *_: cluster)
        three = sim.run(**{**asked, "artifact_dir": tmp_path / "three", "generators": 3})
    assert bodies(sim, before) == whole
    assert stats(three)["plays_completed"] == stats(one)["plays_completed"] == 12
    hit = summary_of(one)["theoretical_prefix_cache_hit"]
    assert summary_of(three)["theoretical_prefix_cache_hit"] == hit
    ids = [set(run.columns.strings("correlation_id")) for run in (one, three)]
    assert len(ids[0]) == len(ids[1])


def test_two_runs_of_one_id_at_once_have_records_of_their_own(
    sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the jobs of a pipeline's matrix that share a node and, by mistake or on purpose, an id."""
    monkeypatch.setattr(profile_module, "ready", lambda *_: in_process(3)[0])

    def shared(name: str) -> Run:
        return sim.run(**flags(sim, benchmark_id="b", artifact_dir=tmp_path / name, generators=3))

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(shared, ("first", "second")))
    results = [summary_of(run) for run in runs]
    assert [r["request_count"]["avg"] for r in results] == [56, 56]
    assert results[0]["theoretical_prefix_cache_hit"] == results[1]["theoretical_prefix_cache_hit"]
    ids = [set(run.columns.strings("request_id")) for run in runs]
    assert not ids[0] & ids[1]


def stats(run: Run) -> dict[str, Any]:
    assert run.outcome is not None
    found: dict[str, Any] = (run.outcome.phases[-1].model_extra or {})["lanes"]
    return found


def test_parts_have_one_benchmark_id_and_are_merged_to_one_replay(sim: Sim, tmp_path: Path) -> None:
    """The id is drawn from the start, so that two parts' marks are of one run; the merged result has the recordings' hit rate."""
    start = f"{time.time() + 3:.3f}"
    asked = flags(sim, start_at=start)

    def part(index: int) -> Run:
        return sim.run(**{**asked, "part": f"{index + 1}/2", "artifact_dir": tmp_path / f"part{index}"})

    before = len(sim.ledger())
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(part, range(2)))
    found = bodies(sim, before)
    assert len({b for b, _ in found}) == len(found)
    merged = write(merge([r.dir for r in parts], tmp_path / "merged"))
    summary = summary_of(merged)
    assert summary["request_count"]["avg"] == len(found)
    hit = summary["theoretical_prefix_cache_hit"]
    each = [summary_of(r)["theoretical_prefix_cache_hit"] for r in parts]
    assert (hit["sum"], hit["count"]) == (sum(h["sum"] for h in each), sum(h["count"] for h in each))
    assert stats(merged)["plays_completed"] == 12

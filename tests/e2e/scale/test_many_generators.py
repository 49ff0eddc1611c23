"""Many generators: the barrier, the stream of records and the merge, with tiny loads in one process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.e2e.runs import Sim, simulate
from tests.e2e.scale.many import InProcess, in_process

from aiperf import Run
from aiperf.run import profile as profile_module

pytestmark = pytest.mark.slow

COUNT = 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sim, Run, InProcess]]:
    cluster, behind = in_process(COUNT)
    with simulate(tmp_path_factory.mktemp("sim"), ttft_ms=2) as sim, pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_module, "ready", lambda *_: cluster)
        run = sim.run(
            generators=COUNT,
            request_rate=400,
            concurrency=None,
            request_count=4 * COUNT,
            warmup_request_count=COUNT,
            workers=1,
        )
        yield sim, run, behind


def test_all_of_it_is_there_once(made: tuple[Sim, Run, InProcess]) -> None:
    sim, run, _ = made
    assert run.summary().counts.ok == 4 * COUNT
    rows = sim.ledger()
    assert len({r["request_id"] for r in rows}) == len(rows) == 5 * COUNT
    assert set(run.columns.strings("request_id")) == {r["request_id"] for r in rows}
    assert [g.index for g in run.json.generators] == list(range(COUNT))
    assert {g.sent for g in run.json.generators} == {4}


def test_no_generator_begins_the_measured_phase_before_all_have_warmed_up(made: tuple[Sim, Run, InProcess]) -> None:
    _, run, _ = made
    phase = run.columns.scalar("phase")
    assert np.min(run.columns.scalar("started")[phase == 1]) > np.max(run.columns.scalar("end")[phase == 0])
    skews = [g.start_skew_ns for g in run.json.generators]
    bounds = [g.clock_bound_ns for g in run.json.generators]
    assert all(s is not None for s in skews)
    assert all(b is not None for b in bounds)


def test_a_generator_costs_few_messages(made: tuple[Sim, Run, InProcess]) -> None:
    """Per generator: a preparation, 24 questions for the time, a start per phase, and five answers a second."""
    _, run, behind = made
    assert run.outcome is not None
    seconds = run.outcome.end_ns / 1e9
    assert behind.ray.calls / COUNT < 40 + 6 * seconds


def test_folders_of_generators_are_gone(made: tuple[Sim, Run, InProcess]) -> None:
    _, run, behind = made
    behind.ray.pool.shutdown(wait=True)
    assert all(g._dir is None for g in behind.generators)
    assert not (run.dir / "parts").exists()

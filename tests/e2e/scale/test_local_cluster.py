"""`--generators` on a Ray cluster of this machine: the run of one generator, from several processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.e2e.command import arguments, started, wait_for
from tests.e2e.runs import Sim, simulate
from tests.e2e.scale.clusters import generator_pids, ray_head

from aiperf import Run
from aiperf.cli import main
from aiperf.run.report import report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.xdist_group("ray"),
]

OPTIONS: dict[str, object] = {"generators": 2, "generators_per_node": 2, "generator_cpus": 0.1, "report": False}
FLAGS = ("--generators", "2", "--generators-per-node", "2", "--generator-cpus", "0.1")


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    with simulate(tmp_path_factory.mktemp("sim"), ttft_ms=5) as server:
        yield server


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one node, as `ray start` makes it; connections of this process are closed before it is stopped."""
    from aiperf.distributed.cluster import _known

    with pytest.MonkeyPatch.context() as patch, ray_head() as found:
        # Ray would make a token and keep it in the home of the user, which each test has for itself.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield found
        for cluster in _known().values():
            cluster.close()
        _known().clear()


def test_generators_send_the_run_of_one(sim: Sim, address: str) -> None:
    """With a warm-up: the measured phase begins together, when both have finished it."""
    flags: dict[str, object] = {
        "request_rate": 100,
        "concurrency": None,
        "request_count": 60,
        "warmup_request_count": 5,
    }
    before = len(sim.ledger())
    cores = sorted(os.sched_getaffinity(0))[:2]
    run = sim.run(artifact_dir=sim.dir / "two", **flags, **OPTIONS, cluster=address, cpus=cores)
    rows = sim.ledger()[before:]
    whole = sim.run(artifact_dir=sim.dir / "one", **flags)
    assert run.exit_code == 0
    assert len(rows) == 65
    assert {r["body_hash"] for r in rows} == {r["body_hash"] for r in sim.ledger()[before + 65 :]}
    assert run.summary().counts.ok == whole.summary().counts.ok == 60
    generator, phase = run.columns.scalar("generator"), run.columns.scalar("phase")
    assert np.bincount(generator[phase == 1].astype(int)).tolist() == [30, 30]
    if os.geteuid() == 0:  # another user's generators may not, and are named
        levels = {os.getpriority(os.PRIO_PROCESS, pid) for pid in generator_pids()}
        assert levels == {os.getpriority(os.PRIO_PROCESS, 0)}, "Ray starts its workers at nice 15"
    workers = [len(g.worker_cpu_ns) for g in run.json.generators]
    assert workers == [1, 1], "cores of `--cpus` are divided, and each has one worker thread"
    due = np.sort(run.columns.scalar("scheduled")[phase == 1])
    expected = np.sort(whole.columns.scalar("scheduled")[whole.columns.scalar("phase") == 1])
    np.testing.assert_allclose(due - due[0], expected - expected[0], atol=20e6)
    warm = run.columns.scalar("end")[phase == 0]
    assert due[0] >= np.max(warm), "no measured request before the last warm-up request has ended"
    assert not (run.dir / "parts").exists()
    assert not (run.dir / "parts.json").exists()


def test_the_certificate_says_how_far_apart_they_started(sim: Sim, address: str) -> None:
    run = sim.run(artifact_dir=sim.dir / "skew", **OPTIONS, cluster=address)
    entries = run.json.generators
    assert [g.status for g in entries] == ["complete", "complete"]
    assert sum(g.sent for g in entries) == 20
    for g in entries:
        assert g.certificate is not None
        assert g.clock_bound_ns is not None
        assert g.start_skew_ns is not None
        assert g.start_skew_ns < 50e6
    certificate = run.summary().certificate
    assert certificate is not None
    assert {"generator 1", "start skew"} <= {p.name.partition(" (")[0] for p in certificate.parts}


def test_a_sweep_uses_the_cluster_that_is_up(sim: Sim, address: str) -> None:
    from tests.e2e.runs import MODEL

    from aiperf.config.resolve import config_from
    from aiperf.distributed.cluster import _known
    from aiperf.sweeps.study import sweep

    asked = {
        "model": MODEL,
        "url": sim.url,
        "endpoint_type": "chat",
        "streaming": True,
        "isl": 20,
        "osl": 4,
        "tokenizer": "builtin",
        "artifact_dir": sim.dir / "sweep",
        "probe": False,
        "no_server_metrics": True,
        "calibrate": False,
        "request_count": 6,
        "concurrency": "1,3",
        "cluster": address,
        **OPTIONS,
    }
    before = set(map(id, _known().values()))
    study = sweep(config_from(asked))
    assert study.exit_code == 0
    assert before <= set(map(id, _known().values()))


def test_a_generator_that_is_killed_is_accounted_for(sim: Sim, address: str) -> None:
    """The other one goes on; what the lost one had not sent is unsent, and the exit code says so."""
    words = arguments(
        sim,
        "--request-rate",
        "40",
        "--request-count",
        "160",
        *FLAGS,
        "--cluster",
        address,
        "--on-generator-loss",
        "continue",
        "--ui",
        "plain",
        "--stats-interval",
        "0.5",
    )
    before, others = len(sim.ledger()), generator_pids()
    with started(words) as process:
        wait_for(lambda: len(sim.ledger()) > before + 80, "requests", 60)
        os.kill(min(generator_pids() - others), signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "is lost" in err
    run = Run.open(sim.dir / "run")
    assert sorted(g.status for g in run.json.generators) == ["complete", "lost"]
    assert run.outcome is not None
    (phase,) = run.outcome.measured
    assert phase.planned == 160
    assert 80 < phase.sent < 160
    assert phase.sent + phase.unsent == 160
    assert run.columns.num_rows == phase.sent
    assert "lost" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_generators(sim: Sim, address: str, number: signal.Signals) -> None:
    """Ctrl-C, or what Kubernetes and Slurm send, which Ray would answer by leaving at once."""
    words = arguments(
        sim,
        "--request-rate",
        "40",
        "--benchmark-duration",
        "60",
        *FLAGS,
        "--cluster",
        address,
    )
    before = len(sim.ledger())
    with started(words) as process:
        wait_for(lambda: len(sim.ledger()) > before + 10, "requests", 60)
        process.send_signal(number)
        _, err = process.communicate(timeout=40)
    assert process.returncode == 130, err
    run = Run.open(sim.dir / "run")
    assert run.outcome is not None
    assert run.outcome.interrupted
    assert not run.outcome.lost_generators
    assert run.columns.num_rows >= 10


def test_a_head_that_is_killed_leaves_a_run(sim: Sim, address: str) -> None:
    """What had come in is evaluated; the generators of a cluster that lives on end by themselves."""
    words = arguments(
        sim,
        "--request-rate",
        "40",
        "--benchmark-duration",
        "60",
        *FLAGS,
        "--cluster",
        address,
    )
    before, others = len(sim.ledger()), generator_pids()
    with started(words) as process:
        wait_for(lambda: len(sim.ledger()) > before + 40, "requests", 60)
        process.kill()
        process.wait(10)
    found = report(sim.dir / "run")
    assert found.columns.num_rows >= 10
    assert set(found.columns.scalar("generator")) == {0, 1}
    wait_for(lambda: not generator_pids() - others, "the generators to end", 60)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("localhost:1", "cannot reach the Ray cluster"),
        ("ray://127.0.0.1:1", "cannot reach the Ray cluster"),
        ("somewhere", "is not the address of a Ray cluster"),
    ],
)
def test_a_cluster_that_is_not_there_is_named_at_once(
    sim: Sim, capsys: pytest.CaptureFixture[str], wrong: str, text: str
) -> None:
    begun = time.monotonic()
    code = main(arguments(sim, "--request-count", "2", "--generators", "2", "--cluster", wrong))
    assert code == 2
    assert text in capsys.readouterr().err
    assert time.monotonic() - begun < 30

"""A Ray cluster of four nodes with addresses of their own: network namespaces, two of them 5 ms and 40 ms away."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.e2e.command import arguments, wait_for
from tests.e2e.runs import Sim, simulate
from tests.e2e.scale.clusters import RAY, ray_environment, ray_head
from tests.e2e.scale.networks import GATEWAY, Node, nodes

from aiperf import Run

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.ray, pytest.mark.timeout(300)]

DELAYS_MS = (0, 0, 5, 40)


@dataclass(frozen=True)
class Place:
    sim: Sim
    nodes: list[Node]
    address: str

    def start(self, *flags: str) -> subprocess.Popen[str]:
        """The command on the first node, with a generator on each of the four."""
        words = arguments(self.sim, "--generators", "4", "--cluster", self.address, "--generator-cpus", "0.1", *flags)
        words[words.index("--url") + 1] = f"http://{GATEWAY}:{self.sim.url.rpartition(':')[2]}"
        return subprocess.Popen(
            [*self.nodes[0].inside, sys.executable, "-m", "aiperf", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ray_environment(),
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("sim")
    with simulate(directory, host="0.0.0.0", ttft_ms=20) as sim, nodes(DELAYS_MS) as made:
        first, *others = made
        with ray_head(first.inside, "--node-ip-address", first.address) as address:
            for node in others:  # one by one: each has 30 s, on a busy machine too
                words = ["start", "--address", address, "--node-ip-address", node.address, "--num-cpus", "2"]
                done = subprocess.run(
                    [*node.inside, RAY, *words, "--object-store-memory", "100000000"],
                    env=ray_environment(),
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
            yield Place(sim, made, address)


def test_four_nodes_send_the_demo_s_first_case(place: Place) -> None:
    """1,000 of 1,000 from four addresses; each clock's offset, which is 0 here, is known within the bound that is stated."""
    before = len(place.sim.ledger())
    with place.start("--concurrency", "100", "--request-count", "1000") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "1,000" in out
    rows = place.sim.ledger()[before:]
    assert Counter(r["client"] for r in rows) == {n.address: 250 for n in place.nodes}
    assert len({r["request_id"] for r in rows}) == 1000
    run = Run.open(place.sim.dir / "run")
    assert run.summary().counts.ok == 1000
    wall = run.columns.start_wall_ns
    for g in run.json.generators:
        assert g.clock_bound_ns is not None
        # All namespaces have this machine's clock: what the offset is off by shows in when its requests were sent.
        own = run.columns.scalar("generator") == g.index
        names = [str(n) for n, mine in zip(run.columns.strings("request_id"), own, strict=True) if mine]
        sent = dict(zip(names, run.columns.scalar("sent")[own] + wall, strict=True))
        delay = place.nodes[g.index].delay_ms * 1e6
        lags = sorted(r["received_ns"] - sent[r["request_id"]] - delay for r in rows if r["request_id"] in sent)
        assert -g.clock_bound_ns - 1e6 <= lags[0] <= g.clock_bound_ns + 20e6
        assert g.clock_bound_ns <= delay + 20e6


def test_a_link_that_is_down_for_five_seconds_costs_no_generator(place: Place) -> None:
    """Its requests of that time may fail, as a user's would; what it recorded waits on its disk."""
    before = len(place.sim.ledger())
    with place.start("--request-rate", "40", "--request-count", "400") as process:
        wait_for(lambda: len(place.sim.ledger()) > before + 40, "requests", 60)
        place.nodes[3].unplug()
        time.sleep(5)
        place.nodes[3].plug()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = Run.open(place.sim.dir / "run")
    counts = run.summary().counts
    assert counts.ok + counts.failed == 400
    assert counts.ok > 300
    assert [g.status for g in run.json.generators] == ["complete"] * 4


def test_a_node_that_is_cut_off_is_named_and_accounted_for(place: Place) -> None:
    before = len(place.sim.ledger())
    with place.start(
        "--request-rate", "40", "--request-count", "800", "--on-generator-loss", "stop", "--ui", "plain"
    ) as process:
        wait_for(lambda: len(place.sim.ledger()) > before + 120, "requests", 60)
        place.nodes[3].unplug()
        begun = time.monotonic()
        _, err = process.communicate(timeout=120)
    assert time.monotonic() - begun < 60
    assert process.returncode == 1, err
    assert "generator 4" in err
    assert "is lost" in err
    run = Run.open(place.sim.dir / "run")
    assert [g.status for g in run.json.generators] == ["complete"] * 3 + ["lost"]
    assert run.outcome is not None
    (phase,) = run.outcome.measured
    assert phase.planned == 800
    assert phase.sent + phase.unsent == 800
    lost = run.columns.scalar("generator") == 3
    assert lost.sum() > 10, "what had come in before is in the result"
